//! What measurements share: windows that must agree, and percentiles.

use std::time::Duration;

/// Windows that must agree.
pub(crate) const AGREEING: usize = 3;

/// How long things are measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Windows {
    /// Time that is run and not counted, at least one run.
    pub warm_up: Duration,
    /// Length of a window; it is longer where it would hold too few runs.
    pub length: Duration,
    /// Windows at most.
    pub most: usize,
    /// How far three windows may be from their common mean, as a share of it.
    pub tolerance: f64,
}

impl Default for Windows {
    fn default() -> Self {
        let (warm_up, length) = (Duration::from_millis(500), Duration::from_secs(1));
        Self { warm_up, length, most: 10, tolerance: 0.1 }
    }
}

/// Whether the last three of these times, one for each window, are near each other.
pub(crate) fn agree(windows: &[f64], tolerance: f64) -> bool {
    let Some(last) = windows.len().checked_sub(AGREEING).and_then(|start| windows.get(start..)) else { return false };
    let middle = last.iter().sum::<f64>() / last.len() as f64;
    last.iter().all(|time| (time - middle).abs() <= tolerance * middle)
}

/// The smallest of ascending numbers that this share of them does not exceed; NaN where there are none.
pub(crate) fn percentile(ascending: &[f64], share: f64) -> f64 {
    let rank = (share * ascending.len() as f64).ceil() as usize;
    ascending.get(rank.clamp(1, ascending.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}

/// Milliseconds of a time.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_numbers_that_were_seen() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        let found = [0.0, 0.5, 0.9, 0.99, 0.999, 1.0].map(|share| percentile(&hundred, share));
        assert_eq!(found, [1.0, 50.0, 90.0, 99.0, 100.0, 100.0]);
        assert_eq!(percentile(&[7.0], 0.5), 7.0);
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn only_the_last_three_windows_have_to_agree() {
        assert!(agree(&[9.0, 1.0, 1.05, 1.1], 0.1) && !agree(&[9.0, 1.0, 1.05], 0.1));
        assert!(!agree(&[1.0, 1.0], 0.1) && !agree(&[], 0.1) && !agree(&[1.0, f64::NAN, 1.0], 0.1));
    }
}
