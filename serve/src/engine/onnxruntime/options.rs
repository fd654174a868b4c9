//! The options of the GPU providers, by ONNX Runtime's own keys. Pure functions: what they return is tested against
//! ort's typed options without a GPU.

use std::path::Path;

use crate::engine::profile::Profile;
use crate::engine::provider::{Precision, ProviderSettings};

/// Keys and values.
pub(super) type Options = Vec<(String, String)>;

/// Options of the CUDA provider.
pub(super) fn cuda(settings: &ProviderSettings) -> Options {
    let mut options = vec![
        entry("device_id", settings.device),
        // Few fixed batch sizes: an arena that grows by doubling would take up to twice what they need.
        entry("arena_extend_strategy", "kSameAsRequested"),
        // The exhaustive search runs every algorithm of every convolution at the start, and may choose anew each time.
        entry("cudnn_conv_algo_search", "HEURISTIC"),
        entry("use_tf32", flag(settings.precision == Precision::Tf32)),
        entry("enable_cuda_graph", flag(settings.cuda_graphs)),
    ];
    options.extend(settings.memory_limit.map(|limit| entry("gpu_mem_limit", limit << 20)));
    replaced(options, settings)
}

/// Options of the TensorRT 10 provider; engines and timings are kept in `cache`.
pub(super) fn tensorrt(settings: &ProviderSettings, profile: &Profile, cache: Option<&Path>) -> Options {
    let mut options = vec![
        entry("device_id", settings.device),
        entry("trt_fp16_enable", flag(settings.precision == Precision::F16)),
        entry("trt_bf16_enable", flag(settings.precision == Precision::Bf16)),
        entry("trt_cuda_graph_enable", flag(settings.cuda_graphs)),
        entry("trt_profile_min_shapes", profile.min()),
        entry("trt_profile_opt_shapes", profile.opt()),
        entry("trt_profile_max_shapes", profile.max()),
    ];
    if settings.precision == Precision::F16 {
        // The mean of squares overflows f16.
        options.push(entry("trt_layer_norm_fp32_fallback", 1));
    }
    if let Some(cache) = cache {
        let path = cache.display();
        options.push(entry("trt_engine_cache_enable", 1));
        options.push(entry("trt_engine_cache_path", &path));
        options.push(entry("trt_timing_cache_enable", 1));
        options.push(entry("trt_timing_cache_path", &path));
    }
    options.extend(settings.memory_limit.map(|limit| entry("trt_max_workspace_size", limit << 20)));
    replaced(options, settings)
}

/// Options of the CUDA provider that takes what TensorRT leaves over.
pub(super) fn cuda_beside_tensorrt(settings: &ProviderSettings) -> Options {
    cuda(&ProviderSettings { cuda_graphs: false, memory_limit: None, options: Vec::new(), ..settings.clone() })
}

/// Options of the TensorRT-RTX plug-in; compiled kernels are kept in `cache`.
pub(super) fn tensorrt_rtx(settings: &ProviderSettings, profile: &Profile, cache: Option<&Path>) -> Options {
    let mut options = vec![
        entry("nv_profile_min_shapes", profile.min()),
        entry("nv_profile_opt_shapes", profile.opt()),
        entry("nv_profile_max_shapes", profile.max()),
    ];
    options.extend(cache.map(|path| entry("nv_runtime_cache_path", path.display())));
    options.extend(settings.memory_limit.map(|limit| entry("nv_max_workspace_size", limit << 20)));
    replaced(options, settings)
}

/// Puts the provider's name in front of each key, as options of a plug-in's device want it.
pub(super) fn prefixed(options: Options, provider: &str) -> Options {
    options.into_iter().map(|(key, value)| (format!("{provider}.{key}"), value)).collect()
}

#[allow(clippy::needless_pass_by_value, reason = "numbers and texts alike, most of them made for this call")]
fn entry(key: &str, value: impl ToString) -> (String, String) {
    (key.to_owned(), value.to_string())
}

fn flag(on: bool) -> &'static str {
    if on { "1" } else { "0" }
}

/// What the user typed takes the place of what we chose.
fn replaced(mut options: Options, settings: &ProviderSettings) -> Options {
    options.retain(|(key, _)| !settings.options.iter().any(|(typed, _)| typed == key));
    options.extend(settings.options.iter().cloned());
    options
}

#[cfg(test)]
mod tests {
    use ort::ep::{
        ArbitrarilyConfigurableExecutionProvider, ArenaExtendStrategy, CUDA, TensorRT, cuda::ConvAlgorithmSearch,
    };

    use super::*;
    use crate::engine::provider::Provider;

    fn settings(provider: Provider) -> ProviderSettings {
        ProviderSettings { provider, device: 1, memory_limit: Some(2048), ..ProviderSettings::default() }
    }

    fn profile() -> Profile {
        Profile::new(vec![("noise".to_owned(), vec![3, 32, 32]), ("class".to_owned(), vec![])], &[1, 2, 4, 8])
    }

