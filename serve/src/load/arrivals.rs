//! When requests of an open loop are sent: times that no answer can move.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use drifting_spec::Stream;

/// How the requests of an open loop follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// At random and independently of each other, as many people would send them (a Poisson process).
    #[default]
    Poisson,
    /// At equal distances.
    Constant,
}

impl Arrivals {
    const ALL: [Self; 2] = [Self::Poisson, Self::Constant];
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Poisson => "poisson",
            Self::Constant => "constant",
        })
    }
}

impl FromStr for Arrivals {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.to_string() == text);
        found.ok_or_else(|| format!("{text:?} is not one of poisson, constant"))
    }
}

/// Times at which requests are due, from the start of the measurement, without an end.
#[derive(Debug)]
pub(super) struct Schedule {
    arrivals: Arrivals,
    /// Requests a second.
    rate: f64,
    stream: Stream,
    /// Requests so far.
    count: u64,
    seconds: f64,
}

impl Schedule {
    /// `rate` requests a second; equal seeds give equal times.
    pub(super) fn new(arrivals: Arrivals, rate: f64, seed: u64) -> Self {
        Self { arrivals, rate, stream: Stream::new(seed, "load/arrivals", 0), count: 0, seconds: 0.0 }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.seconds = match self.arrivals {
            // Not a sum of distances, whose rounding would pile up.
            Arrivals::Constant => self.count as f64 / self.rate,
            Arrivals::Poisson => self.seconds - (1.0 - self.stream.uniform()).ln() / self.rate,
        };
        self.count += 1;
        Some(Duration::try_from_secs_f64(self.seconds).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(arrivals: Arrivals, rate: f64, seed: u64) -> Vec<f64> {
        let times: Vec<f64> = Schedule::new(arrivals, rate, seed).take(20_001).map(|time| time.as_secs_f64()).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn constant_requests_have_equal_distances() {
        let mut times = Schedule::new(Arrivals::Constant, 8.0, 0);
        assert_eq!(times.next(), Some(Duration::ZERO));
        assert_eq!(times.next(), Some(Duration::from_millis(125)));
        assert!(gaps(Arrivals::Constant, 8.0, 0).iter().all(|gap| (gap - 0.125).abs() < 1e-6));
    }

    #[test]
    fn random_requests_are_a_poisson_process() {
        let gaps = gaps(Arrivals::Poisson, 50.0, 3);
        let count = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / count;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
        // An exponential distribution's deviation is its mean, and a share 1/e of it lies above the mean.
        assert!((mean - 0.02).abs() < 0.0005, "{mean}");
        assert!((variance.sqrt() - 0.02).abs() < 0.001, "{variance}");
        let above = gaps.iter().filter(|&&gap| gap > 0.02).count() as f64 / count;
        assert!((above - (-1.0_f64).exp()).abs() < 0.02, "{above}");
    }

    #[test]
    fn equal_seeds_give_equal_times() {
        let times = |seed| Schedule::new(Arrivals::Poisson, 5.0, seed).take(9).collect::<Vec<_>>();
        assert!(times(1) == times(1) && times(1) != times(2));
    }

    #[test]
    fn kinds_are_known_by_name() {
        assert!(Arrivals::ALL.into_iter().all(|kind| kind.to_string().parse() == Ok(kind)));
        assert!("uniform".parse::<Arrivals>().unwrap_err().contains("poisson, constant"));
    }
}
