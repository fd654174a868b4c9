//! `drifting export`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use drifting_export::{ExportSettings, ExternalData, Profile, Report, export};
use drifting_serve::engine::{EngineChoice, EngineSettings};
use drifting_serve::runtime::RuntimeSettings;
use drifting_train::run::ModelFile;

use crate::{engines, models, target};

/// Write a generator as an ONNX file and verify it.
///
/// The file carries its whole description, so that serving needs nothing else. It is compared with candle through ONNX
/// Runtime, rten and candle-onnx, as far as they know the profile's operators; the result is written beside it as verify.json, and a model that fails is not written.
/// A model card and a sheet of samples are written too.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run folder, or a weight file of a run or of `drifting import`.
    model: PathBuf,
    /// The ONNX file to write, or the folder of --target.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Which moving average of a run, by its decay [default: the first].
    #[arg(long, value_name = "DECAY")]
    ema: Option<f64>,
    #[command(flatten)]
    graph: GraphArgs,
    /// Engine to verify with: auto, onnxruntime, rten.
    #[arg(long, default_value_t)]
    engine: EngineChoice,
    #[command(flatten)]
    target: target::Args,
}

/// How the graph is written.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Graph")]
struct GraphArgs {
    /// For which engines the graph is spelled, and in which numbers: portable, ort, fp16, bf16, int8.
    #[arg(long, default_value_t)]
    profile: Profile,
    /// Make the graph for this batch size only [default: any].
    #[arg(long, value_name = "N")]
    batch: Option<NonZeroUsize>,
    /// Whether weights go into a second file beside the model: auto (above 1.5 GiB), always, never.
    #[arg(long, value_name = "WHEN", default_value_t)]
    external_data: ExternalData,
}

impl GraphArgs {
    fn settings(&self) -> ExportSettings {
        ExportSettings { profile: self.profile, batch: self.batch, external_data: self.external_data }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let settings = args.graph.settings();
    settings.validate()?;
    let model = models::open(&args.model, args.ema)?;
    let deployment = args.target.plan(&args.out, &model.manifest, settings)?;
    let out = match &deployment {
        Some(deployment) => deployment.make_folder()?,
        None => args.out.clone(),
    };
    if let Some(warning) = settings.warning() {
        eprintln!("note: {warning}");
    }
    let manifest = model.manifest.clone();
    let report = write(model, &out, &settings, args.engine)?;
    print(&out, &report);
    if let Some(deployment) = deployment {
        for file in deployment.write(&manifest, &report.model_sha256)? {
            eprintln!("wrote {}", file.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Exports and verifies a model.
pub(crate) fn write(model: ModelFile, out: &Path, settings: &ExportSettings, choice: EngineChoice) -> Result<Report> {
    let engine = EngineSettings { choice, runtime: RuntimeSettings::from_env(), ..EngineSettings::default() };
    let (generator, manifest) = model.into_generator()?;
    Ok(export(out, generator, &manifest, settings, engines::verifiers(&engine))?)
}

/// Tells what was written and how far each engine is from candle.
pub(crate) fn print(out: &Path, report: &Report) {
    eprintln!("wrote {} (sha256 {})", out.display(), report.model_sha256);
    for runner in &report.runners {
        let largest = runner.batches.iter().filter_map(|batch| batch.max_abs_diff).fold(0.0, f32::max);
        let psnr = runner.psnr_db.filter(|_| report.least_psnr_db.is_some());
        let psnr = psnr.map_or_else(String::new, |psnr| format!(", {psnr:.1} dB"));
        eprintln!("  verified with {}: differs from candle by {largest:.1e} at most{psnr}", runner.name);
    }
    for note in &report.notes {
        eprintln!("  {note}");
    }
}
