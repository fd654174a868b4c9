//! `drifting train`.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use drifting_train::config::{DeviceName, ExperimentConfig, MaeTrainConfig, Override, Plan, TrainConfig};
use drifting_train::data::{DataSource, Dataset};
use drifting_train::mae::MaeRun;
use drifting_train::profile::{self, Machine, Profile};
use drifting_train::ranks::{Alone, Ranks};
use drifting_train::run::{self, Experiment, GeneratorRun, Launch, RunError};
use drifting_train::toy::{Ablations, ToyConfig, ToyTrainer, run_ablations};

use crate::bar::Bar;
use crate::build::{build, command};
use crate::memory;
use crate::progress::Progress;
use crate::ranks;

/// Train what a configuration describes: a generator, its feature encoder, or points in the plane.
///
/// The sections of the file tell what is trained: `[generator]` a generator, `[mae]` a masked autoencoder, `[toy]` points
/// in the plane. The same command goes on with a run that was stopped, bit for bit. Ctrl-C finishes the step, saves and ends with exit code 3;
/// a second Ctrl-C ends at once, and what was saved before stays.
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
    /// What trains, in place of the configuration's `compute.device`: `cpu`, `cuda` or `cuda:N`.
    #[arg(long)]
    device: Option<DeviceName>,
    /// Settings that may differ from those that the run was started with: keys or sections; `data` and `weights` also
    /// stand for the contents of their files.
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    allow_changed: Vec<String>,
    /// Check the settings, print the plan (parameters, arithmetic, memory, what is missing) and end.
    #[arg(long)]
    dry_run: bool,
    /// Take a few steps from the start, print where their time goes by operation, and end; no run folder is touched.
    #[arg(long, value_name = "STEPS", num_args = 0..=1, default_missing_value = "5", conflicts_with = "dry_run")]
    profile: Option<NonZeroU64>,
    /// With --profile: where the trace for Chrome's viewer goes [default: NAME.trace.json].
    #[arg(long, value_name = "FILE", requires = "profile")]
    trace: Option<PathBuf>,
}

/// Exit code of a run that was asked to stop before its last step.
pub(crate) const STOPPED: u8 = 3;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let ranks = ranks::start()?;
    let result = among(args, &*ranks);
    match result {
        // The others wait for this one.
        Err(error) if ranks.size() > 1 => {
            eprintln!("error in rank {}: {error:#}", ranks.rank());
            ranks.abort()
        }
        result => result,
    }
}

fn among(args: &Args, ranks: &dyn Ranks) -> Result<ExitCode> {
    memory::keep();
    let device = args.device.map(|device| format!("compute.device=\"{device}\"").parse()).transpose();
    let device = device.map_err(anyhow::Error::msg)?;
    let set: Vec<Override> = args.set.iter().cloned().chain(device).collect();
    let mut experiment = ExperimentConfig::load(&args.config, &set)?;
    if let Some(steps) = args.steps {
        experiment.set_steps(steps);
    }
    if let Some(folder) = &args.data {
        experiment.set_data(DataSource::path(folder));
    }
    let generator_only =
        matches!(experiment, ExperimentConfig::Generator(_)) && !args.dry_run && args.profile.is_none();
    if ranks.size() > 1 && !generator_only {
        bail!(
            "{} processes: only the training of a generator is shared out; start this one without mpirun",
            ranks.size()
        );
    }
    if args.dry_run {
        println!("{}", plan(&experiment)?);
        return Ok(ExitCode::SUCCESS);
    }
    match experiment {
        ExperimentConfig::Generator(config) => generator(args, &config, ranks),
        ExperimentConfig::Mae(config) => mae(args, &config),
        ExperimentConfig::Toy(config) => toy(args, *config),
    }
}

/// The plan of an experiment; data that are not there are noted in it.
fn plan(experiment: &ExperimentConfig) -> Result<Plan> {
    let counted = experiment.count_images();
    let mut plan = Plan::of(experiment, counted.as_ref().ok().copied().flatten())?;
    if let Err(error) = counted {
        plan.missing.push(format!("data: {error}"));
    }
    Ok(plan)
}

