//! A model's settings in a Triton repository: `config.pbtxt`, a `ModelConfig` message of Triton's model_config.proto.

use std::num::NonZeroUsize;

use drifting_spec::{MANIFEST_KEY, Manifest, names};

use super::interface::{Port, inputs, output};
use super::text::Message;
use super::{Accelerator, Deployment};
use crate::{Profile, Result};

/// Where TensorRT keeps what it built. ONNX Runtime makes the folder, but not one that it would lie in.
const CACHE: &str = "/var/cache/drifting";

/// The settings of a model with this SHA-256.
///
/// # Errors
/// A manifest that contradicts itself or cannot be written as JSON.
pub(super) fn config(deployment: &Deployment, manifest: &Manifest, sha256: &str) -> Result<String> {
    let settings = &deployment.settings;
    let mut config = Message::default();
    config.comment(&format!("Written by drifting {} for the model {sha256}.", env!("CARGO_PKG_VERSION")));
    config.string("name", &deployment.name);
    config.string("backend", "onnxruntime");
    config.string("default_model_filename", super::MODEL_FILE);
    // A graph for one batch size is no batching model to Triton: the batch is a dimension like any other.
    let fixed = settings.graph.batch.map(NonZeroUsize::get);
    config.plain("max_batch_size", if fixed.is_some() { 0 } else { deployment.largest_batch() });
    let ports = inputs(manifest);
    for port in &ports {
        config.message("input", |input| describe(input, port, fixed));
    }
    let image = output(manifest)?;
    config.message("output", |message| describe(message, &image, fixed));
    config.message("version_policy", |policy| policy.message("latest", |latest| latest.plain("num_versions", 1)));
    config.message("instance_group", |group| {
        group.plain("count", settings.instances);
        group.plain("kind", if settings.accelerator == Accelerator::Cpu { "KIND_CPU" } else { "KIND_GPU" });
    });
    if fixed.is_none() {
        config.comment("Without a delay: the next batch forms while this one is computed.");
        config.message("dynamic_batching", |batching| batching.numbers("preferred_batch_size", &settings.batches));
    }
    if settings.accelerator == Accelerator::TensorRt {
        tensorrt(&mut config, deployment, &ports, sha256);
    }
    warm_up(&mut config, deployment, &ports, fixed);
    config.comment("Class names, range of alpha, range of values, origin: what a client needs to know.");
    let manifest = manifest.to_json()?;
    for (key, value) in [(MANIFEST_KEY, manifest.as_str()), ("drifting.sha256", sha256)] {
        config.message("parameters", |entry| {
            entry.string("key", key);
            entry.message("value", |value_| value_.string("string_value", value));
        });
    }
    Ok(config.finish())
}

/// A tensor's name, type and shape. Triton knows no tensor without dimensions behind the batch, so one number an image is
/// a list of one for its clients; unless the batch is `fixed` and so a dimension itself.
fn describe(message: &mut Message, port: &Port, fixed: Option<usize>) {
    message.string("name", port.name);
    message.plain("data_type", port.kind);
    message.numbers("dims", &dims(port, fixed));
    if dims(port, fixed).len() != port.dims.len() && fixed.is_none() {
        message.message("reshape", |reshape| reshape.numbers("shape", &[]));
    }
}

/// The dimensions that clients send.
fn dims(port: &Port, fixed: Option<usize>) -> Vec<usize> {
    match fixed {
        Some(_) => fixed.iter().chain(&port.dims).copied().collect(),
        None if port.dims.is_empty() => vec![1],
        None => port.dims.clone(),
    }
}

