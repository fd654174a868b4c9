//! From requests that ended to what a measurement says: windows, and the samples that count.
//!
//! Windows are closed while requests run and settle when the measurement is over: by the medians of what was answered in
//! them. What is told in the end is counted once everything has ended. In an open loop it holds all requests that were
//! *due* in the last three windows, whenever they ended: a server that stalls cannot keep its late answers out of it. In
//! a closed loop it holds those that ended there.

use std::collections::BTreeMap;
use std::time::Duration;

use super::answer::{Failure, Outcome, Sample, Told};
use super::report::{Failures, LoadPoint};
use super::{Load, Times, Windows};
use crate::statistics::{AGREEING, agree, milliseconds, percentile};

/// Ended requests that a window holds at least, unless time is up.
const LEAST: usize = 5;

/// A window that was closed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    begin: Duration,
    end: Duration,
    /// Images were made for so many requests.
    answered: usize,
    /// Median of their times, in milliseconds; NaN where there are none.
    pub(super) median: f64,
}

impl Window {
    /// Requests a second that were answered.
    pub(super) fn rate(&self) -> f64 {
        self.answered as f64 / (self.end - self.begin).as_secs_f64().max(1e-9)
    }
}

/// What one measurement has seen so far; times count from its start.
pub(super) struct Record {
    load: Load,
    windows: Windows,
    samples: Vec<Sample>,
    closed: Vec<Window>,
    /// Samples before the window that is open.
    before: usize,
    /// The first words about each kind of error.
    notes: BTreeMap<Failure, String>,
}

impl Record {
    pub(super) fn new(load: Load, windows: Windows) -> Self {
        Self { load, windows, samples: Vec::new(), closed: Vec::new(), before: 0, notes: BTreeMap::new() }
    }

    /// Takes a request that has ended.
    pub(super) fn take(&mut self, (sample, note): (Sample, Option<String>)) {
        if let (Outcome::Failed(kind), Some(note)) = (sample.outcome, note) {
            self.notes.entry(kind).or_insert(note);
        }
        if sample.done < self.windows.warm_up && self.before == self.samples.len() {
            self.before += 1;
        }
        self.samples.push(sample);
    }

    fn begin(&self) -> Duration {
        self.closed.last().map_or(self.windows.warm_up, |window| window.end)
    }

    /// When the measurement is over at the latest.
    fn limit(&self) -> Duration {
        let windows = u32::try_from(self.windows.most.max(1)).unwrap_or(u32::MAX);
        self.windows.warm_up.saturating_add(self.windows.length.saturating_mul(windows))
    }

    /// When [`Record::advance`] has something to do again, should no request end before.
    pub(super) fn next(&self, now: Duration) -> Duration {
        let end = self.begin() + self.windows.length;
        if end > now { end.min(self.limit()) } else { self.limit() }
    }

    /// Closes the open window if it is over.
    pub(super) fn advance(&mut self, now: Duration) -> Option<Window> {
        let begin = self.begin();
        let inside = self.samples.get(self.before..).unwrap_or_default();
        let full = now >= begin + self.windows.length && inside.len() >= LEAST;
        if now <= begin || !(full || now >= self.limit()) {
            return None;
        }
        let times = sorted(inside.iter().filter_map(latency));
        let window = Window { begin, end: now, answered: times.len(), median: percentile(&times, 0.5) };
        self.before = self.samples.len();
        self.closed.push(window);
        Some(window)
    }

    fn stable(&self) -> bool {
        agree(&self.closed.iter().map(|window| window.median).collect::<Vec<_>>(), self.windows.tolerance)
    }

    /// Whether nothing more has to be sent.
    pub(super) fn finished(&self) -> bool {
        self.stable() || self.closed.last().is_some_and(|window| window.end >= self.limit())
    }