fn generator(args: &Args, config: &TrainConfig, ranks: &dyn Ranks) -> Result<ExitCode> {
    let (feed, report) = config.reading().feed(config.queue)?;
    if ranks.rank() == 0 {
        eprintln!("{report}\n{}", Plan::generator(config, Some(report.images))?);
    }
    train(args, &mut GeneratorRun::new(config, feed)?.among(ranks)?, ranks)
}

fn mae(args: &Args, config: &MaeTrainConfig) -> Result<ExitCode> {
    let (mut run, report) = MaeRun::open(config)?;
    eprintln!("{report}\n{}", Plan::mae(config, Some(report.images))?);
    eprintln!("measured on {} held-out images", run.held_out());
    train(args, &mut run, &Alone)
}

fn toy(args: &Args, config: ToyConfig) -> Result<ExitCode> {
    eprintln!("{}", Plan::toy(&config));
    if config.ablations.is_empty() {
        return train(args, &mut ToyTrainer::new(config)?, &Alone);
    }
    match launched(args, &config.name, &Alone, |launch| run_ablations(&config, launch, &mut Progress::new()))? {
        Ablations::Finished { table, picture } => {
            eprintln!("done: {}, {}", table.display(), picture.display());
            Ok(ExitCode::SUCCESS)
        }
        Ablations::Stopped => {
            eprintln!("stopped; the same command goes on");
            Ok(ExitCode::from(STOPPED))
        }
    }
}

fn train(args: &Args, experiment: &mut dyn Experiment, ranks: &dyn Ranks) -> Result<ExitCode> {
    if let Some(steps) = args.profile {
        return print_profile(args, experiment, steps.get());
    }
    let (name, steps) = (experiment.settings().name().to_owned(), experiment.settings().steps());
    let outcome = launched(args, &name, ranks, |launch| run::train(experiment, launch, &mut Progress::new()))?;
    if ranks.rank() > 0 {
        return Ok(if outcome.finished { ExitCode::SUCCESS } else { ExitCode::from(STOPPED) });
    }
    let checkpoint = outcome.checkpoint.display();
    if outcome.finished {
        eprintln!("done: {} steps, {checkpoint}", outcome.step);
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("stopped after step {} of {steps}, saved {checkpoint}; the same command goes on", outcome.step);
    Ok(ExitCode::from(STOPPED))
}

/// Prints where the time of some steps goes.
fn print_profile(args: &Args, experiment: &mut dyn Experiment, steps: u64) -> Result<ExitCode> {
    let name = experiment.settings().name().to_owned();
    let path = args.trace.clone().unwrap_or_else(|| format!("{name}.trace.json").into());
    let machine = Machine::measure().map_err(anyhow::Error::msg)?;
    let bar = Bar::new();
    let profile = Profile::of(experiment, steps, machine, |progress, what| bar.show(progress, what.to_owned()));
    bar.finish();
    let profile = profile?;
    println!("{profile}");
    let trace = serde_json::to_vec(&profile::trace(&profile.lanes))?;
    drifting_models::weights::write_bytes(&path, &trace)?;
    println!("every span of every thread: {} (open it in chrome://tracing)", path.display());
    Ok(ExitCode::SUCCESS)
}

/// Calls `train` with all that the command line says about a run.
fn launched<T>(
    args: &Args,
    name: &str,
    ranks: &dyn Ranks,
    train: impl FnOnce(&Launch<'_>) -> Result<T, RunError>,
) -> Result<T> {
    let folder = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(name));
    let (stop, build, command) = (stop_on_signal()?, build(), command());
    let launch = Launch {
        folder: &folder,
        allow_changed: &args.allow_changed,
        build: &build,
        command: &command,
        stop: &stop,
        ranks,
    };
    Ok(train(&launch)?)
}

/// Reads the images of a run and reports what was left out.
pub(crate) fn open_data(config: &TrainConfig) -> Result<Dataset> {
    let (data, report) = config.data.open(config.generator.image)?;
    eprintln!("{report}");
    Ok(data)
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
