//! What can be measured, by the names that a person types.

use std::str::FromStr;

use super::EvalError;

/// A measure, or two that come of the same distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Fréchet distance.
    Frechet,
    /// Kernel Inception Distance.
    Kid,
    /// Inception Score.
    Score,
    /// Precision and recall.
    Precision,
    /// Density and coverage.
    Density,
    /// Share of images that are recognised as the class asked for, in all and by class.
    Accuracy,
    /// Distance of two images of a class, relative to the real ones'.
    Diversity,
    /// Nearest training images and the share of copies.
    Neighbours,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Frechet,
        Self::Kid,
        Self::Score,
        Self::Precision,
        Self::Density,
        Self::Accuracy,
        Self::Diversity,
        Self::Neighbours,
    ];

    /// What a person types.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Frechet => "fd",
            Self::Kid => "kid",
            Self::Score => "is",
            Self::Precision => "precision",
            Self::Density => "density",
            Self::Accuracy => "accuracy",
            Self::Diversity => "diversity",
            Self::Neighbours => "neighbours",
        }
    }

    /// Whether it compares single real images, so that their mean and covariance are not enough.
    #[must_use]
    pub fn needs_images(self) -> bool {
        matches!(self, Self::Kid | Self::Precision | Self::Density | Self::Diversity | Self::Neighbours)
    }

    /// Whether it needs to know what an image should show.
    #[must_use]
    pub fn needs_labels(self) -> bool {
        matches!(self, Self::Accuracy | Self::Diversity)
    }
}

impl FromStr for Measure {
    type Err = EvalError;

    fn from_str(name: &str) -> Result<Self, EvalError> {
        Self::ALL.into_iter().find(|measure| measure.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            EvalError::Samples(format!("{name:?} is no measure: expected some of {known}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measure_is_found_by_its_name() {
        for measure in Measure::ALL {
            assert_eq!(measure.name().parse::<Measure>().unwrap(), measure);
        }
        assert!("fid".parse::<Measure>().unwrap_err().to_string().contains("expected some of fd, kid"));
    }
}
