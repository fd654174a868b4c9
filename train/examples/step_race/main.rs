//! Our side of the race between a training step and its PyTorch twin (`train/benches/peer/race`).
//!
//!     step_race write CASE FOLDER     inputs and weights of a case, and what our first step makes of them
//!     step_race share                 how much of the machine's measured peak each whole step reaches, as a table
//!     step_race serve CASE FOLDER     takes steps: each line on standard input is their number, each answer a line of JSON
//!
//!     step_race check CASE FOLDER     how far a step on another device is from what `write` left, as a line of JSON
//!
//! Before the command: `--products bf16` computes the networks' matrix products in bfloat16, `--objective bf16` those of the objective, `--device cuda` computes steps on a GPU and `--operations plain`
//! as a GPU does, `--recompute` keeps only the inputs of the generator's blocks for the way back. `write` writes what the processor makes
//! of it all the same.
//!
//! CASE is `fashion` (configs/fashion.toml), `yardstick` (a small latent model in all 86 keys), `latent-b2-small`, `golden` (the
//! step of the authors' program in tests/golden), or `objective-CLASSES` (the drift objective alone on one map of 8 x 8 x 1024).
//!
//! `write` leaves `CASE.safetensors` (what the twin reads), `CASE.json` (settings and the numbers of our step) and, for whole steps,
//! `CASE.expected.safetensors` (our gradients, and parameters and moving average after the step).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for checks and benchmarks"
)]

mod case;
mod golden;
mod memory;
mod objective;
mod share;
mod step;

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use candle_core::Device;
use drifting_train::config::ComputeSettings;
use drifting_train::drift::Products;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::objective::Objective;
use self::step::Step;

/// The allocator of `drifting`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Something that is repeated and timed.
trait Contender {
    /// Does it once; the seconds of its parts by name.
    fn once(&mut self) -> BTreeMap<&'static str, f64>;
}

/// Memory is kept from step to step, as in `drifting train`.
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
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let (device, objective) = options(&mut arguments);
    if arguments == ["share"] {
        share::print();
        return ExitCode::SUCCESS;
    }
    let [command, case, folder] = &arguments[..] else {
        eprintln!("usage: step_race [OPTIONS] write|check|serve CASE FOLDER | step_race share");
        return ExitCode::FAILURE;
    };
    let folder = PathBuf::from(folder);
    let classes = case.strip_prefix("objective-").map(|classes| classes.parse().expect("a number of classes"));
    match (command.as_str(), classes) {
        ("write", None) => step::write(case, objective, &folder),
        ("write", Some(classes)) => objective::write(case, classes, objective, &folder),
        ("check", None) => step::check(case, objective, &folder, &device),
        ("serve", None) => serve(&mut Step::new(case::open(case, objective), &device)),
        ("serve", Some(_)) => serve(&mut Objective::read(case, &folder, &device, objective)),
        _ => panic!("{command} is none of write, check of a step, serve"),
    }
    ExitCode::SUCCESS
}

/// Takes the options from the front of the arguments; gives the device and the precision of the objective's products.
fn options(arguments: &mut Vec<String>) -> (Device, Products) {
    let (mut settings, mut objective) = (ComputeSettings::default(), Products::F32);
    while arguments.first().is_some_and(|argument| argument.starts_with("--")) {
        match arguments.remove(0).as_str() {
            "--recompute" => settings.recompute = true,
            "--objective" => objective = value(arguments),
            "--products" => settings.products = value(arguments),
            "--operations" => settings.operations = value(arguments),
            "--device" => settings.device = value(arguments),
            other => panic!("{other} is no option"),
        }
    }
    settings.apply();
    (settings.device.open().unwrap(), objective)
}

/// The value of an option as a setting is written.
fn value<T: DeserializeOwned>(arguments: &mut Vec<String>) -> T {
    serde_json::from_value(Value::String(arguments.remove(0))).unwrap()
}

/// Answers each number on standard input with the seconds of as many repetitions, the parts of all of them and the peak of
/// memory since the start.
fn serve(contender: &mut dyn Contender) {
    let before = memory::begin();
    for line in std::io::stdin().lock().lines() {
        let count: usize = line.unwrap().trim().parse().expect("a number of repetitions");
        let mut parts: BTreeMap<&str, f64> = BTreeMap::new();
        let mut seconds = Vec::new();
        for _ in 0..count {
            let started = Instant::now();
            let found = contender.once();
            seconds.push(started.elapsed().as_secs_f64());
            found.into_iter().for_each(|(name, time)| *parts.entry(name).or_default() += time);
        }
        println!("{}", json!({ "seconds": seconds, "parts": parts, "extra_bytes": memory::peak() - before }));
    }
}

/// Writes the settings of a case and what was found beside its tensors.
fn write_json(folder: &Path, case: &str, value: &Value) {
    std::fs::write(folder.join(format!("{case}.json")), serde_json::to_vec_pretty(value).unwrap()).unwrap();
}