    /// What the last three windows hold, of requests for so many images each.
    pub(super) fn point(&self, images: usize) -> LoadPoint {
        let last = self.closed.get(self.closed.len().saturating_sub(AGREEING)..).unwrap_or_default();
        let begin = last.first().map_or(self.windows.warm_up, |window| window.begin);
        let end = last.last().map_or(begin, |window| window.end);
        let inside = |time: Duration| (begin..end).contains(&time);
        let open = matches!(self.load, Load::Open { .. });
        let mut counted: Vec<Sample> =
            self.samples.iter().filter(|sample| inside(if open { sample.due } else { sample.done })).copied().collect();
        if counted.is_empty() {
            // Nothing ended within the windows, so what ended after them is all there is to tell.
            counted = self.samples.iter().filter(|sample| sample.done >= begin).copied().collect();
        }
        let seconds = (end - begin).as_secs_f64();
        let in_time = self.samples.iter().filter(|sample| inside(sample.done) && latency(sample).is_some()).count();
        let requests_per_second = in_time as f64 / seconds.max(1e-9);
        let told = |what: fn(&Told) -> Option<f64>| {
            sorted(counted.iter().filter_map(|sample| match &sample.outcome {
                Outcome::Answered(told) => what(told),
                _ => None,
            }))
        };
        let batches = told(|told| told.batch);
        LoadPoint {
            load: self.load,
            seconds,
            windows: self.closed.len(),
            stable: self.stable(),
            requests_per_second,
            images_per_second: images as f64 * requests_per_second,
            answered: counted.iter().filter_map(latency).count(),
            refused: counted.iter().filter(|sample| sample.outcome == Outcome::Refused).count(),
            errors: self.errors(&counted),
            latency: Times::new(&sorted(counted.iter().filter_map(latency))),
            queue: Times::new(&told(|told| told.queue)),
            compute: Times::new(&told(|told| told.compute)),
            batch: (!batches.is_empty()).then(|| batches.iter().sum::<f64>() / batches.len() as f64),
            sent_late: Times::new(&sorted(
                counted.iter().map(|sample| milliseconds(sample.sent.saturating_sub(sample.due))),
            ))
            .filter(|_| open),
        }
    }

    fn errors(&self, counted: &[Sample]) -> Vec<Failures> {
        let mut counts: BTreeMap<Failure, usize> = BTreeMap::new();
        for sample in counted {
            if let Outcome::Failed(kind) = sample.outcome {
                *counts.entry(kind).or_default() += 1;
            }
        }
        let note = |kind| self.notes.get(&kind).cloned().unwrap_or_default();
        counts.into_iter().map(|(kind, count)| Failures { kind: kind.to_string(), count, first: note(kind) }).collect()
    }
}

/// Milliseconds from when a request was due until its images were there.
fn latency(sample: &Sample) -> Option<f64> {
    matches!(sample.outcome, Outcome::Answered(_)).then(|| milliseconds(sample.done.saturating_sub(sample.due)))
}

