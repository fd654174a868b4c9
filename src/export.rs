//! `drifting export`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Result, bail};
use drifting_export::{
    ExportSettings, ExternalData, ImageModel, OwnedModel, Part, Profile, Report, export, export_network,
};
use drifting_models::autoencoder::Decoder;
use drifting_serve::Model;
use drifting_serve::engine::{self, EngineChoice, EngineSettings};
use drifting_serve::runtime::RuntimeSettings;
use drifting_spec::{Manifest, Pixels};
use drifting_train::run::ModelFile;
use indicatif::DecimalBytes;

use crate::{engines, memory, models, target};

/// Write a generator as an ONNX file and verify it.
///
/// The file carries its whole description, so that serving needs nothing else. It is compared with candle through ONNX
/// Runtime, rten and candle-onnx, as far as they know the profile's operators; the result is written beside it as verify.json, and a model that fails is not written.
/// A model card and a sheet of samples are written too. A generator of latents gets its decoder with --decoder.
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
    let start = Instant::now();
    make(args)?;
    let memory = memory::peak().map_or_else(String::new, |peak| format!(", peak memory {}", DecimalBytes(peak)));
    eprintln!("  {:.1} s{memory}", start.elapsed().as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

fn make(args: &Args) -> Result<()> {
    let settings = args.graph.settings();
    settings.validate()?;
    if let Some(warning) = settings.warning() {
        eprintln!("note: {warning}");
    }
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
        return Ok(());
    }
    let plan = args.target.plan_batches(settings);
    if plan.is_some() && !engine::TENSORRT_BUILT_IN {
        bail!("--target tensorrt needs a program that was built with it: cargo build --release --features tensorrt");
    }
    let model = models::open(&args.model, args.ema)?;
    let NetworkArgs { pixels, parts, .. } = args.network;
    let deployed = args.target.plan(&args.out, &model.manifest, settings)?.is_some();
    if parts && deployed {
        bail!("--parts makes two files, a server's model is one: leave it or --target out");
    }
    let mut decoder = args.network.decoder.as_deref().map(Decoder::open).transpose()?;
    let latent = model.manifest.generator.image;
    let part = decoder.take_if(|_| parts).map(|decoder| Part::behind(decoder, latent, pixels));
    let behind = if part.is_some() { Behind::default() } else { Behind { decoder, pixels } };
    let manifest = behind.manifest(model.manifest.clone());
    let deployment = args.target.plan(&args.out, &manifest, settings)?;
    let out = match &deployment {
        Some(deployment) => deployment.make_folder()?,
        None => args.out.clone(),
    };
    let report = write_images(model, behind, &out, &settings, args.engine)?;
    print(&out, &report);
    if let Some(part) = part {
        let beside = args.out.with_extension("decoder.onnx");
        print(&beside, &write_part(&part, &beside, &settings, args.engine)?);
    }
    if let Some(deployment) = deployment {
        for file in deployment.write(&manifest, &report.model_sha256)? {
            eprintln!("wrote {}", file.display());
        }
    }
    plan.map(|batches| write_plan(&out, &batches)).transpose()?;
    Ok(())
}

/// What is behind a generator in its file.
#[derive(Default)]
struct Behind {
    decoder: Option<Decoder>,
    pixels: Pixels,
}

impl Behind {
    /// A generator's manifest for the file with all of it.
    fn manifest(&self, manifest: Manifest) -> Manifest {
        ImageModel::manifest_with(manifest, self.decoder.as_ref(), self.pixels)
    }
}

/// Exports and verifies a generator as it is.
pub(crate) fn write(model: ModelFile, out: &Path, settings: &ExportSettings, choice: EngineChoice) -> Result<Report> {
    write_images(model, Behind::default(), out, settings, choice)
}

fn write_images(
    model: ModelFile,
    behind: Behind,
    out: &Path,
    settings: &ExportSettings,
    choice: EngineChoice,
) -> Result<Report> {
    let (generator, manifest) = model.into_generator()?;
    let manifest = behind.manifest(manifest);
    let network = OwnedModel { generator, decoder: behind.decoder };
    Ok(export(out, network, &manifest, settings, engines::verifiers(&engine_settings(choice)))?)
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
    let engines = engine_settings(choice);
    Ok(export_network(out, part.network(), &part.manifest, settings, engines::network_verifiers(&engines))?)
}

fn engine_settings(choice: EngineChoice) -> EngineSettings {
    EngineSettings { choice, runtime: RuntimeSettings::from_env(), ..EngineSettings::default() }
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
