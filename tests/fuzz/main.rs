//! Readers of files under mutated files, and the server's routes under mutated requests: no panic, no endless work, no memory
//! beyond reason.
//!
//! A deterministic fuzzer of our own, on stable Rust. Each execution is a function of (target, number): a valid file or
//! request is changed once to five times, by bytes or by its structure (`mutate.rs`), and read as the command would. What is found is
//! told with its number, and runs again with
//!
//! ```text
//! DRIFTING_FUZZ_NUMBER=onnx:1234 cargo test --release --test fuzz one -- --ignored --nocapture
//! ```
//!
//! Five seconds always run; `DRIFTING_FUZZ_SECONDS=600 cargo test --release --test fuzz long -- --ignored --nocapture` runs longer,
//! and begins where `DRIFTING_FUZZ_START` says; `DRIFTING_FUZZ_TARGET=requests` takes one of them only.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, reason = "a test talks")]

mod mutate;
mod readers;
mod requests;

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mutate::Random;
use readers::Reader;
use requests::Requests;

/// What is fed with what was changed.
pub(crate) trait Target {
    fn name(&self) -> String;

    /// One execution; whether what was changed could still be read.
    fn execute(&mut self, random: &mut Random) -> bool;
}

/// All of them, or the one that `DRIFTING_FUZZ_TARGET` names.
fn targets() -> Vec<Box<dyn Target>> {
    let wanted = std::env::var("DRIFTING_FUZZ_TARGET").ok();
    let readers = Reader::all().into_iter().map(|reader| Box::new(reader) as Box<dyn Target>);
    let all = readers.chain([Box::new(Requests::new()) as Box<dyn Target>]);
    let targets: Vec<_> = all.filter(|target| wanted.as_ref().is_none_or(|name| target.name() == *name)).collect();
    assert!(!targets.is_empty(), "there is no target {wanted:?}");
    targets
}

/// Writes down which execution is about to run.
fn note(target: &dyn Target, number: u64) {
    let path = std::env::temp_dir().join("drifting-fuzz-last");
    let _ = std::fs::write(path, format!("{}:{number}", target.name()));
}

/// An execution that takes longer is a finding.
const SLOW: Duration = Duration::from_secs(5);
/// Memory of this process, in MiB, beyond which an execution is a finding.
const MEMORY: u64 = 3 << 10;

/// Where the last panic was.
static PANIC: Mutex<String> = Mutex::new(String::new());

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// The largest memory that this process ever had, in MiB; 0 where that cannot be asked.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default() >> 10
}

/// What one execution came to.
enum Outcome {
    Read,
    Refused,
    Found(String),
}

fn execute(target: &mut dyn Target, number: u64) -> Outcome {
    let mut random = Random::new(number);
    let start = Instant::now();
    let result = panic::catch_unwind(AssertUnwindSafe(|| target.execute(&mut random)));
    if start.elapsed() > SLOW {
        return Outcome::Found(format!("took {:.1} s", start.elapsed().as_secs_f32()));
    }
    match result {
        Ok(true) => Outcome::Read,
        Ok(false) => Outcome::Refused,
        Err(_) => Outcome::Found(PANIC.lock().unwrap().clone()),
    }
}

/// Runs every target in turn for `length` in all, from execution `start` on.
fn fuzz(length: Duration, start: u64) {
    panic::set_hook(Box::new(|info| *PANIC.lock().unwrap() = info.to_string().replace('\n', " ")));
    let mut targets = targets();
    let share = length / u32::try_from(targets.len()).unwrap();
    let (mut found, mut told) = (BTreeMap::new(), Vec::new());
    for target in &mut targets {
        let begin = Instant::now();
        let (mut executions, mut read) = (0, 0);
        let memory = peak_memory();
        while begin.elapsed() < share {
            let number = start + executions;
            // Whoever finds this process dead knows which execution it was.
            if executions % 64 == 0 {
                note(target.as_ref(), number);
            }
            match execute(target.as_mut(), number) {
                Outcome::Read => read += 1,
                Outcome::Refused => {}
                Outcome::Found(what) => drop(found.entry(what).or_insert(format!("{}:{number}", target.name()))),
            }
            executions += 1;
        }
        if peak_memory() > MEMORY.max(memory) {
            found.insert(
                format!("{} MiB of memory", peak_memory()),
                format!("{}:{start}..+{executions}", target.name()),
            );
        }
        told.push(format!("{}: {executions} executions, {read} of them read", target.name()));
    }
    let _ = panic::take_hook();
    println!("{}\npeak memory {} MiB", told.join("\n"), peak_memory());
    assert!(found.is_empty(), "{} findings: {found:#?}", found.len());
}

#[test]
fn five_seconds() {
    fuzz(Duration::from_secs(5), 0);
}

/// As long as one wants.
#[test]
#[ignore = "takes as long as DRIFTING_FUZZ_SECONDS says, ten minutes if it says nothing"]
fn long() {
    let seconds = number("DRIFTING_FUZZ_SECONDS").unwrap_or(600);
    fuzz(Duration::from_secs(seconds), number("DRIFTING_FUZZ_START").unwrap_or(1 << 32));
}

/// One execution again, with its panic.
#[test]
#[ignore = "needs DRIFTING_FUZZ_NUMBER=TARGET:NUMBER"]
fn one() {
    let wanted = std::env::var("DRIFTING_FUZZ_NUMBER").unwrap();
    let (name, number) = wanted.split_once(':').unwrap();
    let mut target = targets().into_iter().find(|target| target.name() == name).unwrap();
    let read = target.execute(&mut Random::new(number.parse().unwrap()));
    println!("{wanted}: {}", if read { "read" } else { "refused" });
}
