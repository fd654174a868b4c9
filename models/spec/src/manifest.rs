//! What an exported file says about itself, so that serving it needs nothing else.

use serde::{Deserialize, Serialize};

use crate::{ConfigError, DecoderConfig, GeneratorConfig, ImageShape, Pixels};

/// The key of the manifest (JSON) in the ONNX file's `metadata_props`.
pub const MANIFEST_KEY: &str = "drifting.manifest";

/// The key of the export profile's name beside it: for which engines the graph is spelled, and in which numbers.
pub const PROFILE_KEY: &str = "drifting.profile";

/// Decimals that people need to tell two values of alpha apart.
pub const ALPHA_DECIMALS: usize = 2;

/// The layout of [`Manifest`] that this version writes and reads.
const FORMAT: u32 = 1;

/// The guidance strengths that a generator was trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlphaRange {
    /// Smallest.
    pub min: f32,
    /// Largest.
    pub max: f32,
    /// Used when a request names none.
    pub default: f32,
}

impl AlphaRange {
    /// Whether `alpha` is a number within the range.
    #[must_use]
    pub fn contains(&self, alpha: f32) -> bool {
        (self.min..=self.max).contains(&alpha)
    }
}

/// Where the weights come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Optimizer steps behind the weights.
    pub step: u64,
    /// Decay of the exponential moving average, if the weights are one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema_decay: Option<f64>,
    /// SHA-256 of the weights file.
    pub weights_sha256: String,
    /// Version of the tool that wrote the file.
    pub tool_version: String,
}

/// The decoder behind the generator in a latent model's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoder {
    /// Architecture.
    pub config: DecoderConfig,
    /// SHA-256 of the decoder's weights file.
    pub weights_sha256: String,
}

/// The description of an exported generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this layout.
    pub format: u32,
    /// Name of the model, for people.
    pub name: String,
    /// Architecture, and with it the shapes of all inputs.
    pub generator: GeneratorConfig,
    /// The decoder behind it, if its latents become images in the same file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<Decoder>,
    /// Names of the classes, as many as the generator has.
    pub classes: Vec<String>,
    /// Trained range of alpha.
    pub alpha: AlphaRange,
    /// Values of the last layer that mean black and white.
    pub value_range: [f32; 2],
    /// What the output is made of.
    #[serde(default, skip_serializing_if = "Pixels::is_float")]
    pub pixels: Pixels,
    /// Origin of the weights.
    pub provenance: Provenance,
}

