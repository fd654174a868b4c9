//! Where the images that are judged come from.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use drifting_models::Generator;
use drifting_serve::Model;
use drifting_serve::engine::{self, Engine, EngineChoice, EngineSettings};
use drifting_serve::runtime::RuntimeSettings;
use drifting_spec::{ImageShape, Inputs, Manifest};
use drifting_train::config::TrainConfig;
use drifting_train::data::{Autoencoder, open_autoencoder};
use drifting_train::eval::{EvalError, FolderImages, GeneratedImages, ImageSet, Pixels, Provenance, Rounding, pixels};
use drifting_train::run::RunFolder;

use crate::models;

/// Images that are asked of an engine at once.
const AT_ONCE: usize = 16;

/// What is judged.
pub(super) struct Source {
    path: PathBuf,
    kind: Kind,
    /// Settings of a run.
    pub(super) config: Option<TrainConfig>,
}

enum Kind {
    Weights { manifest: Box<Manifest>, generator: Box<Generator>, decoder: Option<Box<dyn Autoencoder>> },
    Exported { manifest: Box<Manifest>, engine: Box<dyn Engine> },
    Images(FolderImages),
}

/// What is asked of a source.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub(super) seed: u64,
    pub(super) alpha: f32,
    pub(super) per_class: usize,
    pub(super) rounding: Rounding,
}

impl Source {
    /// A run folder, a weight file, an exported model or a folder with one, or a folder of images.
    pub(super) fn open(path: &Path, ema: Option<f64>, choice: EngineChoice) -> Result<Self> {
        let source = |kind, config| Self { path: path.to_owned(), kind, config };
        if let Some(file) = exported(path) {
            let model = Model::open(&file)?;
            let settings = EngineSettings { choice, runtime: RuntimeSettings::from_env(), ..EngineSettings::default() };
            let engine = engine::open(&model, &settings, &|message| eprintln!("{message}"))?;
            return Ok(source(Kind::Exported { manifest: Box::new(model.manifest), engine }, None));
        }
        if path.is_dir() && !path.join("config.toml").is_file() {
            let images = FolderImages::open(path, &[])
                .with_context(|| format!("{} is neither a run folder nor a folder of images", path.display()))?;
            return Ok(source(Kind::Images(images), None));
        }
        let config = if path.is_dir() { Some(RunFolder::open(path)?.config()?) } else { None };
        let model = models::open(path, ema)?;
        let generator = Box::new(model.generator()?);
        let decoder = config.as_ref().and_then(|config| config.sampling.decoder.as_deref());
        let decoder = decoder.map(open_autoencoder).transpose()?;
        Ok(source(Kind::Weights { manifest: Box::new(model.manifest), generator, decoder }, config))
    }

    /// `None` for images.
    pub(super) fn manifest(&self) -> Option<&Manifest> {
        match &self.kind {
            Kind::Weights { manifest, .. } | Kind::Exported { manifest, .. } => Some(manifest),
            Kind::Images(_) => None,
        }
    }

    /// Shape of the pictures.
    pub(super) fn shape(&self) -> Result<ImageShape> {
        let shape = match &self.kind {
            Kind::Images(images) => images.shape(),
            Kind::Exported { manifest, .. } => manifest.image()?,
            Kind::Weights { manifest, decoder: Some(decoder), .. } => decoder.image_shape(manifest.generator.image)?,
            Kind::Weights { manifest, .. } => manifest.generator.image,
        };
        if !matches!(shape.channels, 1 | 3) {
            bail!("{} makes latents of {} channels: set sampling.decoder", self.path.display(), shape.channels);
        }
        Ok(shape)
    }

    /// How numbers become bytes, where the network leaves a choice.
    pub(super) fn rounding(&self, wanted: Rounding) -> Rounding {
        match &self.kind {
            Kind::Images(_) => Rounding::Stored,
            // The graph has rounded already.
            Kind::Exported { manifest, .. } if !manifest.pixels.is_float() => Rounding::Nearest,
            Kind::Exported { .. } | Kind::Weights { .. } => wanted,
        }
    }

