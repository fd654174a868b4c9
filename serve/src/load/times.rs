//! What many times have in common.

use serde::Serialize;

use crate::statistics::percentile;

/// Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// Mean.
    pub mean: f64,
    /// Half took no longer.
    pub p50: f64,
    /// Nine in ten took no longer.
    pub p90: f64,
    /// 99 in a hundred took no longer; none of fewer than 100.
    pub p99: Option<f64>,
    /// 999 in a thousand took no longer; none of fewer than 1000.
    pub p999: Option<f64>,
    /// Longest.
    pub max: f64,
}

impl Times {
    /// Of ascending times; none of none.
    pub(super) fn new(ascending: &[f64]) -> Option<Self> {
        let max = *ascending.last()?;
        let count = ascending.len();
        let from = |least: usize, share| (count >= least).then(|| percentile(ascending, share));
        Some(Self {
            mean: ascending.iter().sum::<f64>() / count as f64,
            p50: percentile(ascending, 0.5),
            p90: percentile(ascending, 0.9),
            p99: from(100, 0.99),
            p999: from(1000, 0.999),
            max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_too_few_times_cannot_tell_is_left_out() {
        let of = |count: u32| Times::new(&(1..=count).map(f64::from).collect::<Vec<_>>());
        assert_eq!(of(0), None);
        let few = of(99).unwrap();
        assert_eq!((few.p50, few.p90, few.p99, few.max), (50.0, 90.0, None, 99.0));
        let many = of(1000).unwrap();
        assert_eq!((many.mean, many.p99, many.p999), (500.5, Some(990.0), Some(999.0)));
    }
}