/// A manifest that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or not this layout.
    #[error("{MANIFEST_KEY}: {0}")]
    Json(#[from] serde_json::Error),
    /// JSON that is no manifest.
    #[error("{MANIFEST_KEY}: {0}")]
    Layout(String),
    /// Written by another version.
    #[error("{MANIFEST_KEY}: layout {0} is not known to this version, which reads {FORMAT}; export the model again")]
    Format(u32),
    /// The generator's settings contradict each other.
    #[error("{MANIFEST_KEY}: {0}")]
    Generator(#[from] ConfigError),
    /// Another part contradicts itself.
    #[error("{MANIFEST_KEY}: {0}")]
    Invalid(String),
}

impl Manifest {
    /// A manifest in the current layout with numbered classes 0.. named by their number.
    #[must_use]
    pub fn new(name: String, generator: GeneratorConfig, alpha: AlphaRange) -> Self {
        let classes = (0..generator.classes).map(|class| class.to_string()).collect();
        let provenance = Provenance::default();
        Self {
            format: FORMAT,
            name,
            generator,
            decoder: None,
            classes,
            alpha,
            value_range: [-1.0, 1.0],
            pixels: Pixels::Float,
            provenance,
        }
    }

    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// Text that is no manifest, one of another layout, and one whose parts contradict each other.
    pub fn parse(json: &str) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Header {
            format: u32,
        }
        let Header { format } = serde_json::from_str(json)?;
        if format != FORMAT {
            return Err(ManifestError::Format(format));
        }
        let manifest: Self = from_json(json).map_err(ManifestError::Layout)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The manifest as JSON.
    ///
    /// # Errors
    /// Only numbers that JSON cannot hold.
    pub fn to_json(&self) -> Result<String, ManifestError> {
        Ok(serde_json::to_string(self)?)
    }

    /// Checks that the parts agree.
    ///
    /// # Errors
    /// Names the part that does not.
    pub fn validate(&self) -> Result<(), ManifestError> {
        self.generator.validate()?;
        self.image()?;
        let (named, classes) = (self.classes.len(), self.generator.classes);
        if named != classes {
            return Err(ManifestError::Invalid(format!("{named} class names for {classes} classes")));
        }
        let AlphaRange { min, max, default } = self.alpha;
        if !(min.is_finite() && max.is_finite() && min <= default && default <= max) {
            return Err(ManifestError::Invalid(format!("alpha range {min}..{max} with default {default}")));
        }
        let [black, white] = self.value_range;
        if !(black.is_finite() && white.is_finite() && black < white) {
            return Err(ManifestError::Invalid(format!("value range {black}..{white}")));
        }
        Ok(())
    }

    /// The shape of the output: of the decoder's images, or of what the generator makes.
    ///
    /// # Errors
    /// A decoder that does not read the generator's latents.
    pub fn image(&self) -> Result<ImageShape, ConfigError> {
        let latent = self.generator.image;
        self.decoder.as_ref().map_or(Ok(latent), |decoder| decoder.config.image_shape(latent))
    }

    /// Output values that mean black and white.
    #[must_use]
    pub fn output_range(&self) -> [f32; 2] {
        match self.pixels {
            Pixels::Float => self.value_range,
            Pixels::Uint8 => Pixels::LEVELS,
        }
    }

    /// The class that `text` names: a number, or a name in any case.
    #[must_use]
    pub fn class(&self, text: &str) -> Option<usize> {
        let number = text.parse().ok().filter(|&class: &usize| class < self.generator.classes);
        let named = || self.classes.iter().position(|name| name.eq_ignore_ascii_case(text.trim()));
        number.or_else(named)
    }
}

/// Reads JSON; an error names the setting at fault: `generator.depth: invalid value ...`.
///
/// # Errors
/// Text that is no such JSON.
pub fn from_json<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, String> {
    let deserializer = &mut serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(deserializer).map_err(|error| match error.path().to_string() {
        path if path == "." => error.inner().to_string(),
        path => format!("{path}: {}", error.inner()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ImageShape;

    fn manifest() -> Manifest {
        let generator = GeneratorConfig::new(ImageShape { channels: 1, height: 4, width: 4 }, 2, 8, 1, 1, 2);
        let alpha = AlphaRange { min: 1.0, max: 4.0, default: 1.5 };
        Manifest { classes: vec!["Boot".into(), "Bag".into()], ..Manifest::new("test".into(), generator, alpha) }
    }

    #[test]
    fn json_brings_it_back() {
        let manifest = manifest();
        assert_eq!(Manifest::parse(&manifest.to_json().unwrap()).unwrap(), manifest);
    }

    #[test]
    fn the_output_is_the_decoders() {
        let mut latent = manifest();
        latent.generator.image.channels = 32;
        let json = latent.to_json().unwrap();
        assert!(!json.contains("decoder") && !json.contains("pixels"), "older files stay as they are: {json}");
        assert_eq!(latent.image().unwrap(), latent.generator.image);
        latent.decoder = Some(Decoder { config: DecoderConfig::Taef2, weights_sha256: String::new() });
        latent.pixels = Pixels::Uint8;
        assert_eq!(latent.image().unwrap(), ImageShape { channels: 3, height: 32, width: 32 });
        assert_eq!((latent.output_range(), manifest().output_range()), ([0.0, 255.0], [-1.0, 1.0]));
        assert_eq!(Manifest::parse(&latent.to_json().unwrap()).unwrap(), latent);
        latent.generator.image.channels = 4;
        let error = Manifest::parse(&latent.to_json().unwrap()).unwrap_err().to_string();
        assert!(error.contains("latents of 4 channels, the decoder reads 32"), "{error}");
    }

    #[test]
    fn another_layout_and_contradictions_are_refused() {
        let newer = Manifest { format: 9, ..manifest() }.to_json().unwrap();
        assert!(matches!(Manifest::parse(&newer), Err(ManifestError::Format(9))));
        let mut nameless = manifest();
        nameless.classes.pop();
        assert!(Manifest::parse(&nameless.to_json().unwrap()).unwrap_err().to_string().contains("1 class names"));
        let mut empty = manifest();
        empty.alpha.default = 9.0;
        assert!(Manifest::parse(&empty.to_json().unwrap()).is_err());
        assert!(Manifest::parse("{").is_err());
        let negative = manifest().to_json().unwrap().replace("\"depth\":1", "\"depth\":-1");
        let error = Manifest::parse(&negative).unwrap_err().to_string();
        assert!(error.starts_with("drifting.manifest: generator.depth: invalid value: integer `-1`"), "{error}");
    }

    #[test]
    fn classes_go_by_number_and_by_name() {
        let manifest = manifest();
        assert_eq!(manifest.class("1"), Some(1));
        assert_eq!(manifest.class("boot"), Some(0));
        assert_eq!((manifest.class("2"), manifest.class("shoe")), (None, None));
    }
}