/// TensorRT for all batches from one to the largest, with its engines and timings kept.
fn tensorrt(config: &mut Message, deployment: &Deployment, ports: &[Port], sha256: &str) {
    let shapes = |batch: usize| ports.iter().map(|port| port.shape(batch)).collect::<Vec<_>>().join(",");
    let largest = deployment.largest_batch();
    let least = deployment.settings.graph.batch.map_or(1, NonZeroUsize::get);
    // The switch of TensorRT 10; newer ones take the precision from the graph alone.
    let precision = match deployment.settings.graph.profile {
        Profile::Fp16 => "FP16",
        Profile::Bf16 => "BF16",
        Profile::Portable | Profile::Ort | Profile::Int8 => "FP32",
    };
    let prefix = format!("{}-{}", deployment.name, sha256.get(..12).unwrap_or(sha256));
    let options = [
        ("precision_mode", precision),
        ("trt_profile_min_shapes", &shapes(least)),
        ("trt_profile_opt_shapes", &shapes(largest)),
        ("trt_profile_max_shapes", &shapes(largest)),
        ("trt_engine_cache_enable", "1"),
        ("trt_engine_cache_path", CACHE),
        ("trt_engine_cache_prefix", &prefix),
        ("trt_timing_cache_enable", "1"),
        ("trt_timing_cache_path", CACHE),
    ];
    config.message("optimization", |optimization| {
        optimization.message("execution_accelerators", |accelerators| {
            accelerators.message("gpu_execution_accelerator", |accelerator| {
                accelerator.string("name", "tensorrt");
                for (key, value) in options {
                    accelerator.entry("parameters", key, value);
                }
            });
        });
    });
}

/// A run of every batch size before the server says that it is ready, so that no client waits for an engine to be built.
fn warm_up(config: &mut Message, deployment: &Deployment, ports: &[Port], fixed: Option<usize>) {
    for &batch in &deployment.settings.batches {
        config.message("model_warmup", |sample| {
            sample.string("name", &format!("batch of {batch}"));
            sample.plain("batch_size", if fixed.is_some() { 1 } else { batch });
            for port in ports {
                sample.message("inputs", |entry| {
                    entry.string("key", port.name);
                    entry.message("value", |value| {
                        value.plain("data_type", port.kind);
                        value.numbers("dims", &dims(port, fixed));
                        let random = port.name == names::NOISE;
                        value.plain(if random { "random_data" } else { "zero_data" }, true);
                    });
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{manifest, plan};
    use super::super::{DeploymentSettings, Target};
    use super::*;
    use crate::ExportSettings;

    fn text(accelerator: Accelerator) -> String {
        let settings = DeploymentSettings { accelerator, batches: vec![1, 4], ..Default::default() };
        let deployment = plan(Target::Triton, settings).unwrap();
        config(&deployment, &manifest(), "0123456789abcdef").unwrap()
    }

    #[test]
    fn the_manifest_is_in_every_part() {
        let text = text(Accelerator::TensorRt);
        for part in [
            "name: \"latent-b-2\"\n",
            "max_batch_size: 4\n",
            "  name: \"noise\"\n  data_type: TYPE_FP32\n  dims: [4, 32, 16]\n",
            "  name: \"style\"\n  data_type: TYPE_INT64\n  dims: [3]\n",
            "  name: \"class\"\n  data_type: TYPE_INT64\n  dims: [1]\n  reshape {\n    shape: []\n",
            "preferred_batch_size: [1, 4]",
            "value: \"noise:1x4x32x16,style:1x3,class:1,alpha:1\"",
            "value: \"noise:4x4x32x16,style:4x3,class:4,alpha:4\"",
            "value: \"latent-b-2-0123456789ab\"",
            "kind: KIND_GPU",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_fixed_batch_is_a_dimension() {
        let graph = ExportSettings { batch: NonZeroUsize::new(4), profile: Profile::Fp16, ..Default::default() };
        let deployment = plan(Target::Triton, DeploymentSettings { graph, ..Default::default() }).unwrap();
        let text = config(&deployment, &manifest(), "").unwrap();
        for part in [
            "max_batch_size: 0\n",
            "  name: \"noise\"\n  data_type: TYPE_FP32\n  dims: [4, 4, 32, 16]\n",
            "  name: \"class\"\n  data_type: TYPE_INT64\n  dims: [4]\n}",
            "value: \"FP16\"",
            "key: \"trt_profile_min_shapes\" value: \"noise:4x4x32x16,style:4x3,class:4,alpha:4\"",
            "  batch_size: 1\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("dynamic_batching") && !text.contains("reshape"), "{text}");
    }

    #[test]
    fn a_processor_has_no_accelerator() {
        let text = text(Accelerator::Cpu);
        assert!(text.contains("KIND_CPU") && !text.contains("tensorrt"), "{text}");
        assert!(!self::text(Accelerator::Cuda).contains("tensorrt"));
    }
}
