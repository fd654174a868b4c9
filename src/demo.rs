//! `drifting demo`: the whole road in one command.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use drifting_export::ExportSettings;
use drifting_models::weights::write_bytes;
use drifting_serve::engine::{EngineChoice, EngineSettings};
use drifting_serve::runtime::RuntimeSettings;
use drifting_serve::{ConnectionLimits, GateSettings, Limits, ServeSettings};
use drifting_train::config::{Plan, RunSettings, TrainConfig};
use drifting_train::data::{Dataset, DirectFeed};
use drifting_train::ranks::Alone;
use drifting_train::run::{self, GeneratorRun, Launch, Observer, Report, RunFolder};

use crate::build::{build, command};
use crate::progress::Progress;
use crate::{export, judge, serve, train};

/// The configuration of the demo.
const CONFIG: &str = include_str!("../configs/fashion-demo.toml");

/// The whole road in one command.
///
/// Trains on 5,000 pictures of clothes that come with the program (Fashion-MNIST, MIT licence, Zalando SE), exports the
/// generator to ONNX, verifies it, measures its quality and serves it on this machine. Everything is kept in one folder;
/// the same command goes on where it was stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the run.
    #[arg(long, value_name = "FOLDER", default_value = "runs/demo")]
    out: PathBuf,
    /// Longest time to train, in minutes.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// End after the measurement instead of serving.
    #[arg(long)]
    no_serve: bool,
    /// Port to serve on; 0 takes any free one.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Engine to verify and serve with: auto, onnxruntime, rten.
    #[arg(long, default_value_t)]
    engine: EngineChoice,
    /// Stop after this many steps, whatever the quality.
    #[arg(long, hide = true)]
    steps: Option<u64>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut config = TrainConfig::parse(CONFIG, "configs/fashion-demo.toml", &[])?;
    config.steps = args.steps.unwrap_or(config.steps);
    let data = Arc::new(train::open_data(&config)?);
    println!("1/4 training in {} (at most {} min)", args.out.display(), args.minutes);
    if !learn(args, &config, &data)? {
        return Ok(ExitCode::from(train::STOPPED));
    }
    let model_path = args.out.join("model.onnx");
    println!("2/4 exporting {} and verifying it", model_path.display());
    let model = crate::models::open(&args.out, None)?;
    export::print(&model_path, &export::write(model, &model_path, &ExportSettings::default(), args.engine)?);

    println!("3/4 measuring the quality");
    let model = crate::models::open(&args.out, None)?;
    let reference = judge::reference(&config, &data, &args.out.join("judge.safetensors"))?;
    let report = judge::measure(&reference, &model.generator()?, model.manifest.alpha.default, 100)?;
    println!("{report}");
    write_bytes(&args.out.join("quality.json"), format!("{}\n", serde_json::to_string_pretty(&report)?).as_bytes())?;
    println!("pictures: {}", newest_samples(&args.out)?.display());

    if args.no_serve {
        println!("4/4 not serving; `drifting serve {}` does", model_path.display());
        return Ok(ExitCode::SUCCESS);
    }
    println!("4/4 serving");
    serve::serve(&ServeSettings {
        models: vec![model_path.into()],
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), args.port),
        engine: EngineSettings {
            choice: args.engine,
            runtime: RuntimeSettings::from_env(),
            ..EngineSettings::default()
        },
        replicas: NonZeroUsize::MIN,
        limits: Limits::default(),
        connections: ConnectionLimits::default(),
        tls: None,
        gate: GateSettings::default(),
        shutdown_deadline: Duration::from_secs(10),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Trains until all steps are taken or the time is up; false when a person stopped it.
fn learn(args: &Args, config: &TrainConfig, data: &Arc<Dataset>) -> Result<bool> {
    eprintln!("{}", Plan::generator(config, None)?);
    let asked = train::stop_on_signal()?;
    let stop = AtomicBool::new(false);
    let limit = Duration::try_from_secs_f64(args.minutes * 60.0)?;
    let mut observer =
        Limited { progress: Progress::new(), started: Instant::now(), limit, asked: &asked, stop: &stop };
    let (build, command) = (build(), command());
    let feed = Box::new(DirectFeed::new(Arc::clone(data), config.seed));
    let launch =
        Launch { folder: &args.out, allow_changed: &[], build: &build, command: &command, stop: &stop, ranks: &Alone };
    let outcome = run::train(&mut GeneratorRun::new(config, feed)?, &launch, &mut observer)?;
    if asked.load(Ordering::Relaxed) {
        eprintln!("stopped after step {}, saved; the same command goes on", outcome.step);
        return Ok(false);
    }
    let minutes = observer.started.elapsed().as_secs_f64() / 60.0;
    println!("{} of {} steps in {minutes:.1} min", outcome.step, config.steps);
    Ok(true)
}

/// A training run with a time limit.
struct Limited<'a> {
    progress: Progress,
    started: Instant,
    limit: Duration,
    asked: &'a AtomicBool,
    stop: &'a AtomicBool,
}

impl Observer for Limited<'_> {
    fn started(&mut self, step: u64, settings: &dyn RunSettings) {
        self.progress.started(step, settings);
    }

    fn stepped(&mut self, report: &Report) {
        self.progress.stepped(report);
        if self.started.elapsed() > self.limit || self.asked.load(Ordering::Relaxed) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn wrote(&mut self, path: &Path) {
        self.progress.wrote(path);
    }
}

fn newest_samples(folder: &Path) -> Result<PathBuf> {
    Ok(RunFolder::open(folder)?.newest_samples()?.unwrap_or_else(|| folder.join("samples")))
}
