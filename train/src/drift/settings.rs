//! The switches of the objective.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use drifting_models::ops::matmul::Precision;

use super::DriftError;

/// How similar two features at distance d are, at temperature tau.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    /// exp(-d / tau) (paper eq. 12).
    #[default]
    Exponential,
    /// exp(-d^2 / (2 tau^2)).
    Gaussian,
}

/// How affinities to positives and to negatives become one force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Coupling {
    /// Each side weighted by the mass of the other (paper Algorithm 2): a+ a- (mean of positives - mean of negatives).
    #[default]
    Joint,
    /// Each side divided by its own mass: mean of positives - mean of negatives (paper eq. 8).
    Separate,
    /// As `separate`, the kernel normalised within the positives and within the negatives (arXiv 2603.12366).
    Split,
    /// Gradient of the kernel, nothing normalised: the MMD field, for comparison (paper C.2). The floor does not apply.
    Mmd,
}

/// Where the guidance weight of unconditional samples enters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WeightPlacement {
    /// A factor of the normalised affinity (official).
    #[default]
    AfterSoftmax,
    /// ln w added to the logits (seed documents); the softmax over x cancels half of it, so w acts like its root.
    Logits,
}

/// How the locations of a feature map enter the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// Their mean (official).
    #[default]
    Mean,
    /// Their sum (paper A.5, seed documents); classes, samples and channels are still averaged.
    Sum,
}

/// What the reported loss is with several temperatures; the gradient is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TemperatureAggregation {
    /// The square of the summed drifts (paper A.6, official).
    #[default]
    SumDrifts,
    /// The sum of the squared drifts (paper Table 8).
    SumLosses,
}

/// Over what the two normalisations average.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ScaleScope {
    /// All classes and locations of the key (paper A.6, official).
    #[default]
    Batch,
    /// Each class group by itself (seed documents).
    Group,
    /// Previous steps: the moving average of what `batch` would have found in them, since the paper lets the scales come
    /// from the previous batch (A.6). The first step is that of `batch`.
    Ema,
}

/// How distances are computed in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Distances {
    /// About the centre of the points, and number by number where digits would cancel.
    #[default]
    Accurate,
    /// sqrt(|x|^2 + |y|^2 - 2 x.y) as it stands, like the official code: features that hardly differ get the distances of
    /// their rounding. For comparison with it.
    Expanded,
}

/// Precision of the factors of products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Products {
    /// Single precision.
    #[default]
    F32,
    /// Factors are rounded to bfloat16, as matrix units do by default: products are two to four times as fast on Intel's
    /// processors with AMX, up to twice as fast on AMD's with AVX512-BF16, and no faster on others.
    Bf16,
}

impl Products {
    /// What the networks' products call it.
    #[must_use]
    pub fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
        }
    }
}

/// Settings of the objective; missing ones take the official code's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DriftSettings {
    /// Temperatures; their drifts are added.
    pub temperatures: Vec<f32>,
    /// Kernel.
    pub kernel: Kernel,
    /// How distances are computed.
    pub distances: Distances,
    /// Precision of vectors about their centre where they are multiplied, with each other for distances and with coefficients
    /// for drifts. On the processor; a GPU computes the whole objective in single precision.
    pub products: Products,
    /// Normalise the kernel over the targets y of each x (the softmax over rows).
    pub normalize_over_y: bool,
    /// Normalise the kernel over the samples x of each y (the softmax over columns). Both together enter as their
    /// geometric mean.
    pub normalize_over_x: bool,
    /// Rounds of Sinkhorn balancing in place of the geometric mean; 0 for none.
    pub sinkhorn_iterations: usize,
    /// Least product of the two softmaxes: no affinity is below its square root.
    pub floor: f32,
    /// Keep a sample from repelling itself.
    pub mask_self_negatives: bool,
    /// Added to the (normalised) distance of a sample to itself.
    pub mask: f32,
    /// How the two sides become one force.
    pub coupling: Coupling,
    /// Factor of the pull towards positives; anti-symmetry needs it equal to `repulsion`.
    pub attraction: f32,
    /// Factor of the push away from negatives.
    pub repulsion: f32,
    /// Where guidance weights enter.
    pub weight_placement: WeightPlacement,
    /// Scale features to a mean distance of sqrt(D) (paper eq. 18-21).
    pub normalize_features: bool,
    /// Multiply temperatures by sqrt(D) (paper eq. 22).
    pub scale_temperature_by_sqrt_channels: bool,
    /// Scale each temperature's drift to a mean square of 1 (paper eq. 23-25).
    pub normalize_drift: bool,
    /// Scope of both scales.
    pub scale_scope: ScaleScope,
    /// Decay of the moving average of scope `ema`.
    pub scale_decay: f64,
    /// Reduction over locations.
    pub reduction: Reduction,
    /// Reported loss with several temperatures.
    pub temperature_aggregation: TemperatureAggregation,
}