fn sorted(numbers: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_unstable_by(f64::total_cmp);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Arrivals;

    const OPEN: Load = Load::Open { rate: 10.0, arrivals: Arrivals::Constant };

    fn record(load: Load) -> Record {
        let (warm_up, length) = (Duration::from_millis(500), Duration::from_secs(1));
        Record::new(load, Windows { warm_up, length, most: 5, tolerance: 0.1 })
    }

    fn sample(due: u64, done: u64, outcome: Outcome) -> (Sample, Option<String>) {
        let [due, done] = [due, done].map(Duration::from_millis);
        (Sample { due, sent: due, done, outcome }, Some("why".to_owned()))
    }

    fn answered(due: u64, done: u64) -> (Sample, Option<String>) {
        sample(due, done, Outcome::Answered(Told { queue: Some(1.0), compute: Some(4.0), batch: Some(2.0) }))
    }

    /// Plays requests, by the order of their ends, up to the measurement's own end; then those that are left.
    fn play(record: &mut Record, mut requests: Vec<(Sample, Option<String>)>) {
        requests.sort_by_key(|(sample, _)| sample.done);
        let mut now = Duration::ZERO;
        let mut requests = requests.into_iter().peekable();
        while !record.finished() {
            let next = record.next(now);
            match requests.next_if(|(sample, _)| sample.done < next) {
                Some(request) => {
                    now = request.0.done;
                    record.take(request);
                }
                None => now = next,
            }
            record.advance(now);
        }
        requests.for_each(|request| record.take(request));
    }

    #[test]
    fn it_ends_when_three_windows_agree() {
        let mut record = record(Load::Closed { clients: 1 });
        // 300 ms each during the first window, then 100.
        let slow = (0..5).map(|run| answered(run * 300, (run + 1) * 300));
        let fast = (0..100).map(|run| answered(1500 + run * 100, 1600 + run * 100));
        play(&mut record, slow.chain(fast).collect());
        let point = record.point(4);
        assert!(point.stable && point.windows == 4, "{point:?}");
        let times = point.latency.unwrap();
        assert_eq!((times.p50, times.max, times.p99, point.answered), (100.0, 100.0, None, 30));
        assert!((point.requests_per_second - 10.0).abs() < 0.5, "{point:?}");
        assert!((point.images_per_second - 4.0 * point.requests_per_second).abs() < 1e-9);
        assert_eq!((point.queue.unwrap().p50, point.compute.unwrap().p50, point.batch), (1.0, 4.0, Some(2.0)));
        assert!(point.sent_late.is_none());
    }

    #[test]
    fn a_stall_cannot_hide_in_an_open_loop() {
        // Ten requests a second for 5.5 s; the server answers at once, but not between 3 s and 6 s.
        let requests = || (0..55).map(|i| i * 100).map(|due| answered(due, if due < 3000 { due + 10 } else { 6000 }));
        let mut open = record(OPEN);
        play(&mut open, requests().collect());
        let point = open.point(1);
        // The medians had settled before, yet those who were due in the first half second of the stall are told.
        let times = point.latency.unwrap();
        assert!(point.stable && point.windows == 3 && times.p50 == 10.0 && times.p90 > 2000.0, "{point:?}");

        let mut patient = record(OPEN);
        // Never content, since medians that are equal agree within 0 %.
        patient.windows.tolerance = -1.0;
        play(&mut patient, requests().collect());
        let point = patient.point(1);
        // The last windows' answers came when sending had ended.
        let times = point.latency.unwrap();
        assert!(!point.stable && times.max == 3000.0 && times.p90 > 2000.0, "{point:?}");
        assert!(point.requests_per_second < 5.0, "{point:?}");
    }

    #[test]
    fn refusals_and_errors_are_counted_apart() {
        let mut record = record(Load::Closed { clients: 1 });
        let kinds = [Outcome::Refused, Outcome::Failed(Failure::Timeout), Outcome::Failed(Failure::Status(500))];
        play(&mut record, (0..120).map(|i| sample(i * 50, i * 50 + 50, kinds[i as usize % 3])).collect());
        let point = record.point(1);
        assert!(!point.stable && point.windows == 5 && point.latency.is_none(), "{point:?}");
        let errors: Vec<(&str, usize)> = point.errors.iter().map(|error| (&error.kind[..], error.count)).collect();
        assert_eq!(errors, [("timeout", 20), ("status 500", 20)]);
        assert_eq!((point.refused, &point.errors[0].first[..]), (20, "why"));
        assert_eq!((point.answered, point.requests_per_second), (0, 0.0));
    }

    #[test]
    fn a_server_that_hangs_is_told_too() {
        let mut record = record(Load::Closed { clients: 1 });
        play(&mut record, vec![sample(0, 9000, Outcome::Failed(Failure::Timeout))]);
        let point = record.point(1);
        assert_eq!((point.windows, point.errors[0].count), (1, 1));
    }
}
