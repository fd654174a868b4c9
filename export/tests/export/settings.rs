//! Tiny generators in every setting, with parameters that are all at work.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use drifting_models::Generator;
use drifting_models::nn::Source;
use drifting_spec::{
    AlphaEmbedding, AlphaRange, FinalLayer, GeneratorConfig, ImageShape, Manifest, Norm, QkNorm, Rope, Stream,
    StyleTables,
};

/// A generator of two blocks for colour images of 12 rows and 8 columns.
pub(crate) fn tiny() -> GeneratorConfig {
    let image = ImageShape { channels: 3, height: 12, width: 8 };
    let config = GeneratorConfig::new(image, 2, 48, 2, 3, 7);
    GeneratorConfig { registers: 3, style_tokens: 4, style_codes: 5, ..config }
}

/// `tiny` with each setting changed, alone and together with those that it touches.
pub(crate) fn settings() -> Vec<(&'static str, GeneratorConfig)> {
    let with = |change: fn(&mut GeneratorConfig)| {
        let mut config = tiny();
        change(&mut config);
        config
    };
    vec![
        ("official", tiny()),
        ("rms without gain", with(|c| c.norm_affine = false)),
        ("layer norm", with(|c| c.norm = Norm::Layer)),
        ("layer norm without gain", with(|c| (c.norm, c.norm_affine) = (Norm::Layer, false))),
        ("l2 of queries and keys", with(|c| c.qk_norm = QkNorm::L2)),
        ("no norm of queries and keys", with(|c| c.qk_norm = QkNorm::Off)),
        ("2-D rotation", with(|c| c.rope = Rope::TwoD)),
        ("2-D rotation without registers", with(|c| (c.rope, c.registers) = (Rope::TwoD, 0))),
        ("no rotation", with(|c| c.rope = Rope::Off)),
        ("shared style table", with(|c| c.style_tables = StyleTables::Shared)),
        ("one style token", with(|c| c.style_tokens = 1)),
        ("no style", with(|c| c.style_tokens = 0)),
        ("no registers", with(|c| c.registers = 0)),
        ("one register", with(|c| c.registers = 1)),
        ("no positions", with(|c| c.positions = false)),
        ("alpha by mlp", with(|c| c.alpha_embedding = AlphaEmbedding::Mlp)),
        ("linear final layer", with(|c| c.final_layer = FinalLayer::Linear)),
        (
            "one patch, one head, one class, one block",
            with(|c| {
                c.image = ImageShape { channels: 1, height: 4, width: 4 };
                (c.patch, c.heads, c.classes, c.depth) = (4, 1, 1, 1);
            }),
        ),
        ("odd heads without rotation", with(|c| (c.hidden, c.heads, c.rope) = (60, 12, Rope::Off))),
        (
            "the seed documents' variants",
            with(|c| {
                (c.norm_affine, c.qk_norm, c.rope, c.positions) = (false, QkNorm::L2, Rope::TwoD, false);
                (c.style_tables, c.alpha_embedding) = (StyleTables::Shared, AlphaEmbedding::Mlp);
                (c.final_layer, c.mlp_hidden) = (FinalLayer::Linear, Some(100));
            }),
        ),
    ]
}

/// A generator whose parameters are all random: none is left at the zeros at which training starts.
pub(crate) fn generator(config: GeneratorConfig) -> Generator {
    let names = Generator::new(config.clone(), Source::Seed(0), &Device::Cpu).unwrap().params().tensors();
    let tensors: BTreeMap<_, _> = names.into_iter().map(|(name, tensor)| random(name, tensor.dims())).collect();
    Generator::new(config, Source::Tensors(tensors), &Device::Cpu).unwrap()
}

/// A parameter with random numbers, around 1 if it is the gain of a norm.
pub(crate) fn random(name: String, dims: &[usize]) -> (String, Tensor) {
    let values = Stream::new(1, &name, 0).normals(dims.iter().product());
    // Kernels of many inputs would else make numbers that outgrow every tolerance.
    let scale = if dims.len() == 4 { 1.0 / (fan_in(dims) as f32).sqrt() } else { 0.1 };
    let gain = dims.len() == 1 && name.ends_with("weight");
    let centre = if gain || (name.contains("norm") && name.ends_with("weight")) { 1.0 } else { 0.0 };
    let values: Vec<f32> = values.iter().map(|value| centre + scale * value).collect();
    (name, Tensor::from_vec(values, dims, &Device::Cpu).unwrap())
}

/// Inputs of an output of a kernel, `[out, in, side, side]` or `[side, side, in, out]` with more outputs than a side.
fn fan_in(dims: &[usize]) -> usize {
    dims.iter().product::<usize>() / dims[0].max(dims[3])
}

/// A manifest for `config`.
pub(crate) fn manifest(config: GeneratorConfig) -> Manifest {
    Manifest::new("tiny".into(), config, AlphaRange { min: 1.0, max: 4.0, default: 1.5 })
}

/// The name of a setting as the name of a file.
pub(crate) fn file_name(setting: &str) -> String {
    setting.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}
