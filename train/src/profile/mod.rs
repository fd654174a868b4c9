//! Where the time of a training step goes, by operation.
//!
//! A step is one operation after another on one thread, which shares most of them out to others. So the operations' own
//! times add up to the step's, and every matrix product, on whatever thread, belongs to the operation during which it
//! ran. `drifting train --profile` prints [`Profile`] and writes its [`trace`].

mod table;
mod trace;

use std::collections::BTreeMap;
use std::time::Duration;

use drifting_models::ops;
use drifting_models::profile::{self, Event, Lane};

use crate::run::{Experiment, RunError};

pub use trace::trace;

/// Steps that are taken first and not counted: buffers and caches fill.
const WARM_UP: u64 = 2;

/// What is between the operations of a part of a step, and between its parts.
const BETWEEN: &str = "other tensor operations";

/// What the machine can do at best, measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Threads.
    pub threads: usize,
    /// Floating point operations a second of a large matrix product.
    pub flops: f64,
    /// Bytes a second through memory.
    pub bytes: f64,
}

impl Machine {
    /// Measures for about a second, with the threads that training uses.
    ///
    /// # Errors
    /// The operating system refuses the threads.
    pub fn measure() -> Result<Self, String> {
        let threads = rayon::current_num_threads();
        Ok(Self { threads, flops: ops::peak(threads)?, bytes: ops::bandwidth(threads)? })
    }
}

/// One operation within one part of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The part, such as `encode`; empty for what is outside of all of them.
    pub part: &'static str,
    /// The operation.
    pub name: &'static str,
    /// Times that it ran.
    pub calls: u64,
    /// Time of its own, without what it called.
    pub time: Duration,
    /// Floating point operations of the matrix products during that time.
    pub flops: u64,
    /// Bytes that it must read and write at least; 0 if they are not counted.
    pub bytes: u64,
    /// Time of all threads in matrix products.
    pub products: Duration,
}

/// Some steps, and where their time went.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Steps.
    pub steps: u64,
    /// Their time.
    pub time: Duration,
    /// Operations, in the order in which a step first comes to their parts, the longest first.
    pub rows: Vec<Row>,
    /// The machine.
    pub machine: Machine,
    /// Everything that was recorded, for [`trace`].
    pub lanes: Vec<Lane>,
}

impl Profile {
    /// Takes steps and records them. `told` hears how many steps of how many are done, and of which kind the next is.
    ///
    /// # Errors
    /// As [`Experiment::step`].
    pub fn of(
        experiment: &mut dyn Experiment,
        steps: u64,
        machine: Machine,
        mut told: impl FnMut((usize, usize), &str),
    ) -> Result<Self, RunError> {
        let all = (WARM_UP + steps) as usize;
        for step in 0..WARM_UP {
            told((step as usize, all), "warming up");
            experiment.step()?;
        }
        let (result, lanes) = profile::record(|| {
            (0..steps).try_for_each(|step| {
                told(((WARM_UP + step) as usize, all), "recording");
                let _span = profile::span(STEP);
                experiment.step().map(drop)
            })
        });
        result?;
        let events = lanes.iter().find(|lane| lane.caller).map_or(&[][..], |lane| &lane.events);
        let time = events.iter().filter(|event| event.name == STEP).map(|event| event.length).sum();
        Ok(Self { steps, time, rows: rows(&lanes), machine, lanes })
    }
}

/// The span of a whole step.
const STEP: &str = "step";

/// A stretch of the calling thread's time that belongs to one span and to nothing within it.
struct Stretch {
    start: Duration,
    end: Duration,
    row: usize,
}

