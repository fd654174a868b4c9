//! `drifting bench`: how fast an exported model is on this machine.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use drifting_models::ops::peak;
use drifting_serve::Model;
use drifting_serve::bench::{BenchSettings, Progress, Windows, bench};
use drifting_serve::engine::{EngineChoice, EngineSettings};
use drifting_serve::runtime::RuntimeSettings;

use crate::bar::Bar;

/// Measure how fast an exported model is on this machine.
///
/// Batches follow each other without a pause. Each measurement warms up, then runs windows until three in a row agree, and
/// tells what those three hold. The share of the peak compares the model's matrix products with one large matrix product,
/// measured in the same run with as many threads.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Exported model (.onnx).
    model: PathBuf,
    /// Images at once.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "1,2,4,8")]
    batches: Vec<usize>,
    /// Threads that compute one batch [default: 1 and all processors].
    #[arg(long, value_name = "N,N,...", value_delimiter = ',')]
    threads: Vec<NonZeroUsize>,
    /// Engine: auto, onnxruntime, rten.
    #[arg(long, value_name = "NAME", default_value_t)]
    engine: EngineChoice,
    /// Seconds of warm-up of each measurement.
    #[arg(long, value_name = "SECONDS", default_value = "0.5", value_parser = crate::serve::seconds)]
    warm_up: Duration,
    /// Seconds of one window, which holds at least three runs.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = crate::serve::seconds)]
    window: Duration,
    /// Windows of one measurement at most.
    #[arg(long, value_name = "N", default_value_t = Windows::default().most)]
    windows: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print CSV.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

impl Args {
    fn settings(&self) -> BenchSettings {
        let all = EngineSettings::default().thread_count();
        let usual = [1, all].into_iter().filter_map(NonZeroUsize::new);
        let mut threads = if self.threads.is_empty() { usual.collect() } else { self.threads.clone() };
        threads.dedup();
        let windows = Windows { warm_up: self.warm_up, length: self.window, most: self.windows, ..Windows::default() };
        BenchSettings { batches: self.batches.clone(), threads, windows, peak }
    }
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    let model = Model::open(&args.model)?;
    let engine = EngineSettings { choice: args.engine, runtime: RuntimeSettings::from_env(), ..Default::default() };
    let bar = Bar::new();
    let mut show = |now: &Progress| {
        if now.window == 0 || bar.moves() {
            bar.show(now.done, words(now));
        }
    };
    let report = bench(&model, &engine, &args.settings(), &|message| eprintln!("{message}"), &mut show)?;
    bar.finish();
    if let Some(reason) = &report.engine.fallback {
        eprintln!("(rten stands in: {reason})");
    }
    match (args.json, args.csv) {
        (true, _) => println!("{}", serde_json::to_string_pretty(&report).context("the report is no JSON")?),
        (_, true) => print!("{}", report.csv()),
        _ => print!("{report}"),
    }
    Ok(())
}

/// What is being done, in words.
fn words(now: &Progress) -> String {
    let Progress { threads, batch, window, images_per_second, .. } = *now;
    match batch {
        None => format!("{threads} threads: the machine's peak"),
        Some(batch) if window == 0 => format!("{threads} threads, batch {batch}: warming up"),
        Some(batch) => format!("{threads} threads, batch {batch}: window {window}, {images_per_second:.1} images/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags;

    fn parse(flags: &[&str]) -> Result<BenchSettings, clap::Error> {
        Ok(flags::parsed::<Args>(&[&["bench", "model.onnx"], flags].concat())?.settings())
    }

    #[test]
    fn flags_become_settings() {
        let usual = parse(&[]).unwrap();
        assert_eq!((usual.batches, usual.windows), (vec![1, 2, 4, 8], Windows::default()));
        assert_eq!(usual.threads.first().map(|threads| threads.get()), Some(1));
        let chosen = parse(&["--batches", "3,5", "--threads", "2", "--window", "0.25", "--windows", "4"]).unwrap();
        assert_eq!((chosen.batches, chosen.threads.len()), (vec![3, 5], 1));
        assert_eq!((chosen.windows.length, chosen.windows.most), (Duration::from_millis(250), 4));
        assert!(parse(&["--json", "--csv"]).is_err() && parse(&["--threads", "0"]).is_err());
    }
}
