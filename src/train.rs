//! `drifting train`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use drifting_train::config::{Override, TrainConfig};
use drifting_train::data::{DataSource, Dataset, DirectFeed};
use drifting_train::run;

use crate::progress::Progress;

/// Train a generator.
///
/// The same command goes on with a run that was stopped, bit for bit. Ctrl-C finishes the step, saves and ends with
/// exit code 3; a second Ctrl-C ends at once, and what was saved before stays.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Configuration, for example configs/fashion-demo.toml.
    config: PathBuf,
    /// Run folder; a new one or one to go on with [default: runs/NAME].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Real images in place of the configuration's: a folder of idx files or of class folders.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Change a setting, for example `--set schedule.lr=1e-3`; can be given several times.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<Override>,
    /// Number of steps in place of the configuration's.
    #[arg(long)]
    steps: Option<u64>,
    /// Check everything, print the plan and end.
    #[arg(long)]
    dry_run: bool,
}

/// Exit code of a run that was asked to stop before its last step.
pub(crate) const STOPPED: u8 = 3;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut config = TrainConfig::load(&args.config, &args.set)?;
    config.steps = args.steps.unwrap_or(config.steps);
    if let Some(folder) = &args.data {
        config.data = DataSource::path(folder);
    }
    let data = open_data(&config)?;
    let folder = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&config.name));
    eprintln!("{}", plan(&config, &data)?);
    if args.dry_run {
        let feed = DirectFeed::new(Arc::new(data), config.seed);
        drifting_train::trainer::Trainer::new(&config, Box::new(feed))?;
        return Ok(ExitCode::SUCCESS);
    }
    let stop = stop_on_signal()?;
    let outcome = run::train(&config, &data, &folder, &stop, &mut Progress::new())?;
    let checkpoint = outcome.checkpoint.display();
    if outcome.finished {
        eprintln!("done: {} steps, {checkpoint}", outcome.step);
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("stopped after step {} of {}, saved {checkpoint}; the same command goes on", outcome.step, config.steps);
    Ok(ExitCode::from(STOPPED))
}

/// Reads the images of a run and reports what was left out.
pub(crate) fn open_data(config: &TrainConfig) -> Result<Dataset> {
    let (data, report) = config.data.open(config.generator.image)?;
    eprintln!("{report}");
    Ok(data)
}

/// What a run will do, in a few lines.
pub(crate) fn plan(config: &TrainConfig, data: &Dataset) -> Result<String> {
    let parameters = drifting_models::parameter_count(&config.generator)?;
    let batch = config.batch;
    let image = config.generator.image;
    Ok(format!(
        "{}: {:.2} M parameters, {}x{}x{} images of {} classes, {} tokens\n\
         {} steps of {} generated images ({} classes x {}, {} positives, {} unconditional), keys {}",
        config.name,
        parameters as f64 / 1e6,
        image.channels,
        image.height,
        image.width,
        data.classes().len(),
        config.generator.tokens(),
        config.steps,
        config.images_per_step(),
        batch.classes,
        batch.generated,
        batch.positives,
        batch.unconditional,
        config.features.keys.join(" "),
    ))
}

/// A flag that Ctrl-C and SIGTERM set; a second signal ends the process at once.
pub(crate) fn stop_on_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step; press again to end at once");
    })
    .context("cannot listen for signals")?;
    Ok(stop)
}
