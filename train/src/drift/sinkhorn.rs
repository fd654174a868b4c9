//! Sinkhorn balancing: rows and columns of the kernel normalised in turn until both hold (arXiv 2603.12366).

use std::ops::Range;

use drifting_models::ops::simd::{exp, max, sum};

use super::affinity::finite_or_zero;

/// Balances each side of `logits` `[samples, targets]`: every sample's weights sum to 1, every target of a side of n has
/// samples / n. The rounds end with the samples, whose sums are exact.
pub(super) fn balance(mut logits: Vec<f32>, targets: usize, sides: &[Range<usize>], rounds: usize) -> Vec<f32> {
    let samples = logits.len() / targets;
    for side in sides {
        let share = (samples as f32 / side.len() as f32).ln();
        for _ in 0..rounds {
            let normalizers = column_normalizers(&logits, targets, side, share);
            for row in logits.chunks_exact_mut(targets) {
                row[side.clone()].iter_mut().zip(&normalizers).for_each(|(logit, normalizer)| *logit += normalizer);
                let row = &mut row[side.clone()];
                let normalizer = row_normalizer(row);
                row.iter_mut().for_each(|logit| *logit += normalizer);
            }
        }
    }
    logits.iter_mut().for_each(|logit| *logit = exp(*logit));
    logits
}

fn row_normalizer(row: &[f32]) -> f32 {
    let largest = finite_or_zero(max(row));
    let weights: Vec<f32> = row.iter().map(|logit| exp(logit - largest)).collect();
    finite_or_zero(-largest - sum(&weights).ln())
}

fn column_normalizers(logits: &[f32], targets: usize, side: &Range<usize>, share: f32) -> Vec<f32> {
    let column = |y: usize| logits.iter().skip(y).step_by(targets);
    let normalizer = |y: usize| {
        let largest = finite_or_zero(column(y).copied().fold(f32::NEG_INFINITY, f32::max));
        finite_or_zero(share - largest - column(y).map(|logit| exp(logit - largest)).sum::<f32>().ln())
    };
    side.clone().map(normalizer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sums_hold_in_the_end() {
        let logits: Vec<f32> = (0..15).map(|i| -((i * 7 % 11) as f32) / 4.0).collect();
        let balanced = balance(logits, 5, &[0..2, 2..5], 60);
        for row in balanced.chunks(5) {
            assert!((row[..2].iter().sum::<f32>() - 1.0).abs() < 1e-5);
            assert!((row[2..].iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
        for y in 0..5 {
            let expected = if y < 2 { 1.5 } else { 1.0 };
            let total: f32 = balanced.iter().skip(y).step_by(5).sum();
            assert!((total - expected).abs() < 1e-3, "{y}: {total}");
        }
    }

    #[test]
    fn a_target_that_does_not_exist_takes_nothing() {
        let balanced =
            balance(vec![-1.0, f32::NEG_INFINITY, -2.0, f32::NEG_INFINITY], 2, std::slice::from_ref(&(0..2)), 3);
        assert!((balanced[0] - 1.0).abs() < 1e-6 && (balanced[2] - 1.0).abs() < 1e-6);
        assert!(balanced[1] < 1e-37 && balanced[3] < 1e-37);
    }
}