    /// Gives images of a folder the classes of the real ones, and says whether classes are known.
    pub(super) fn label(&mut self, classes: &[String]) -> Result<bool> {
        match &mut self.kind {
            Kind::Images(images) => {
                *images = FolderImages::open(&self.path, classes)?;
                if images.has_jpeg() {
                    eprintln!("some images are JPEG files: their compression is part of what is measured");
                }
                Ok(images.label(0).is_some())
            }
            Kind::Weights { manifest, .. } | Kind::Exported { manifest, .. } => {
                Ok(manifest.generator.classes == classes.len())
            }
        }
    }

    /// Number of images for so many of each class.
    pub(super) fn images(&self, per_class: usize) -> usize {
        match (&self.kind, self.manifest()) {
            (Kind::Images(images), _) => images.images(),
            (_, manifest) => manifest.map_or(0, |manifest| manifest.generator.classes * per_class),
        }
    }

    /// The images.
    pub(super) fn set(&mut self, request: Request) -> Result<Box<dyn ImageSet + '_>> {
        let shape = self.shape()?;
        let Request { seed, alpha, per_class, rounding } = request;
        Ok(match &mut self.kind {
            Kind::Images(images) => Box::new(images.clone()),
            Kind::Weights { manifest, generator, decoder } => Box::new(GeneratedImages {
                generator,
                decoder: decoder.as_deref(),
                seed,
                alpha,
                per_class,
                range: manifest.value_range,
                rounding,
                shape,
            }),
            Kind::Exported { manifest, engine } => {
                Box::new(Exported { manifest, engine: engine.as_mut(), request, shape })
            }
        })
    }

    /// What is known of the images.
    pub(super) fn provenance(&self, alpha: f32, seed: u64) -> Provenance {
        let source_kind = match &self.kind {
            Kind::Images(_) => "images",
            Kind::Exported { .. } => "onnx",
            Kind::Weights { .. } if self.config.is_some() => "run",
            Kind::Weights { .. } => "weights",
        };
        let found = Provenance {
            source: self.path.display().to_string(),
            source_kind: source_kind.into(),
            ..Provenance::default()
        };
        let Some(manifest) = self.manifest() else { return found };
        let of = &manifest.provenance;
        Provenance {
            model_sha256: Some(of.weights_sha256.clone()).filter(|hash| !hash.is_empty()),
            step: Some(of.step),
            ema_decay: of.ema_decay,
            alpha: Some(alpha),
            seed: Some(seed),
            ..found
        }
    }
}

/// The exported model that is meant: the file, or `model.onnx` of a folder.
fn exported(path: &Path) -> Option<PathBuf> {
    let inside = path.join("model.onnx");
    match path.extension().is_some_and(|extension| extension == "onnx") {
        true => Some(path.to_owned()),
        false => (!path.join("config.toml").is_file() && inside.is_file()).then_some(inside),
    }
}

/// Images that an engine draws: the same as [`GeneratedImages`] of the weights.
struct Exported<'a> {
    manifest: &'a Manifest,
    engine: &'a mut dyn Engine,
    request: Request,
    shape: ImageShape,
}

impl ImageSet for Exported<'_> {
    fn shape(&self) -> ImageShape {
        self.shape
    }

    fn images(&self) -> usize {
        self.request.per_class * self.manifest.generator.classes
    }

    fn label(&self, image: usize) -> Option<usize> {
        image.checked_div(self.request.per_class).filter(|class| *class < self.manifest.generator.classes)
    }

    fn pixels(&mut self, first: usize, count: usize) -> Result<Pixels, EvalError> {
        let Request { seed, alpha, per_class, rounding } = self.request;
        let (range, mut bytes) = (self.manifest.output_range(), Vec::with_capacity(count * self.shape.len()));
        let all: Vec<usize> = (first..first + count).collect();
        for part in all.chunks(AT_ONCE) {
            let mut inputs = Inputs::default();
            for &image in part {
                inputs.push_seeded(&self.manifest.generator, seed, image as u64, image / per_class.max(1), alpha);
            }
            let numbers = engine::run(self.engine, &inputs).map_err(|error| EvalError::Samples(error.to_string()))?;
            bytes.extend(numbers.into_iter().map(|value| rounding.level(range, value)));
        }
        pixels(self.shape, bytes)
    }
}
