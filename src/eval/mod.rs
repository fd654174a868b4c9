//! `drifting eval`.

mod network;
mod real;
mod source;

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail, ensure};
use drifting_models::efficientnet::EfficientNetLite0;
use drifting_models::weights::write_bytes;
use drifting_serve::engine::EngineChoice;
use drifting_train::eval::{
    Contract, EvalError, Evaluation, ImageSet, Measure, NetworkName, Provenance, QualityReport, RealImages, Rounding,
    Settings, Yardstick, curve, sweep,
};
use drifting_train::run::RunFolder;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use self::network::Resize;
use self::real::Real;
use self::source::{Request, Source};
use crate::build::build;
use crate::{judge, memory, models, train};

/// Measure how good generated images are.
///
/// Without further options a small CNN, trained on the real images with a fixed seed and kept in the run folder, recognises
/// generated images of every class; their diversity and their Fréchet distance in the CNN's features are measured beside
/// the real ones'. With --network, --measures or --statistics images are rounded to pictures first and more is measured:
/// docs/eval.md tells what, and what the JSON holds.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run folder, weight file, exported model (.onnx), or folder of PNG or JPEG images.
    source: PathBuf,
    /// Guidance strengths, one report each [default: the model's].
    #[arg(long, value_delimiter = ',')]
    alpha: Vec<f32>,
    /// Generated images of each class.
    #[arg(short, long, default_value_t = 100)]
    n: usize,
    /// Which moving average, by its decay [default: the first].
    #[arg(long, value_name = "DECAY")]
    ema: Option<f64>,
    /// Real images to judge by in place of the run's: the name of those that come with the program (fashion-mnist), or a
    /// folder.
    #[arg(long, value_name = "NAME|FOLDER")]
    data: Option<String>,
    /// Where the judge is kept [default: judge.safetensors in the run folder].
    #[arg(long, value_name = "FILE")]
    judge: Option<PathBuf>,
    /// Network in whose features images are compared [default: judge].
    #[arg(long, value_name = "NAME", value_parser = network::name())]
    network: Option<NetworkName>,
    /// File of the network's weights, as published or as safetensors.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// How images are resized and scaled for the Inception of FID.
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    preparation: Resize,
    /// Side that images are resized to for lite0.
    #[arg(long, value_name = "PIXELS", default_value_t = EfficientNetLite0::SIDE)]
    side: usize,
    /// What is measured: fd, kid, is, precision, density, accuracy, diversity, neighbours [default: all that the network
    /// and the images allow].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    measures: Vec<Measure>,
    /// Statistics in place of real images: a file of --save-statistics, or a published .npz.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    statistics: Option<PathBuf>,
    /// Take statistics of another network, preparation or shape; the result says that it is not comparable.
    #[arg(long, requires = "statistics")]
    mismatched_statistics: bool,
    /// Also write mean and covariance of the real images: .npz for other programs, anything else with all that is known.
    #[arg(long, value_name = "FILE", conflicts_with = "statistics")]
    save_statistics: Option<PathBuf>,
    /// Seed of noise and style, and of all that is chosen.
    #[arg(long, default_value_t = judge::SEED)]
    seed: u64,
    /// Engine of an exported model: auto, onnxruntime, rten.
    #[arg(long, default_value_t)]
    engine: EngineChoice,
    /// Also write the reports as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw the figures over alpha, as PNG.
    #[arg(long, value_name = "FILE")]
    curve: Option<PathBuf>,
}

impl Args {
    /// Whether what is asked is no more than the judge has always told of a run.
    fn is_short(&self) -> bool {
        let more = self.network.is_some()
            || !self.measures.is_empty()
            || self.statistics.is_some()
            || self.save_statistics.is_some()
            || self.seed != judge::SEED;
        self.source.join("config.toml").is_file() && !more
    }