    fn value<'a>(options: &'a Options, key: &str) -> &'a str {
        options.iter().find(|(known, _)| known == key).map_or("", |(_, value)| value)
    }

    /// The same options through ort's typed functions; two sets are equal if they print alike, in order of their keys.
    fn cuda_by_name(mut options: Options) -> String {
        options.sort();
        let with = |provider: CUDA, (key, value): &(String, String)| provider.with_arbitrary_config(key, value);
        format!("{:?}", options.iter().fold(CUDA::default(), with))
    }

    fn tensorrt_by_name(mut options: Options) -> String {
        options.sort();
        let with = |provider: TensorRT, (key, value): &(String, String)| provider.with_arbitrary_config(key, value);
        format!("{:?}", options.iter().fold(TensorRT::default(), with))
    }

    /// ort spells `true` what ONNX Runtime's documentation spells `1`; the library reads both.
    fn spelled(typed: impl std::fmt::Debug) -> String {
        format!("{typed:?}").replace("\"true\"", "\"1\"").replace("\"false\"", "\"0\"")
    }

    #[test]
    fn cuda_options_are_those_of_ort() {
        let settings = ProviderSettings { precision: Precision::Tf32, cuda_graphs: true, ..settings(Provider::Cuda) };
        let typed = CUDA::default()
            .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
            .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic)
            .with_device_id(1)
            .with_cuda_graph(true)
            .with_memory_limit(2 << 30)
            .with_tf32(true);
        assert_eq!(cuda_by_name(cuda(&settings)), spelled(typed));
        // f32 means f32: ONNX Runtime's own default is TF32.
        let plain = cuda(&ProviderSettings { provider: Provider::Cuda, ..ProviderSettings::default() });
        assert_eq!((value(&plain, "use_tf32"), value(&plain, "enable_cuda_graph")), ("0", "0"));
        assert_eq!(value(&plain, "gpu_mem_limit"), "");
    }

    #[test]
    fn tensorrt_options_are_those_of_ort() {
        let settings =
            ProviderSettings { precision: Precision::F16, cuda_graphs: true, ..settings(Provider::TensorRt) };
        let typed = TensorRT::default()
            .with_device_id(1)
            .with_bf16(false)
            .with_cuda_graph(true)
            .with_engine_cache(true)
            .with_engine_cache_path("/cache/key")
            .with_fp16(true)
            .with_layer_norm_fp32_fallback(true)
            .with_max_workspace_size(2 << 30)
            .with_profile_max_shapes("noise:8x3x32x32,class:8")
            .with_profile_min_shapes("noise:1x3x32x32,class:1")
            .with_profile_opt_shapes("noise:8x3x32x32,class:8")
            .with_timing_cache(true)
            .with_timing_cache_path("/cache/key");
        let options = tensorrt(&settings, &profile(), Some(Path::new("/cache/key")));
        assert_eq!(tensorrt_by_name(options), spelled(typed));
        let plain = tensorrt(&ProviderSettings::default(), &profile(), None);
        assert_eq!((value(&plain, "trt_fp16_enable"), value(&plain, "trt_engine_cache_enable")), ("0", ""));
        let bf16 = ProviderSettings { precision: Precision::Bf16, ..ProviderSettings::default() };
        assert_eq!(value(&tensorrt(&bf16, &profile(), None), "trt_bf16_enable"), "1");
        let beside = cuda_beside_tensorrt(&settings);
        assert_eq!((value(&beside, "enable_cuda_graph"), value(&beside, "device_id")), ("0", "1"));
    }

    /// The keys are those of the header that the plug-in's wheel brings along (tensorrt_rtx_provider_options.h, 0.5.0).
    #[test]
    fn tensorrt_rtx_options_carry_the_name_of_the_provider() {
        let options = tensorrt_rtx(&settings(Provider::TensorRtRtx), &profile(), Some(Path::new("/cache/key")));
        let expected = [
            ("nv_profile_min_shapes", "noise:1x3x32x32,class:1"),
            ("nv_profile_opt_shapes", "noise:8x3x32x32,class:8"),
            ("nv_profile_max_shapes", "noise:8x3x32x32,class:8"),
            ("nv_runtime_cache_path", "/cache/key"),
            ("nv_max_workspace_size", "2147483648"),
        ];
        assert_eq!(options, expected.map(|(key, value)| entry(key, value)));
        let named = prefixed(options, Provider::TensorRtRtx.title());
        assert_eq!(named[3].0, "NvTensorRTRTXExecutionProvider.nv_runtime_cache_path");
    }

    #[test]
    fn what_was_typed_replaces_what_we_chose() {
        let typed = vec![entry("cudnn_conv_algo_search", "EXHAUSTIVE"), entry("prefer_nhwc", "1")];
        let options = cuda(&ProviderSettings { options: typed, ..settings(Provider::Cuda) });
        assert_eq!((value(&options, "cudnn_conv_algo_search"), value(&options, "prefer_nhwc")), ("EXHAUSTIVE", "1"));
        assert_eq!(options.iter().filter(|(key, _)| key == "cudnn_conv_algo_search").count(), 1);
    }
}
