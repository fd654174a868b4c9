//! `drifting ablate`.

mod plan;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use drifting_models::weights::write_bytes;
use drifting_train::config::TrainConfig;
use drifting_train::eval::Reference;
use drifting_train::ranks::Alone;
use drifting_train::run::{self, GeneratorRun, Launch};

use self::plan::Plan;
use self::report::{Measured, Report};
use crate::build::{build, command};
use crate::progress::Progress;
use crate::{judge, models, train};

/// Train variants of one configuration, judge them alike and report which is better.
///
/// The plan names a configuration, the settings by which each variant differs from it, and claims of the kind "this one
/// is better than that one". Each variant has a run folder of its own; the same command goes on where it was stopped.
/// The report tells the Fréchet distance of every variant beside that of real images, and which claims hold.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Plan, for example configs/ablations/fashion.toml.
    plan: PathBuf,
    /// Folder of the runs and the report [default: runs/NAME].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Check every variant, print the plan and end.
    #[arg(long)]
    dry_run: bool,
    /// Report what is finished and train nothing.
    #[arg(long)]
    report_only: bool,
}

/// Exit code when a claim does not hold.
const REFUTED: u8 = 4;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let plan = Plan::read(&args.plan)?;
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&plan.name));
    let mut runs = Vec::new();
    for variant in &plan.variants {
        for &seed in &plan.seeds {
            let config = plan.config(variant, seed)?;
            eprintln!("{} seed {seed}: {} steps, {}", variant.name, config.steps, variant.set.join(", "));
            runs.push((variant.name.clone(), out.join(format!("{}-{seed}", variant.name)), config));
        }
    }
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    let (_, _, first) = &runs[0];
    if let Some((name, ..)) = runs.iter().find(|(.., config)| config.data != first.data) {
        bail!("{name} has other data than the first variant: their distances cannot be compared");
    }
    let data = train::open_data(first)?;
    std::fs::create_dir_all(&out)?;
    let reference = judge::reference(first, &data, &out.join("judge.safetensors"))?;
    let stop = train::stop_on_signal()?;
    let mut measured = Vec::new();
    for (name, folder, config) in &runs {
        if !args.report_only {
            eprintln!("{}", folder.display());
            learn(config, folder, &stop)?;
        }
        if stop.load(Ordering::Relaxed) {
            eprintln!("stopped; the same command goes on");
            return Ok(ExitCode::from(train::STOPPED));
        }
        if let Some(found) = measure(name, folder, config, &reference, plan.images)? {
            measured.push(found);
        }
    }
    let report = Report::new(&plan, reference.judge().data_sha256(), measured);
    write_bytes(&out.join("report.md"), report.markdown().as_bytes())?;
    write_bytes(&out.join("report.json"), format!("{}\n", serde_json::to_string_pretty(&report)?).as_bytes())?;
    println!("{}", report.markdown());
    println!("written to {}", out.join("report.md").display());
    Ok(if report.all_hold() { ExitCode::SUCCESS } else { ExitCode::from(REFUTED) })
}

fn learn(config: &TrainConfig, folder: &Path, stop: &AtomicBool) -> Result<()> {
    let (feed, _) = config.reading().feed(config.queue)?;
    let (build, command) = (build(), command());
    let launch = Launch { folder, allow_changed: &[], build: &build, command: &command, stop, ranks: &Alone };
    run::train(&mut GeneratorRun::new(config, feed)?, &launch, &mut Progress::new())?;
    Ok(())
}

/// Judges a run that is finished, at the guidance strength of its settings.
fn measure(
    variant: &str,
    folder: &Path,
    config: &TrainConfig,
    reference: &Reference,
    images: usize,
) -> Result<Option<Measured>> {
    if !folder.is_dir() {
        return Ok(None);
    }
    let model = models::open(folder, None)?;
    if model.manifest.provenance.step < config.steps {
        return Ok(None);
    }
    let quality = judge::measure(reference, &model.generator()?, config.sampling.alpha, images)?;
    Ok(Some(Measured { variant: variant.to_owned(), seed: config.seed, step: config.steps, quality }))
}
