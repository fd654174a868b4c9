//! Our side of the race between each operation alone and PyTorch's (`train/benches/peer/ops`).
//!
//!     ops_race list              the cases, in JSON
//!     ops_race serve FOLDER      takes commands from standard input, each answer a line of JSON:
//!                                `write CASE` leaves `CASE.safetensors`, its inputs and what our operation makes of them;
//!                                `run CASE SECONDS` repeats it for so long and answers the seconds of each repetition

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for checks and benchmarks"
)]

mod case;
mod convolutions;
mod features;
mod graph;
mod input;
mod learner;
mod numbers;
mod products;
mod tokens;

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use drifting_models::weights;
use serde_json::{Value, json};

use self::case::{Case, Contender};

/// The allocator of `drifting`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Repetitions that a turn takes at least.
const LEAST: usize = 3;

/// Memory is kept from one repetition to the next, as in `drifting train`.
fn keep_memory() {
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    #[allow(unsafe_code, reason = "the allocator's own interface is in C")]
    // SAFETY: it may be called at any time, from any thread, and an option is a number.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
    }
}

fn main() -> ExitCode {
    keep_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => println!("{}", cases().iter().map(Case::about).collect::<Value>()),
        ["serve", folder] => serve(Path::new(folder)),
        _ => {
            eprintln!("usage: ops_race list | ops_race serve FOLDER");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// All of them, in the order of the report.
fn cases() -> Vec<Case> {
    [
        products::cases(),
        convolutions::cases(),
        tokens::cases(),
        numbers::cases(),
        features::cases(),
        vec![learner::case()],
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn serve(folder: &Path) {
    let cases = cases();
    let mut current: Option<(String, Contender)> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let id = words.get(1).expect("a case");
        if current.as_ref().is_none_or(|(open, _)| open != id) {
            // The last one leaves the memory before the next one is made.
            drop(current.take());
            let case = cases.iter().find(|case| case.id() == *id).unwrap_or_else(|| panic!("{id} is no case"));
            current = Some((case.id(), case.open()));
        }
        let Some((_, contender)) = &mut current else { continue };
        let answer = match words[..] {
            ["write", id] => write(contender, &folder.join(format!("{id}.safetensors"))),
            ["run", _, seconds] => run(contender, seconds.parse().expect("a number of seconds")),
            _ => panic!("{line} is neither write nor run"),
        };
        println!("{answer}");
    }
}

/// The first repetition warms the caches up and is not counted.
fn run(contender: &mut Contender, length: f64) -> Value {
    let mut once = || match &mut contender.timed {
        Some(timed) => timed(),
        None => drop((contender.once)()),
    };
    once();
    let (mut seconds, mut total) = (Vec::new(), 0.0);
    while seconds.len() < LEAST || total < length {
        let started = Instant::now();
        once();
        let time = started.elapsed().as_secs_f64();
        seconds.push(time);
        total += time;
    }
    json!({ "seconds": seconds })
}

fn write(contender: &mut Contender, path: &Path) -> Value {
    let mut tensors: BTreeMap<_, _> =
        contender.inputs.iter().map(|(name, input)| (name.clone(), input.copy().unwrap())).collect();
    let found = (contender.once)();
    tensors.extend(found.into_iter().map(|(name, found)| (format!("expected.{name}"), found.contiguous().unwrap())));
    weights::write(path, &tensors, &BTreeMap::new()).unwrap();
    json!({})
}