/// The operations of the calling thread, with the matrix products of all threads.
fn rows(lanes: &[Lane]) -> Vec<Row> {
    let own = lanes.iter().filter(|lane| lane.caller).flat_map(|lane| &lane.events);
    let mut spans: Vec<&Event> = own.filter(|event| event.flops == 0).collect();
    spans.sort_by_key(|event| (event.start, std::cmp::Reverse(event.length)));
    let mut book = Book::default();
    for span in spans {
        book.close_until(span.start);
        book.open(span);
    }
    book.close_until(Duration::MAX);
    let Book { mut rows, mut stretches, .. } = book;
    stretches.sort_by_key(|stretch| stretch.start);
    for product in lanes.iter().flat_map(|lane| &lane.events).filter(|event| event.flops > 0) {
        let middle = product.start + product.length / 2;
        let next = stretches.partition_point(|stretch| stretch.start <= middle);
        let stretch = next.checked_sub(1).and_then(|index| stretches.get(index));
        if let Some(row) = stretch.filter(|stretch| middle < stretch.end).and_then(|stretch| rows.get_mut(stretch.row))
        {
            row.flops += product.flops;
            row.products += product.length;
        }
    }
    let mut order: Vec<&str> = Vec::new();
    for row in &rows {
        if !order.contains(&row.part) {
            order.push(row.part);
        }
    }
    let place = |row: &Row| order.iter().position(|part| *part == row.part);
    rows.retain(|row| !row.time.is_zero());
    rows.sort_by(|a, b| place(a).cmp(&place(b)).then(b.time.cmp(&a.time)));
    rows
}

/// Spans that are open, and what was found so far.
#[derive(Default)]
struct Book {
    rows: Vec<Row>,
    by_name: BTreeMap<(&'static str, &'static str), usize>,
    stretches: Vec<Stretch>,
    /// End and row of the spans around, the innermost last.
    open: Vec<(Duration, usize)>,
    /// Up to here all time is given away.
    until: Duration,
}

impl Book {
    /// Gives time up to `moment` to the spans that were open, and closes those that ended.
    fn close_until(&mut self, moment: Duration) {
        while let Some(&(end, row)) = self.open.last() {
            self.give(row, end.min(moment));
            if end > moment {
                return;
            }
            self.open.pop();
        }
    }

    fn give(&mut self, row: usize, end: Duration) {
        if end > self.until {
            self.rows[row].time += end - self.until;
            self.stretches.push(Stretch { start: self.until, end, row });
            self.until = end;
        }
    }

    fn open(&mut self, span: &Event) {
        self.until = self.until.max(span.start);
        // Within a step lie its parts, within a part its operations.
        let (part, name) = match self.open.len() {
            0 => ("", BETWEEN),
            1 => (span.name, BETWEEN),
            _ => (self.rows[self.open[1].1].part, span.name),
        };
        let next = self.rows.len();
        let row = *self.by_name.entry((part, name)).or_insert(next);
        if row == next {
            self.rows.push(Row { part, name, ..Row::default() });
        }
        self.rows[row].calls += 1;
        self.rows[row].bytes += span.bytes;
        self.open.push((span.start + span.length, row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &'static str, start: u64, length: u64) -> Event {
        let [start, length] = [start, length].map(Duration::from_millis);
        Event { name, start, length, flops: 0, bytes: 0 }
    }

    #[test]
    fn times_add_up_and_products_belong_to_what_they_run_in() {
        let product = |start, flops| Event { flops, ..event("matrix product", start, 2) };
        let caller = Lane {
            caller: true,
            events: vec![
                Event { bytes: 8, ..event("norm", 12, 5) },
                event("block", 10, 20),
                product(35, 1),
                event("encode", 5, 40),
                event("norm", 50, 10),
                event("backward", 50, 30),
                event("step", 0, 100),
            ],
            ..Lane::default()
        };
        let other = Lane {
            events: vec![product(10, 10), product(13, 100), product(20, 1000), product(200, 5)],
            ..Lane::default()
        };
        let rows = rows(&[caller, other]);
        let found: Vec<_> = rows
            .iter()
            .map(|row| (row.part, row.name, row.calls, row.time.as_millis(), row.flops, row.bytes))
            .collect();
        let expected = [
            ("", BETWEEN, 1, 30, 0, 0),
            ("encode", BETWEEN, 1, 20, 1, 0),
            ("encode", "block", 1, 15, 1010, 0),
            ("encode", "norm", 1, 5, 100, 8),
            ("backward", BETWEEN, 1, 20, 0, 0),
            ("backward", "norm", 1, 10, 0, 0),
        ];
        assert_eq!(found, expected);
        assert_eq!(rows.iter().map(|row| row.time).sum::<Duration>(), Duration::from_millis(100));
    }
}
