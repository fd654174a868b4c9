//! The description beside a published tree.

use drifting_spec::{GeneratorConfig, ImageShape, MaeConfig, QkNorm, Rope, from_json};
use serde::Deserialize;
use serde_json::Value;

use super::mae;

/// What we need of `metadata.json`.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) step: u64,
    pub(super) ema_decay: Option<f64>,
    pub(super) config: Config,
}

/// The architecture, by kind.
#[derive(Debug, PartialEq)]
pub(super) enum Config {
    Generator(GeneratorConfig),
    Mae(MaeConfig),
}

#[derive(Deserialize)]
struct Artefact {
    format: String,
    kind: String,
    step: u64,
    ema_decay: Option<f64>,
    model_config: Value,
}

/// The options of the official generator. How it computes (`use_bf16`, `attn_fp32`, `use_remat`) is not part of the
/// network.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelConfig {
    input_size: usize,
    in_channels: usize,
    out_channels: Option<usize>,
    patch_size: usize,
    hidden_size: usize,
    cond_dim: usize,
    depth: usize,
    num_heads: usize,
    mlp_ratio: f64,
    num_classes: usize,
    noise_classes: usize,
    noise_coords: usize,
    n_cls_tokens: usize,
    use_qknorm: bool,
    use_swiglu: bool,
    use_rope: bool,
    use_rmsnorm: bool,
    #[serde(rename = "use_bf16")]
    _use_bf16: Option<bool>,
    #[serde(rename = "attn_fp32")]
    _attn_fp32: Option<bool>,
    #[serde(rename = "use_remat")]
    _use_remat: Option<bool>,
}

impl Metadata {
    /// Reads and checks a description; errors name the key.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Artefact { format, kind, step, ema_decay, model_config } =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if format != "flax.msgpack" {
            return Err(format!("format is {format}, expected flax.msgpack"));
        }
        let config = match kind.as_str() {
            "gen" => ModelConfig::parse(&model_config).map(Config::Generator),
            "mae" => mae::config(model_config).map(Config::Mae),
            _ => return Err(format!("kind is {kind}; gen (a generator) and mae (a masked autoencoder) are known")),
        };
        let config = config.map_err(|problem| format!("model_config: {problem}"))?;
        Ok(Self { step, ema_decay, config })
    }
}

impl ModelConfig {
    fn parse(model: &Value) -> Result<GeneratorConfig, String> {
        let model: Self = from_json(&model.to_string())?;
        let config = model.config()?;
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    fn config(&self) -> Result<GeneratorConfig, String> {
        let hidden = self.hidden_size;
        if self.cond_dim != hidden {
            return Err(format!("cond_dim {} differs from hidden_size {hidden}, ours are equal", self.cond_dim));
        }
        if let Some(channels) = self.out_channels
            && channels != self.in_channels
        {
            return Err(format!(
                "out_channels {channels} differs from in_channels {}, ours are equal",
                self.in_channels
            ));
        }
        for (key, on) in [("use_swiglu", self.use_swiglu), ("use_rmsnorm", self.use_rmsnorm)] {
            if !on {
                return Err(format!("{key} is false; only networks with {key} can be imported"));
            }
        }
        let image = ImageShape { channels: self.in_channels, height: self.input_size, width: self.input_size };
        let config = GeneratorConfig::new(image, self.patch_size, hidden, self.depth, self.num_heads, self.num_classes);
        Ok(GeneratorConfig {
            style_tokens: self.noise_coords,
            style_codes: self.noise_classes,
            registers: self.n_cls_tokens,
            mlp_hidden: self.mlp_hidden()?,
            qk_norm: if self.use_qknorm { QkNorm::Rms } else { QkNorm::Off },
            rope: if self.use_rope { Rope::OneD } else { Rope::Off },
            ..config
        })
    }

    /// 32 ceil(int(2/3 ratio h) / 32), unsaid where it is the width that a ratio of 4 gives.
    fn mlp_hidden(&self) -> Result<Option<usize>, String> {
        let ratio = self.mlp_ratio;
        if !(0.0..=1024.0).contains(&ratio) {
            return Err(format!("mlp_ratio {ratio} is not between 0 and 1024"));
        }
        let inner = |ratio: f64| ((2.0 / 3.0 * (ratio * self.hidden_size as f64)) as usize).div_ceil(32) * 32;
        Ok(if ratio == 4.0 { None } else { Some(inner(ratio)) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn published() -> Value {
        json!({
            "format": "flax.msgpack", "kind": "gen", "backend": "jax", "ema_decay": 0.999, "step": 200_000,
            "model_config": {
                "cond_dim": 768, "num_classes": 1000, "noise_classes": 64, "noise_coords": 32, "input_size": 32,
                "in_channels": 4, "n_cls_tokens": 16, "patch_size": 2, "hidden_size": 768, "depth": 12,
                "num_heads": 12, "mlp_ratio": 4.0, "out_channels": 4, "use_qknorm": true, "use_swiglu": true,
                "use_rope": true, "use_rmsnorm": true, "use_bf16": true, "attn_fp32": false, "use_remat": false,
            },
        })
    }

    fn parse(metadata: &Value) -> Result<Metadata, String> {
        Metadata::parse(&serde_json::to_vec(metadata).unwrap())
    }

    fn with(key: &str, value: Value) -> Result<GeneratorConfig, String> {
        let mut metadata = published();
        metadata["model_config"][key] = value;
        match parse(&metadata)?.config {
            Config::Generator(config) => Ok(config),
            Config::Mae(_) => Err("a masked autoencoder".to_owned()),
        }
    }

    #[test]
    fn the_published_size_is_recognised() {
        let Metadata { step, ema_decay, config } = parse(&published()).unwrap();
        assert_eq!((step, ema_decay), (200_000, Some(0.999)));
        assert_eq!(Some(config), GeneratorConfig::published("latent-b2").map(Config::Generator));
        assert_eq!(with("mlp_ratio", json!(3.0)).unwrap().mlp_inner(), 1536);
        assert_eq!(with("use_rope", json!(false)).unwrap().rope, Rope::Off);
    }

    #[test]
    fn what_we_cannot_represent_is_named() {
        for (key, value) in [
            ("cond_dim", json!(512)),
            ("out_channels", json!(8)),
            ("use_swiglu", json!(false)),
            ("use_rmsnorm", json!(false)),
            ("mlp_ratio", json!(-1.0)),
            ("use_moe", json!(true)),
            ("depth", json!("twelve")),
        ] {
            let error = with(key, value).unwrap_err();
            assert!(error.starts_with("model_config: ") && error.contains(key), "{error}");
        }
        assert!(with("patch_size", json!(5)).unwrap_err().contains("generator.patch"));
        let mut other = published();
        other["kind"] = json!("vae");
        assert!(parse(&other).unwrap_err().starts_with("kind is vae; gen (a generator) and mae"));
        other["format"] = json!("torch");
        assert!(parse(&other).unwrap_err().contains("format is torch"));
    }
}
