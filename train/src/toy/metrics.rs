//! How well points resemble their target.

use serde::Serialize;

use super::{DIM, Target};

/// Measures of a set of points; the target's own points have figures too, to compare with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ToyMetrics {
    /// Mean distance of a generated point to the nearest point of the data: large where points lie beside the data.
    pub samples_to_data: f64,
    /// Mean distance of a point of the data to the nearest generated one: large where data are not covered.
    pub data_to_samples: f64,
    /// Measures that need centres.
    #[serde(flatten)]
    pub modes: Option<ModeMetrics>,
}

/// Measures of points around centres (seed documents).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModeMetrics {
    /// Share of the points that are nearest to each centre.
    pub coverage: Vec<f64>,
    /// Mean distance of a point to its nearest centre.
    pub mean_distance_to_target: f64,
    /// Sum over the centres of the coverage's distance to an equal share.
    pub mode_balance_error: f64,
    /// Distance of the mean of the points to the mean of the centres.
    pub center_distance: f64,
}

impl ToyMetrics {
    /// Measures points `[n, 2]` against data `[m, 2]` of a target.
    #[must_use]
    pub fn of(samples: &[f32], data: &[f32], target: &Target) -> Self {
        let (mut to_data, mut to_samples) = (Vec::new(), vec![f32::INFINITY; data.len() / DIM]);
        for sample in samples.as_chunks::<DIM>().0 {
            let mut nearest = f32::INFINITY;
            for (point, to_sample) in data.as_chunks::<DIM>().0.iter().zip(&mut to_samples) {
                let squared = squared_distance(sample, point);
                nearest = nearest.min(squared);
                *to_sample = to_sample.min(squared);
            }
            to_data.push(nearest);
        }
        let mean = |squares: &[f32]| {
            squares.iter().map(|square| f64::from(square.sqrt())).sum::<f64>() / squares.len().max(1) as f64
        };
        Self {
            samples_to_data: mean(&to_data),
            data_to_samples: mean(&to_samples),
            modes: ModeMetrics::of(samples, target.centers()),
        }
    }
}

impl ModeMetrics {
    fn of(samples: &[f32], centers: &[[f32; DIM]]) -> Option<Self> {
        if centers.is_empty() || samples.is_empty() {
            return None;
        }
        let count = (samples.len() / DIM) as f64;
        let (mut shares, mut distance) = (vec![0usize; centers.len()], 0.0);
        for sample in samples.as_chunks::<DIM>().0 {
            let squares = centers.iter().map(|center| squared_distance(sample, center)).enumerate();
            let (nearest, square) = squares.min_by(|a, b| a.1.total_cmp(&b.1))?;
            shares[nearest] += 1;
            distance += f64::from(square.sqrt());
        }
        let coverage: Vec<f64> = shares.iter().map(|&share| share as f64 / count).collect();
        let equal = 1.0 / centers.len() as f64;
        let offset = |axis: usize| {
            let mean = samples.iter().skip(axis).step_by(DIM).map(|&value| f64::from(value)).sum::<f64>() / count;
            mean - centers.iter().map(|center| f64::from(center[axis])).sum::<f64>() * equal
        };
        Some(Self {
            mode_balance_error: coverage.iter().map(|share| (share - equal).abs()).sum(),
            coverage,
            mean_distance_to_target: distance / count,
            center_distance: offset(0).hypot(offset(1)),
        })
    }
}

fn squared_distance(a: &[f32; DIM], b: &[f32; DIM]) -> f32 {
    (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_go_both_ways() {
        let found = ToyMetrics::of(&[0.0, 0.0, 3.0, 0.0], &[0.0, 1.0, 0.0, 5.0, 0.0, 1.0], &Target::Checkerboard);
        assert!((found.samples_to_data - (1.0 + 10f64.sqrt()) / 2.0).abs() < 1e-6);
        assert!((found.data_to_samples - 7.0 / 3.0).abs() < 1e-6);
        assert_eq!(found.modes, None);
    }

    #[test]
    fn collapse_on_one_mode_shows() {
        let target = Target::Gaussians { centers: vec![[-2.0, 0.0], [2.0, 0.0]], deviation: 0.3 };
        let all_left = ToyMetrics::of(&[-2.0, 1.0, -2.0, -1.0, -2.0, 0.0], &[2.0, 0.0], &target).modes.unwrap();
        let expected = ModeMetrics {
            coverage: vec![1.0, 0.0],
            mean_distance_to_target: 2.0 / 3.0,
            mode_balance_error: 1.0,
            center_distance: 2.0,
        };
        assert_eq!(all_left, expected);
    }
}
