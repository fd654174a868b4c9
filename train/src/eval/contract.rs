//! What two figures must have in common before they may be compared.

use drifting_spec::{ImageShape, pixels};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Network;

/// How the numbers of an image become the whole numbers of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// They are whole: the images come from files.
    Stored,
    /// Not at all: they are cut to the range and stay what they are.
    Unrounded,
    /// Cut to the range, then to the nearest, upwards from the middle between two.
    Nearest,
    /// Cut to the range, then downwards, as the drifting paper's evaluation does (method section 13).
    Truncated,
}

impl Rounding {
    /// The whole number from 0 to 255 of a value, where `range` names black and white. What is no number becomes 0.
    #[must_use]
    pub fn level(self, range: [f32; 2], value: f32) -> u8 {
        let [black, white] = range;
        match self {
            Self::Truncated => (((value - black) / (white - black)).clamp(0.0, 1.0) * 255.0) as u8,
            Self::Nearest | Self::Stored | Self::Unrounded => pixels::level(range, value) as u8,
        }
    }
}

/// From an image to its features, step by step. Figures and statistics with different contracts are not comparable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// Name of the network.
    pub network: String,
    /// SHA-256 of its weights.
    pub network_sha256: String,
    /// Length of its features.
    pub features: usize,
    /// What happens to an image before the network sees it.
    pub preparation: String,
    /// Channels of an image.
    pub channels: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// The numbers of an image.
    pub range: String,
    /// How generated images came to have such numbers.
    pub rounding: Rounding,
}

/// The range of [`Contract::range`].
const RANGE: &str = "whole numbers from 0 to 255";

impl Contract {
    /// Of images of this shape and a network.
    #[must_use]
    pub fn new(network: &dyn Network, shape: ImageShape, rounding: Rounding) -> Self {
        Self {
            network: network.name().to_owned(),
            network_sha256: network.sha256().to_owned(),
            features: network.features(),
            preparation: network.preparation(),
            channels: shape.channels,
            height: shape.height,
            width: shape.width,
            range: RANGE.to_owned(),
            rounding,
        }
    }

    /// Where another contract is different: each field with its value here and there.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let fields = |contract: &Self| match serde_json::to_value(contract) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let (ours, theirs) = (fields(self), fields(other));
        let either_stored = [self, other].iter().any(|contract| contract.rounding == Rounding::Stored);
        ours.iter()
            .filter(|(name, value)| theirs.get(*name) != Some(value))
            // What was whole from the beginning goes with either.
            .filter(|(name, _)| !(either_stored && *name == "rounding"))
            .map(|(name, value)| format!("{name}: {value}, but {}", theirs.get(name).unwrap_or(&Value::Null)))
            .collect()
    }
}

/// Where generated images come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The run folder, file or folder of images.
    pub source: String,
    /// What it is: `run`, `weights`, `onnx` or `images`.
    pub source_kind: String,
    /// SHA-256 of the generator's weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_sha256: Option<String>,
    /// Training steps of the generator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Decay of the moving average that was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_decay: Option<f64>,
    /// Guidance strength.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f32>,
    /// Seed of noise and style.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// SHA-256 of the generated images' pixels, one image after another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_sha256: Option<String>,
    /// The real images, or the file of their statistics.
    pub real: String,
    /// SHA-256 of the real images, or of what the statistics say they are from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real_sha256: Option<String>,
    /// Version and commit of the program.
    pub program: String,
}

#[cfg(test)]
pub(super) mod tests {
    use candle_core::{DType, Tensor};

    use super::*;
    use crate::eval::{Pixels, Result, Sight};

    /// Its features are the pixels in [0, 1], its logits the first of them.
    #[derive(Debug)]
    pub(in crate::eval) struct Plain {
        pub(in crate::eval) features: usize,
        pub(in crate::eval) classes: usize,
    }

    impl Network for Plain {
        fn name(&self) -> &str {
            "plain"
        }

        fn sha256(&self) -> &str {
            "00ff"
        }

        fn features(&self) -> usize {
            self.features
        }

        fn classes(&self) -> usize {
            self.classes
        }

        fn preparation(&self) -> String {
            "pixels / 255".to_owned()
        }

        fn distance_name(&self) -> String {
            "fd-plain".to_owned()
        }

        fn look(&self, images: &Pixels) -> Result<Sight> {
            let features = (images.images.flatten_from(1)?.to_dtype(DType::F32)? / 255.0)?;
            let logits: Tensor = (features.narrow(1, 0, self.classes)? * 10.0)?;
            Ok(Sight { features, logits })
        }
    }

    pub(in crate::eval) const SHAPE: ImageShape = ImageShape { channels: 1, height: 2, width: 3 };

    pub(in crate::eval) fn contract() -> Contract {
        Contract::new(&Plain { features: 6, classes: 2 }, SHAPE, Rounding::Nearest)
    }

    #[test]
    fn numbers_become_levels_as_they_are_told_to() {
        let level = |rounding: Rounding, value| rounding.level([-1.0, 1.0], value);
        for (value, nearest, truncated) in
            [(-1.5, 0, 0), (-1.0, 0, 0), (0.0, 128, 127), (0.999, 255, 254), (7.0, 255, 255)]
        {
            assert_eq!(level(Rounding::Nearest, value), nearest, "{value}");
            assert_eq!(level(Rounding::Truncated, value), truncated, "{value}");
        }
        assert_eq!(level(Rounding::Truncated, f32::NAN), 0);
        assert_eq!(Rounding::Truncated.level([0.0, 1.0], 0.5), 127);
    }

    #[test]
    fn differences_are_told_with_both_values() {
        let ours = contract();
        assert!(ours.differences(&ours).is_empty());
        let other = Contract { network_sha256: "11".into(), height: 4, rounding: Rounding::Truncated, ..ours.clone() };
        let found = ours.differences(&other);
        assert_eq!(
            found,
            ["height: 2, but 4", "network_sha256: \"00ff\", but \"11\"", "rounding: \"nearest\", but \"truncated\"",]
        );
        let files = Contract { rounding: Rounding::Stored, ..ours.clone() };
        assert!(files.differences(&ours).is_empty() && ours.differences(&files).is_empty());
    }
}
