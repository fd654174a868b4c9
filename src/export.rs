//! `drifting export`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Result, bail};
use drifting_export::targets::Deployment;
use drifting_export::{ExportSettings, ExternalData, ImageModel, Part, Profile, Report, export, export_network};
use drifting_models::autoencoder::Decoder;
use drifting_serve::Model;
use drifting_serve::engine::{self, EngineChoice, EngineSettings};
use drifting_serve::runtime::RuntimeSettings;
use drifting_spec::{Manifest, Pixels};
use drifting_train::run::ModelFile;

use crate::{engines, models, target};

/// Write a generator as an ONNX file and verify it.
///
/// The file carries its whole description, so that serving needs nothing else. It is compared with candle through ONNX
/// Runtime, rten and candle-onnx; the result is written beside it as verify.json, and a model that fails is not written.
/// A generator of latents gets its decoder with --decoder. A model card and a sheet of samples are written too.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run folder, or a weight file of a run or of `drifting import`; with --network, what that network is read from.
    model: PathBuf,
    /// The ONNX file to write, or the folder of --target.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Which moving average of a run, by its decay [default: the first].
    #[arg(long, value_name = "DECAY")]
    ema: Option<f64>,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    graph: GraphArgs,
    /// Engine to verify with: auto, onnxruntime, rten.
    #[arg(long, default_value_t)]
    engine: EngineChoice,
    #[command(flatten)]
    target: target::Args,
}

/// What the file holds.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Networks")]
struct NetworkArgs {
    /// The decoder of a generator of latents, for a file that makes images: the folder of an AutoencoderKL (config.json,
    /// diffusion_pytorch_model.safetensors) or of TAEF2, or taef2_dec.safetensors.
    #[arg(long, value_name = "FOLDER|FILE", conflicts_with = "network")]
    decoder: Option<PathBuf>,
    /// Write the decoder into a second file, FILE with the ending .decoder.onnx; the generator's then makes latents.
    #[arg(long, requires = "decoder")]
    parts: bool,
    /// What the image is made of: float (numbers as the network gives them) or uint8 (levels 0 to 255).
    #[arg(long, default_value_t)]
    pixels: Pixels,
    /// Write another network than a generator: the encoder of a masked autoencoder's weight file, or the decoder that
    /// --decoder would take.
    #[arg(long, value_name = "NETWORK")]
    network: Option<PartKind>,
    /// Height and width of the images of --network decoder: 256 or 256x384.
    #[arg(long, value_name = "SIZE", default_value = "256", requires = "network")]
    size: Size,
}

/// A network that is no generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PartKind {
    Encoder,
    Decoder,
}

/// Height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size((usize, usize));

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (height, width) = text.split_once('x').unwrap_or((text, text));
        let side =
            |text: &str| text.parse::<usize>().map_err(|_| format!("{text:?} is no side; 256 or 256x384 would be"));
        Ok(Self((side(height)?, side(width)?)))
    }
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
    if let Some(kind) = args.network.network {
        if args.target.is_server() {
            bail!("--network makes a part of a model, --target a model: leave one of them out");
        }
        let part = match kind {
            PartKind::Encoder if !args.network.pixels.is_float() => {
                bail!("--pixels {} is for images, an encoder makes feature maps: leave it out", args.network.pixels)
            }
            PartKind::Encoder => Part::encoder(&args.model)?,
            PartKind::Decoder => Part::decoder(&args.model, args.network.size.0, args.network.pixels)?,
        };
        print(&args.out, &write_part(&part, &args.out, &settings, args.engine)?);
        return Ok(ExitCode::SUCCESS);
    }
    let plan = args.target.plan_batches(settings);
    if plan.is_some() && !engine::TENSORRT_BUILT_IN {
        bail!("--target tensorrt needs a program that was built with it: cargo build --release --features tensorrt");
    }
    let model = models::open(&args.model, args.ema)?;
    let deployment = args.target.plan(&args.out, &model.manifest, settings)?;
    let decoder = args.network.decoder.as_deref().map(Decoder::open).transpose()?;
    let NetworkArgs { pixels, parts, .. } = args.network;
    match (decoder, deployment) {
        (Some(_), _) if parts && args.target.is_server() => {
            bail!("--parts makes two files, a server's model is one: leave it or --target out")
        }
        (Some(decoder), None) if parts => {
            let latent = model.manifest.generator.image;
            print(&args.out, &write(&model, &args.out, &settings, args.engine)?);
            let beside = args.out.with_extension("decoder.onnx");
            let part = Part::behind(decoder, latent, pixels);
            print(&beside, &write_part(&part, &beside, &settings, args.engine)?);
        }
        (decoder, deployment) => {
            let behind = Behind { decoder: decoder.as_ref(), pixels };
            let out = deployment.as_ref().map_or_else(|| Ok(args.out.clone()), Deployment::make_folder)?;
            let (manifest, report) = write_images(&model, behind, &out, &settings, args.engine)?;
            print(&out, &report);
            let files = deployment.map(|deployment| deployment.write(&manifest, &report.model_sha256)).transpose()?;
            files.iter().flatten().for_each(|file| eprintln!("wrote {}", file.display()));
            plan.map(|batches| write_plan(&out, &batches)).transpose()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is behind a generator in its file.
#[derive(Clone, Copy, Default)]
struct Behind<'a> {
    decoder: Option<&'a Decoder>,
    pixels: Pixels,
}

/// Exports and verifies a generator as it is.
pub(crate) fn write(model: &ModelFile, out: &Path, settings: &ExportSettings, choice: EngineChoice) -> Result<Report> {
    Ok(write_images(model, Behind::default(), out, settings, choice)?.1)
}

fn write_images(
    model: &ModelFile,
    behind: Behind<'_>,
    out: &Path,
    settings: &ExportSettings,
    choice: EngineChoice,
) -> Result<(Manifest, Report)> {
    let generator = model.generator()?;
    let network = ImageModel { generator: &generator, decoder: behind.decoder };
    let manifest = network.manifest(model.manifest.clone(), behind.pixels);
    let engine = engine_settings(choice);
    let report = export(out, network, &manifest, settings, |path| engines::verifiers(path, &engine))?;
    Ok((manifest, report))
}

/// Builds a plan of TensorRT from the exported model and writes it beside it.
fn write_plan(out: &Path, batches: &[usize]) -> Result<()> {
    let plan = engine::build_plan(&Model::open(out)?, batches, &engine_settings(EngineChoice::TensorRt))?;
    let path = out.with_extension("plan");
    plan.write(&path)?;
    eprintln!("wrote {} (TensorRT-RTX {}, batches {batches:?})", path.display(), plan.card.tensorrt);
    Ok(())
}

fn write_part(part: &Part, out: &Path, settings: &ExportSettings, choice: EngineChoice) -> Result<Report> {
    let engine = engine_settings(choice);
    let open = |path: &Path| engines::network_verifiers(path, &engine);
    Ok(export_network(out, part.network(), &part.manifest, settings, open)?)
}

fn engine_settings(choice: EngineChoice) -> EngineSettings {
    EngineSettings { choice, runtime: RuntimeSettings::from_env(), ..EngineSettings::default() }
}

/// Tells what was written and how far each engine is from candle.
pub(crate) fn print(out: &Path, report: &Report) {
    eprintln!("wrote {} (sha256 {})", out.display(), report.model_sha256);
    for runner in &report.runners {
        let largest = runner.batches.iter().filter_map(|batch| batch.max_abs_diff).fold(0.0, f32::max);
        eprintln!("  verified with {}: differs from candle by {largest:.1e} at most", runner.name);
    }
}
