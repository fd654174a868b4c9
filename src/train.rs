//! `drifting train`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use drifting_train::config::{ExperimentConfig, MaeTrainConfig, Override, RunSettings, TrainConfig};
use drifting_train::data::{DataSource, Dataset, DirectBatches};
use drifting_train::mae::MaeRun;
use drifting_train::run::{self, Experiment, GeneratorRun, Launch};

use crate::build::{build, command};
use crate::progress::Progress;

/// Train what a configuration describes: a generator or its feature encoder.
///
/// The sections of the file tell what is trained: `[generator]` a generator, `[mae]` a masked autoencoder. The same
/// command goes on with a run that was stopped, bit for bit. Ctrl-C finishes the step, saves and ends with exit code 3;
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
    /// Settings that may differ from those that the run was started with: keys or sections; `data` and `weights` also
    /// stand for the contents of their files.
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    allow_changed: Vec<String>,
    /// Check everything, print the plan and end.
    #[arg(long)]
    dry_run: bool,
}

/// Exit code of a run that was asked to stop before its last step.
pub(crate) const STOPPED: u8 = 3;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match ExperimentConfig::load(&args.config, &args.set)? {
        ExperimentConfig::Generator(config) => generator(args, *config),
        ExperimentConfig::Mae(config) => mae(args, *config),
    }
}

fn generator(args: &Args, mut config: TrainConfig) -> Result<ExitCode> {
    replace(args, &mut config.steps, &mut config.data);
    let data = Arc::new(open_data(&config)?);
    eprintln!("{}", plan(&config, &data)?);
    train(args, &mut GeneratorRun::new(&config, &data)?)
}

fn mae(args: &Args, mut config: MaeTrainConfig) -> Result<ExitCode> {
    replace(args, &mut config.steps, &mut config.data);
    let (mut data, report) = config.data.open(config.mae.image)?;
    eprintln!("{report}");
    let mut held_out = config.data.open_test(&data)?.map(|(test, _)| test);
    if held_out.is_none() && config.evaluation.hold_out > 0 {
        let (rest, held) = data.hold_out(config.evaluation.hold_out)?;
        (data, held_out) = (rest, Some(held));
    }
    eprintln!("{}", mae_plan(&config, held_out.as_ref())?);
    let batches = Box::new(DirectBatches::new(Arc::new(data), config.seed));
    train(args, &mut MaeRun::new(&config, batches, held_out.as_ref())?)
}

/// What the command line says in place of the configuration.
fn replace(args: &Args, steps: &mut u64, data: &mut DataSource) {
    *steps = args.steps.unwrap_or(*steps);
    if let Some(folder) = &args.data {
        *data = DataSource::path(folder);
    }
}

/// Trains, unless only the plan was asked for.
fn train(args: &Args, experiment: &mut dyn Experiment) -> Result<ExitCode> {
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    let (name, steps) = (experiment.settings().name().to_owned(), experiment.settings().steps());
    let folder = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(name));
    let (stop, build, command) = (stop_on_signal()?, build(), command());
    let launch =
        Launch { folder: &folder, allow_changed: &args.allow_changed, build: &build, command: &command, stop: &stop };
    let outcome = run::train(experiment, &launch, &mut Progress::new())?;
    let checkpoint = outcome.checkpoint.display();
    if outcome.finished {
        eprintln!("done: {} steps, {checkpoint}", outcome.step);
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("stopped after step {} of {steps}, saved {checkpoint}; the same command goes on", outcome.step);
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

/// What the training of a masked autoencoder will do, in a few lines.
fn mae_plan(config: &MaeTrainConfig, held_out: Option<&Dataset>) -> Result<String> {
    let parameters = drifting_models::mae_parameter_count(&config.mae)?;
    let (image, (rows, columns)) = (config.mae.image, config.mae.grid());
    let measured = held_out.map_or(0, |data| data.len().min(config.evaluation.images));
    Ok(format!(
        "{}: masked autoencoder, {:.2} M parameters, {}x{}x{} images of {} classes, {rows}x{columns} positions\n\
         {} steps of {} images ({} of them with classes), {:.0} % hidden, measured on {measured} held-out images",
        config.name(),
        parameters as f64 / 1e6,
        image.channels,
        image.height,
        image.width,
        config.mae.classes,
        config.steps,
        config.batch.images,
        config.finetune.steps.min(config.steps),
        100.0 * config.masking.ratio,
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