    /// Before anything is measured in vain.
    fn check_curve(&self, alphas: &[f32]) -> Result<()> {
        let two = alphas.iter().any(|alpha| Some(alpha) != alphas.first());
        ensure!(self.curve.is_none() || two, "--curve needs at least two values of --alpha");
        Ok(())
    }

    /// The guidance strengths that a model allows.
    fn alphas(&self, manifest: &drifting_spec::Manifest) -> Result<Vec<f32>> {
        let range = manifest.alpha;
        let alphas = if self.alpha.is_empty() { vec![range.default] } else { self.alpha.clone() };
        if let Some(alpha) = alphas.iter().find(|alpha| !range.contains(**alpha)) {
            bail!("--alpha {alpha} is outside the trained range {}..{}", range.min, range.max);
        }
        if !(2..=10_000).contains(&self.n) {
            bail!("-n {}: between 2 and 10000 images of each class can be measured", self.n);
        }
        self.check_curve(&alphas)?;
        Ok(alphas)
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    memory::keep();
    let reports = if args.is_short() { short(args)? } else { evaluate(args)? };
    let evaluations: Vec<Evaluation> = reports.iter().map(|(evaluation, _)| evaluation.clone()).collect();
    if evaluations.len() > 1 && !args.is_short() {
        println!("{}", sweep(&evaluations));
    }
    if let Some(path) = &args.json {
        let entries = reports.into_iter().map(|(evaluation, quality)| entry(&evaluation, quality.as_ref()));
        let entries = entries.collect::<Result<Vec<_>>>()?;
        write_bytes(path, format!("{}\n", serde_json::to_string_pretty(&entries)?).as_bytes())?;
    }
    if let Some(path) = &args.curve {
        let png = curve(&evaluations).context("--curve needs at least two values of --alpha")?;
        write_bytes(path, &png)?;
    }
    Ok(ExitCode::SUCCESS)
}

type Report = (Evaluation, Option<QualityReport>);

/// What the judge has always told of a run.
fn short(args: &Args) -> Result<Vec<Report>> {
    let mut config = RunFolder::open(&args.source)?.config()?;
    if let Some(data) = &args.data {
        config.data = real::named(data);
    }
    let model = models::open(&args.source, args.ema)?;
    let alphas = args.alphas(&model.manifest)?;
    let data = train::open_data(&config)?;
    let path = args.judge.clone().unwrap_or_else(|| args.source.join("judge.safetensors"));
    let reference = judge::reference(&config, &data, &path)?;
    let source = Source::open(&args.source, args.ema, args.engine)?;
    let generator = model.generator()?;
    let mut reports = Vec::new();
    for alpha in alphas {
        let report = judge::measure(&reference, &generator, alpha, args.n)?;
        println!("step {}, alpha {alpha}\n{report}\n", model.manifest.provenance.step);
        let real = (real::name(&config.data), Some(reference.judge().data_sha256().to_owned()));
        let provenance = complete(source.provenance(alpha, judge::SEED), real);
        reports.push((report.evaluation(reference.judge(), provenance), Some(report)));
    }
    Ok(reports)
}

/// Everything else.
fn evaluate(args: &Args) -> Result<Vec<Report>> {
    let mut source = Source::open(&args.source, args.ema, args.engine)?;
    let alphas = match source.manifest() {
        Some(manifest) => args.alphas(manifest)?,
        None => {
            ensure!(args.alpha.is_empty(), "--alpha goes with a generator, {} holds images", args.source.display());
            args.check_curve(&[])?;
            vec![1.0]
        }
    };
    let shape = source.shape()?;
    let data = args.data.as_deref().map(real::named).or(source.config.as_ref().map(|config| config.data.clone()));
    let real = match (&args.statistics, data) {
        (Some(path), _) => Real::statistics(path)?,
        (None, Some(data)) => Real::images(&data, shape)?,
        (None, None) => bail!("{} names no real images: give --data or --statistics", args.source.display()),
    };
    let kept = source.config.as_ref().map(|_| args.source.join("judge.safetensors"));
    let kept = args.judge.clone().or(kept);
    let network = network::open(args, real.training(), kept.as_deref())?;
    let rounding = match network.distance_name().as_str() {
        "FID" => Rounding::Truncated,
        _ => Rounding::Nearest,
    };
    let rounding = source.rounding(rounding);
    let contract = Contract::new(network.as_ref(), shape, rounding);
    let classes = real.classes();
    let labelled = source.label(&classes)?;
    let mut settings =
        Settings { network: network.as_ref(), measures: args.measures.clone(), classes, labelled, seed: args.seed };
    if settings.measures.is_empty() {
        settings.measures = settings.possible(real.training().is_some());
    }
    let images = source.images(args.n);
    let bar = Looking::new()?;
    let name = real.name();
    let yardstick = match real {
        Real::Images { training, test, .. } => {
            let mut test = RealImages::some(&test, images, args.seed);
            let mut training = RealImages::all(&training);
            bar.start("real images", training.images() + test.images());
            Yardstick::of_images(settings, &mut training, &mut test, &mut |images| bar.at(images))?
        }
        Real::Statistics { statistics, .. } => {
            Yardstick::of_statistics(settings, *statistics, &contract, args.mismatched_statistics).map_err(mismatch)?
        }
    };
    if let Some(path) = &args.save_statistics {
        yardstick.statistics(contract.clone(), name.1.as_deref().unwrap_or_default(), &program()).save(path)?;
    }
    let mut reports = Vec::new();
    for alpha in alphas {
        bar.start("generated images", images);
        let provenance = complete(source.provenance(alpha, args.seed), name.clone());
        let mut set = source.set(Request { seed: args.seed, alpha, per_class: args.n, rounding })?;
        let evaluation = yardstick.measure(set.as_mut(), contract.clone(), provenance, &mut |images| bar.at(images))?;
        bar.end();
        println!("{evaluation}\n");
        reports.push((evaluation, None));
    }
    Ok(reports)
}

/// Says what to do about statistics of another contract.
fn mismatch(error: EvalError) -> anyhow::Error {
    match error {
        EvalError::Contract(_) => {
            anyhow!("{error}; --mismatched-statistics compares all the same, and says so in the result")
        }
        other => other.into(),
    }
}

/// Adds what does not depend on the source.
fn complete(provenance: Provenance, (real, real_sha256): (String, Option<String>)) -> Provenance {
    Provenance { real, real_sha256, program: program(), ..provenance }
}

/// Version and commit.
fn program() -> String {
    let build = build();
    format!("drifting {} {}{}", build.version, build.commit, if build.dirty { " (changed)" } else { "" })
}

/// One entry of the JSON: the evaluation, with step and alpha where they always were, and the bare values by name for
/// tables and plots.
fn entry(evaluation: &Evaluation, quality: Option<&QualityReport>) -> Result<Value> {
    let mut entry = serde_json::to_value(evaluation)?;
    entry["step"] = serde_json::to_value(evaluation.provenance.step)?;
    entry["alpha"] = serde_json::to_value(evaluation.provenance.alpha)?;
    entry["values"] =
        evaluation.figures.iter().map(|figure| (figure.name.clone(), Value::from(figure.value))).collect();
    if let Some(quality) = quality {
        entry["quality"] = serde_json::to_value(quality)?;
    }
    Ok(entry)
}

/// How many images the network has looked at.
struct Looking(ProgressBar);

impl Looking {
    fn new() -> Result<Self> {
        let bar = if stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}, {eta} left")?);
        Ok(Self(bar))
    }

    fn start(&self, what: &'static str, images: usize) {
        self.0.reset();
        self.0.set_length(images as u64);
        self.0.set_message(what);
    }

    fn at(&self, images: usize) {
        self.0.set_position(images as u64);
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}
