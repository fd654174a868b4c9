//! Distributions in the plane.

use std::f64::consts::PI;

use drifting_spec::Stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Deviation of the noise around the swiss roll.
const ROLL_NOISE: f64 = 0.03;
/// Deviation of the noise around the squares of the checkerboard.
const BOARD_NOISE: f64 = 0.05;

/// A distribution of points to learn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Target {
    /// A spiral of two turns that reaches from -1 to 1 (authors' notebook).
    SwissRoll,
    /// The eight dark squares of a board of 4 x 4 from -1 to 1 (authors' notebook).
    Checkerboard,
    /// Normal distributions of equal weight.
    Gaussians {
        /// Their means.
        centers: Vec<[f32; 2]>,
        /// Their standard deviation in each coordinate.
        deviation: f32,
    },
}

impl Target {
    /// `count` points, `[count, 2]`.
    pub fn draw(&self, stream: &mut Stream, count: usize) -> Vec<f32> {
        match self {
            Self::SwissRoll => swiss_roll(stream, count),
            Self::Checkerboard => (0..count).flat_map(|_| board_point(stream)).collect(),
            Self::Gaussians { centers, deviation } => (0..count)
                .flat_map(|_| {
                    let center = centers.get(stream.below(centers.len())).copied().unwrap_or_default();
                    center.map(|coordinate| coordinate + deviation * stream.normal() as f32)
                })
                .collect(),
        }
    }

    /// The means of the normal distributions; none for the other targets.
    #[must_use]
    pub fn centers(&self) -> &[[f32; 2]] {
        match self {
            Self::Gaussians { centers, .. } => centers,
            Self::SwissRoll | Self::Checkerboard => &[],
        }
    }

    /// Half the side of a square around the origin that holds nearly all points.
    #[must_use]
    pub fn extent(&self) -> f32 {
        match self {
            Self::SwissRoll | Self::Checkerboard => 1.15,
            Self::Gaussians { centers, deviation } => {
                let farthest = centers.iter().flatten().fold(0f32, |farthest, value| farthest.max(value.abs()));
                farthest + 3.5 * deviation
            }
        }
    }

    /// What is wrong with the settings, if anything is.
    pub(super) fn problem(&self) -> Option<String> {
        let Self::Gaussians { centers, deviation } = self else { return None };
        if centers.is_empty() {
            return Some("gaussians need at least one of centers".to_owned());
        }
        if centers.iter().flatten().any(|value| !value.is_finite()) {
            return Some("centers hold a number that is not finite".to_owned());
        }
        (!(deviation.is_finite() && *deviation >= 0.0))
            .then(|| format!("deviation {deviation} is neither 0 nor a positive number"))
    }
}

/// t (cos t, sin t) for t between pi/2 and 9/2 pi, divided by the largest coordinate of the batch.
fn swiss_roll(stream: &mut Stream, count: usize) -> Vec<f32> {
    let angles = (0..count).map(|_| PI / 2.0 + 4.0 * PI * stream.uniform());
    let roll: Vec<f64> = angles
        .flat_map(|t| {
            let (sine, cosine) = libm::sincos(t);
            [t * cosine, t * sine]
        })
        .collect();
    let largest = roll.iter().fold(f64::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    roll.iter().map(|value| (value / largest + ROLL_NOISE * stream.normal()) as f32).collect()
}

fn board_point(stream: &mut Stream) -> [f32; 2] {
    let parity = stream.below(2);
    let cells = [(); 2].map(|()| (2 * stream.below(2) + parity) as f64);
    cells.map(|cell| ((cell + stream.uniform() - 2.0) / 2.0 + BOARD_NOISE * stream.normal()) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(target: &Target) -> Vec<[f32; 2]> {
        let values = target.draw(&mut Stream::new(1, "test", 0), 20_000);
        assert_eq!(values.len(), 40_000);
        values.as_chunks().0.to_vec()
    }

    #[test]
    fn the_roll_grows_with_its_angle() {
        // The radius says how many turns were made; the angle must agree with it but for the noise.
        let agrees = |[x, y]: &[f32; 2]| {
            let turns = f64::from(x.hypot(*y)) * 4.5 / 2.0 - f64::from(y.atan2(*x)) / (2.0 * PI);
            (turns - turns.round()).abs() < 0.2
        };
        let points = points(&Target::SwissRoll);
        let share = points.iter().filter(|point| agrees(point)).count() as f64 / 20_000.0;
        assert!(share > 0.97, "{share}");
        assert!(points.iter().all(|[x, y]| x.hypot(*y) < 1.2));
    }

    #[test]
    fn half_of_the_board_is_empty() {
        let points = points(&Target::Checkerboard);
        let dark =
            |[x, y]: &&[f32; 2]| ((x + 1.0) * 2.0).floor().rem_euclid(2.0) == ((y + 1.0) * 2.0).floor().rem_euclid(2.0);
        let share = points.iter().filter(dark).count() as f64 / 20_000.0;
        assert!((0.8..0.9).contains(&share), "noise puts about a sixth outside: {share}");
        let quarter = points.iter().filter(|[x, y]| *x > 0.0 && *y > 0.0).count();
        assert!((4_700..5_300).contains(&quarter), "{quarter}");
    }

    #[test]
    fn gaussians_have_their_centres_and_deviation() {
        let target = Target::Gaussians { centers: vec![[-2.5, 0.0], [2.5, 1.0]], deviation: 0.35 };
        let (left, right): (Vec<_>, Vec<_>) = points(&target).into_iter().partition(|[x, _]| *x < 0.0);
        assert!(left.len().abs_diff(right.len()) < 600);
        for (points, center) in [(left, [-2.5, 0.0]), (right, [2.5, 1.0])] {
            for axis in [0, 1] {
                let values: Vec<f64> = points.iter().map(|point| f64::from(point[axis])).collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
                assert!((mean - center[axis]).abs() < 0.02 && (variance.sqrt() - 0.35).abs() < 0.01);
            }
        }
        assert!((target.extent() - 3.725).abs() < 1e-6);
    }
}
