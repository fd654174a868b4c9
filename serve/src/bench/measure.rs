//! Time of runs: warm-up, windows, percentiles.
//!
//! Runs follow each other without a pause, as one client would ask for them (a closed loop). They are counted in windows;
//! the measurement ends once the last three windows agree, and tells what these three hold.

use std::time::Duration;

use serde::Serialize;

use crate::statistics::{AGREEING, Windows, agree, milliseconds, percentile};

/// Runs that a window holds at least, however long one takes.
const LEAST_RUNS: usize = 3;

/// Times of the runs that count, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Runs that were counted.
    pub runs: usize,
    /// Whether the last three windows agreed.
    pub stable: bool,
    /// Mean.
    pub mean: f64,
    /// Shortest.
    pub min: f64,
    /// Half of the runs took no longer.
    pub p50: f64,
    /// Nine in ten took no longer.
    pub p90: f64,
    /// 99 in a hundred took no longer.
    pub p99: f64,
    /// Longest.
    pub max: f64,
}

/// Measures `run`, which returns how long it took; `told` is given the number of each window and its mean time.
///
/// # Errors
/// Whatever `run` reports.
pub(super) fn measure<E>(
    windows: &Windows,
    run: &mut dyn FnMut() -> Result<Duration, E>,
    told: &mut dyn FnMut(usize, Duration),
) -> Result<Latency, E> {
    let mut warm = run()?;
    while warm < windows.warm_up {
        // A clock that stands still must not hold this loop.
        warm += run()?.max(Duration::from_nanos(1));
    }
    let mut done: Vec<Vec<Duration>> = Vec::new();
    let mut stable = false;
    while !stable && done.len() < windows.most.max(1) {
        let mut runs = Vec::new();
        let mut spent = Duration::ZERO;
        while spent < windows.length || runs.len() < LEAST_RUNS {
            let time = run()?.max(Duration::from_nanos(1));
            spent += time;
            runs.push(time);
        }
        told(done.len() + 1, mean(&runs));
        done.push(runs);
        let means: Vec<f64> = done.iter().map(|window| mean(window).as_secs_f64()).collect();
        stable = agree(&means, windows.tolerance);
    }
    let last = done.len().saturating_sub(AGREEING);
    let mut times: Vec<Duration> = done.drain(last..).flatten().collect();
    times.sort_unstable();
    Ok(summary(&times, stable))
}

fn mean(times: &[Duration]) -> Duration {
    let count = u32::try_from(times.len()).unwrap_or(u32::MAX).max(1);
    times.iter().sum::<Duration>() / count
}

/// What ascending times say.
fn summary(times: &[Duration], stable: bool) -> Latency {
    let mean = milliseconds(mean(times));
    let times: Vec<f64> = times.iter().copied().map(milliseconds).collect();
    let percentile = |share| percentile(&times, share);
    Latency {
        runs: times.len(),
        stable,
        mean,
        min: percentile(0.0),
        p50: percentile(0.5),
        p90: percentile(0.9),
        p99: percentile(0.99),
        max: percentile(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(most: usize) -> Windows {
        Windows { warm_up: Duration::from_millis(20), length: Duration::from_millis(100), most, tolerance: 0.1 }
    }

    /// Measures runs that take these times, in milliseconds, over and over.
    fn script(windows: &Windows, times: &[u64]) -> (Latency, usize, usize) {
        let (mut runs, mut count) = (0, 0);
        let mut run = || {
            runs += 1;
            Ok::<_, ()>(Duration::from_millis(times[(runs - 1) % times.len()]))
        };
        let latency = measure(windows, &mut run, &mut |window, _| count = window).unwrap();
        (latency, runs, count)
    }

    #[test]
    fn three_windows_that_agree_end_it() {
        let (latency, runs, count) = script(&windows(10), &[10]);
        // Two runs of warm-up, three windows of ten.
        assert_eq!((latency.runs, latency.stable, runs, count), (30, true, 32, 3));
        assert_eq!((latency.p50, latency.p99, latency.mean), (10.0, 10.0, 10.0));
    }

    #[test]
    fn slow_starts_are_left_behind() {
        // Windows of 100, 50 and then 10 ms a run: only the last three count.
        let times: Vec<u64> = [vec![20], vec![100; 3], vec![50; 3], vec![10; 200]].concat();
        let (latency, _, count) = script(&windows(10), &times);
        assert!(latency.stable && latency.max == 10.0 && count == 5, "{latency:?} {count}");
    }

    #[test]
    fn what_never_settles_is_told() {
        // Each run takes twice as long as the one before.
        let (mut last, mut count) = (1, 0);
        let mut run = || {
            last *= 2;
            Ok::<_, ()>(Duration::from_millis(last))
        };
        let latency = measure(&windows(4), &mut run, &mut |window, _| count = window).unwrap();
        assert!(!latency.stable && count == 4, "{latency:?}");
    }

    #[test]
    fn percentiles_are_times_that_were_seen() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        let latency = summary(&times, true);
        let found = [latency.min, latency.p50, latency.p90, latency.p99, latency.max, latency.mean];
        assert_eq!(found, [1.0, 50.0, 90.0, 99.0, 100.0, 50.5]);
        let one = summary(&times[6..7], true);
        assert_eq!((one.min, one.p50, one.p99, one.max), (7.0, 7.0, 7.0, 7.0));
    }

    #[test]
    fn a_run_that_fails_ends_it() {
        let mut left = 5;
        let mut run = || {
            left -= 1;
            if left == 0 { Err("out of memory") } else { Ok(Duration::from_millis(10)) }
        };
        assert_eq!(measure(&windows(3), &mut run, &mut |_, _| {}), Err("out of memory"));
    }
}
