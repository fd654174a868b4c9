//! Guidance: alpha becomes the weight of unconditional samples, and where alpha comes from (paper 3.5, A.7).

use drifting_spec::Stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DriftError;

/// Weight of each of `unconditional` real samples beside `generated` ones, for guidance `alpha`:
/// w = (alpha - 1)(Ng - 1) / Nu, since a sample does not repel itself (paper eq. 15, 16).
#[must_use]
pub fn guidance_weight(alpha: f32, generated: usize, unconditional: usize) -> f32 {
    let others = generated.saturating_sub(1) as f64;
    ((f64::from(alpha) - 1.0) * others / unconditional.max(1) as f64) as f32
}

/// The law of the guidance alpha that a class group is trained with: density proportional to alpha^-exponent on
/// [min, max], and with probability `no_cfg_fraction` alpha = 1. Exponent 0 is uniform.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlphaLaw {
    /// Smallest alpha, at least 1.
    pub min: f32,
    /// Largest alpha; equal to `min` for a constant.
    pub max: f32,
    /// Power of the density: 3 in the ablation, 5 for latent B and both pixel models (paper Table 8).
    pub exponent: f32,
    /// Probability of alpha = 1, no guidance.
    pub no_cfg_fraction: f32,
}

impl Default for AlphaLaw {
    fn default() -> Self {
        Self { min: 1.0, max: 4.0, exponent: 3.0, no_cfg_fraction: 0.0 }
    }
}

impl AlphaLaw {
    /// The law without its point mass, inverted: the alpha below which a share `u` in [0, 1] of the draws lies.
    #[must_use]
    pub fn quantile(&self, u: f64) -> f32 {
        let (min, max) = (f64::from(self.min), f64::from(self.max));
        let power = 1.0 - f64::from(self.exponent);
        let alpha = if power.abs() < 1e-6 {
            min * libm::pow(max / min, u)
        } else {
            // Relative to min: min^power itself is out of range for steep laws.
            min * libm::pow(1.0 + u * (libm::pow(max / min, power) - 1.0), 1.0 / power)
        };
        (alpha as f32).clamp(self.min, self.max)
    }

    /// Draws one alpha: two numbers of `stream`, whatever the law.
    pub fn draw(&self, stream: &mut Stream) -> f32 {
        let (mass, u) = (stream.uniform(), stream.uniform());
        if mass < f64::from(self.no_cfg_fraction) { 1.0 } else { self.quantile(u) }
    }

    /// Smallest and largest alpha that can be drawn.
    #[must_use]
    pub fn range(&self) -> (f32, f32) {
        match self.no_cfg_fraction {
            0.0 => (self.min, self.max),
            1.0 => (1.0, 1.0),
            _ => (1.0, self.max),
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the setting and what would be right.
    pub fn validate(&self) -> Result<(), DriftError> {
        let Self { min, max, exponent, no_cfg_fraction } = *self;
        let checks = [
            ("alpha.min", (1.0..=1e3).contains(&min), format!("{min} is not between 1 and 1000")),
            ("alpha.max", (min..=1e3).contains(&max), format!("{max} is not between alpha.min = {min} and 1000")),
            ("alpha.exponent", exponent.abs() <= 100.0, format!("{exponent} is not between -100 and 100")),
            (
                "alpha.no_cfg_fraction",
                (0.0..=1.0).contains(&no_cfg_fraction),
                format!("{no_cfg_fraction} is not between 0 and 1"),
            ),
        ];
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((key, _, problem)) => Err(DriftError::Setting { key, problem }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn law(exponent: f32) -> AlphaLaw {
        AlphaLaw { exponent, ..AlphaLaw::default() }
    }

    #[test]
    fn weights_follow_alpha() {
        assert_eq!(guidance_weight(2.0, 64, 16), 3.9375);
        assert_eq!(guidance_weight(1.0, 64, 16), 0.0);
        assert_eq!((guidance_weight(3.0, 1, 16), guidance_weight(3.0, 2, 0)), (0.0, 2.0));
    }

    #[test]
    fn golden_quantiles_of_the_power_laws() {
        let golden = [
            (3.0, [1.142_857, 1.371_989, 1.835_326]),
            (5.0, [1.074_22, 1.188_048, 1.410_1]),
            (0.0, [1.75, 2.5, 3.25]),
            (1.0, [std::f32::consts::SQRT_2, 2.0, 2.828_427]),
        ];
        for (exponent, expected) in golden {
            for (u, expected) in [0.25, 0.5, 0.75].into_iter().zip(expected) {
                let found = law(exponent).quantile(u);
                assert!((found - expected).abs() < 1e-6, "k={exponent} u={u}: {found}");
            }
            assert_eq!((law(exponent).quantile(0.0), law(exponent).quantile(1.0)), (1.0, 4.0));
        }
    }

    #[test]
    fn means_of_many_draws_are_the_laws() {
        for (exponent, mean) in [(0.0, 2.5), (3.0, 1.6), (5.0, 1.318)] {
            let mut stream = Stream::new(1, "alpha", 0);
            let total: f64 = (0..100_000).map(|_| f64::from(law(exponent).draw(&mut stream))).sum();
            assert!((total / 1e5 - mean).abs() < 0.01, "k={exponent}: {}", total / 1e5);
        }
    }

    #[test]
    fn the_point_mass_is_at_one() {
        let law = AlphaLaw { min: 1.5, no_cfg_fraction: 0.5, ..law(0.0) };
        let mut stream = Stream::new(1, "alpha", 0);
        let alphas: Vec<_> = (0..10_000).map(|_| law.draw(&mut stream)).collect();
        let ones = alphas.iter().filter(|&&alpha| alpha == 1.0).count();
        assert!((4_800..5_200).contains(&ones), "{ones}");
        assert!(alphas.iter().all(|&alpha| alpha == 1.0 || (1.5..=4.0).contains(&alpha)));
        assert_eq!((law.range(), AlphaLaw::default().range()), ((1.0, 4.0), (1.0, 4.0)));
    }

    #[test]
    fn impossible_laws_are_named() {
        for (law, key) in [
            (AlphaLaw { min: 0.5, ..AlphaLaw::default() }, "alpha.min"),
            (AlphaLaw { max: 0.5, ..AlphaLaw::default() }, "alpha.max"),
            (AlphaLaw { max: f32::NAN, ..AlphaLaw::default() }, "alpha.max"),
            (AlphaLaw { exponent: f32::INFINITY, ..AlphaLaw::default() }, "alpha.exponent"),
            (AlphaLaw { no_cfg_fraction: 1.5, ..AlphaLaw::default() }, "alpha.no_cfg_fraction"),
        ] {
            assert!(matches!(law.validate(), Err(DriftError::Setting { key: found, .. }) if found == key));
        }
        AlphaLaw { min: 2.0, max: 2.0, ..AlphaLaw::default() }.validate().unwrap();
    }
}