impl Default for DriftSettings {
    fn default() -> Self {
        Self {
            temperatures: vec![0.2, 0.05, 0.02],
            kernel: Kernel::default(),
            distances: Distances::default(),
            products: Products::default(),
            normalize_over_y: true,
            normalize_over_x: true,
            sinkhorn_iterations: 0,
            floor: 1e-6,
            mask_self_negatives: true,
            mask: 100.0,
            coupling: Coupling::default(),
            attraction: 1.0,
            repulsion: 1.0,
            weight_placement: WeightPlacement::default(),
            normalize_features: true,
            scale_temperature_by_sqrt_channels: true,
            normalize_drift: true,
            scale_scope: ScaleScope::default(),
            scale_decay: 0.9,
            reduction: Reduction::default(),
            temperature_aggregation: TemperatureAggregation::default(),
        }
    }
}

impl DriftSettings {
    /// Paper Algorithm 2 as it stands: one temperature on the distances as they are, no floor, nothing rescaled.
    #[must_use]
    pub fn plain(temperature: f32) -> Self {
        Self {
            temperatures: vec![temperature],
            floor: 0.0,
            mask: 1e6,
            normalize_features: false,
            scale_temperature_by_sqrt_channels: false,
            normalize_drift: false,
            ..Self::default()
        }
    }

    /// Checks ranges, and that the switches go together.
    ///
    /// # Errors
    /// Names the setting and what would be right.
    pub fn validate(&self) -> Result<(), DriftError> {
        let positive = |value: f32| value.is_finite() && value > 0.0;
        require("temperatures", !self.temperatures.is_empty(), || "needs at least one temperature".to_owned())?;
        let bad = self.temperatures.iter().find(|&&tau| !positive(tau));
        require("temperatures", bad.is_none(), || format!("{} is not a positive number", bad.unwrap_or(&f32::NAN)))?;
        let factors = [
            ("floor", self.floor),
            ("mask", self.mask),
            ("attraction", self.attraction),
            ("repulsion", self.repulsion),
        ];
        for (key, value) in factors {
            require(key, value == 0.0 || positive(value), || format!("{value} is neither 0 nor a positive number"))?;
        }
        require("scale_decay", (0.0..1.0).contains(&self.scale_decay), || {
            format!("{} is not at least 0 and below 1", self.scale_decay)
        })?;
        require("products", self.products == Products::F32 || self.distances == Distances::Accurate, || {
            "bf16 needs distances = \"accurate\": rounding would hide what the official formula rounds".to_owned()
        })?;
        let (y, x) = (self.normalize_over_y, self.normalize_over_x);
        require("sinkhorn_iterations", self.sinkhorn_iterations == 0 || (y && x), || {
            "balancing needs normalize_over_x and normalize_over_y".to_owned()
        })?;
        require("coupling", self.coupling != Coupling::Mmd || !(y || x), || {
            "mmd uses the kernel as it is: turn off normalize_over_x and normalize_over_y".to_owned()
        })
    }
}

fn require(key: &'static str, holds: bool, problem: impl FnOnce() -> String) -> Result<(), DriftError> {
    if holds { Ok(()) } else { Err(DriftError::Setting { key, problem: problem() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_by_name_and_unknown_names_refused() {
        let text = "temperatures = [0.1]\nweight_placement = \"logits\"\nscale_scope = \"group\"";
        let settings: DriftSettings = toml::from_str(text).unwrap();
        assert_eq!((settings.weight_placement, settings.floor), (WeightPlacement::Logits, 1e-6));
        assert!(toml::from_str::<DriftSettings>("temperature = 0.1").is_err());
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let none = DriftSettings { temperatures: vec![], ..DriftSettings::default() };
        assert_eq!(none.validate().unwrap_err().to_string(), "drift.temperatures: needs at least one temperature");
        for tau in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let error = DriftSettings { temperatures: vec![0.1, tau], ..DriftSettings::default() }.validate();
            assert_eq!(error.unwrap_err().to_string(), format!("drift.temperatures: {tau} is not a positive number"));
        }
        let floor = DriftSettings { floor: f32::NAN, ..DriftSettings::default() };
        assert!(matches!(floor.validate(), Err(DriftError::Setting { key: "floor", .. })));
        let mmd = DriftSettings { coupling: Coupling::Mmd, ..DriftSettings::default() };
        assert!(matches!(mmd.validate(), Err(DriftError::Setting { key: "coupling", .. })));
        let balance = DriftSettings { sinkhorn_iterations: 5, normalize_over_x: false, ..DriftSettings::default() };
        assert!(matches!(balance.validate(), Err(DriftError::Setting { key: "sinkhorn_iterations", .. })));
        DriftSettings::plain(0.5).validate().unwrap();
    }
}
