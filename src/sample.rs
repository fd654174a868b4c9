//! `drifting sample`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use drifting_models::weights::write_bytes;
use drifting_serve::Model;
use drifting_serve::engine::{self, EngineChoice, EngineSettings};
use drifting_serve::runtime::RuntimeSettings;
use drifting_spec::{ImageShape, Inputs, Manifest, pixels};
use drifting_train::data::{Autoencoder, open_autoencoder};
use drifting_train::run::{RunFolder, encode_png, pictures};

use crate::models;

/// Generate images.
///
/// The same seed gives the same images as `POST /generate?seed=` does: image number i depends on seed, i, class and alpha
/// alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run folder, weight file, or exported model (.onnx).
    model: PathBuf,
    /// Class by number or name; all classes, a row each, if not given.
    #[arg(long)]
    class: Option<String>,
    /// Guidance strength [default: the model's].
    #[arg(long)]
    alpha: Option<f32>,
    /// Seed of noise and style.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Images of each class.
    #[arg(short, long, default_value_t = 8)]
    n: usize,
    /// The PNG to write: one image, or a sheet of them.
    #[arg(long, value_name = "FILE", default_value = "samples.png")]
    out: PathBuf,
    /// Which moving average of a run, by its decay [default: the first].
    #[arg(long, value_name = "DECAY")]
    ema: Option<f64>,
    /// Folder of the autoencoder that makes pictures of a run's or weight file's latents [default: the run's
    /// sampling.decoder].
    #[arg(long, value_name = "FOLDER")]
    decoder: Option<PathBuf>,
    /// Engine of an exported model: auto, onnxruntime, rten.
    #[arg(long, default_value_t)]
    engine: EngineChoice,
}

/// Images that one call makes at most.
const MOST: usize = 10_000;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut source = Source::open(args)?;
    let manifest = source.manifest().clone();
    let classes = match &args.class {
        None => (0..manifest.generator.classes).collect(),
        Some(text) => vec![class(&manifest, text)?],
    };
    let alpha = args.alpha.unwrap_or(manifest.alpha.default);
    if !manifest.alpha.contains(alpha) {
        bail!("--alpha {alpha} is outside the trained range {}..{}", manifest.alpha.min, manifest.alpha.max);
    }
    if !(1..=MOST).contains(&args.n.saturating_mul(classes.len())) {
        bail!("-n {} for {} classes: between 1 and {MOST} images can be made", args.n, classes.len());
    }
    let decoder = decoder(args)?;
    let exported = is_exported(&args.model);
    let range = if exported { manifest.output_range() } else { manifest.value_range };
    let mut shape = manifest.generator.image;
    if decoder.is_none() && !exported && !matches!(shape.channels, 1 | 3) {
        let model = args.model.display();
        bail!(
            "{model} makes latents of {} channels: --decoder names the autoencoder that makes pictures of them",
            shape.channels
        );
    }
    let mut images = Vec::new();
    for class in classes {
        for index in 0..args.n {
            // One at a time: what an image is made of must not depend on how many are asked for.
            let mut inputs = Inputs::default();
            inputs.push_seeded(&manifest.generator, args.seed, index as u64, class, alpha);
            let (numbers, of_image) = source.generate(&inputs, decoder.as_deref())?;
            shape = of_image;
            images.push(pixels::to_bytes(range, &numbers, shape)?);
        }
    }
    let (sheet, bytes) = pixels::sheet(&images, shape, args.n)?;
    let png = encode_png(sheet, bytes, 0).context("these images are no pictures")?;
    write_bytes(&args.out, &png)?;
    eprintln!("wrote {} ({} images, seed {}, alpha {alpha})", args.out.display(), images.len(), args.seed);
    Ok(ExitCode::SUCCESS)
}

fn class(manifest: &Manifest, text: &str) -> Result<usize> {
    manifest.class(text).with_context(|| {
        let names = manifest.classes.iter().take(20).enumerate().map(|(i, name)| format!("{i} {name}"));
        format!("--class {text:?} is no class of this model: {}", names.collect::<Vec<_>>().join(", "))
    })
}

/// What makes pictures of the latents of a run or weight file.
fn decoder(args: &Args) -> Result<Option<Box<dyn Autoencoder>>> {
    if args.decoder.is_some() && is_exported(&args.model) {
        bail!("--decoder goes with a run folder or a weight file, {} is exported", args.model.display());
    }
    let folder = match &args.decoder {
        Some(folder) => Some(folder.clone()),
        None if args.model.is_dir() => RunFolder::open(&args.model)?.config()?.sampling.decoder,
        None => None,
    };
    Ok(folder.as_deref().map(open_autoencoder).transpose()?)
}

fn is_exported(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "onnx")
}

/// Weights through candle, or an exported model through an engine.
enum Source {
    Weights(Box<Manifest>, Box<drifting_models::Generator>),
    Exported(Box<Manifest>, Box<dyn engine::Engine>),
}

impl Source {
    fn open(args: &Args) -> Result<Self> {
        if is_exported(&args.model) {
            return Self::exported(&args.model, args.engine);
        }
        let model = models::open(&args.model, args.ema)?;
        let generator = Box::new(model.generator()?);
        Ok(Self::Weights(Box::new(model.manifest), generator))
    }

    fn exported(path: &Path, choice: EngineChoice) -> Result<Self> {
        let model = Model::open(path)?;
        let settings = EngineSettings { choice, runtime: RuntimeSettings::from_env(), ..EngineSettings::default() };
        let engine = engine::open(&model, &settings, &|message| eprintln!("{message}"))?;
        Ok(Self::Exported(Box::new(model.manifest), engine))
    }

    fn manifest(&self) -> &Manifest {
        match self {
            Self::Weights(manifest, _) | Self::Exported(manifest, _) => manifest,
        }
    }

    /// The numbers of the images and the shape of each.
    fn generate(&mut self, inputs: &Inputs, decoder: Option<&dyn Autoencoder>) -> Result<(Vec<f32>, ImageShape)> {
        let shape = self.manifest().generator.image;
        match self {
            Self::Weights(_, generator) => {
                let (numbers, shape) = pictures(&generator.run(inputs)?, shape, decoder)?;
                ensure!(
                    numbers.iter().all(|value| value.is_finite()),
                    "the generator's image holds NaN or infinite numbers"
                );
                Ok((numbers, shape))
            }
            Self::Exported(manifest, engine) => Ok((engine::run(engine.as_mut(), inputs)?, manifest.image()?)),
        }
    }
}
