//! ONNX Runtime, loaded from a shared library at run time. The only module that names `ort`.

mod library;
mod network;
mod options;
mod recorded;
mod session;

use drifting_spec::{GeneratorConfig, Inputs, Pixels, names};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Outlet, TensorRef};

use super::interface::{Output, check_inputs, check_interface, interface, numbers};
use super::{Engine, EngineError, EngineInfo, EngineSettings};
use crate::model::Model;
use crate::runtime::Library;
use recorded::Recorded;

pub(crate) use library::open_library;
pub use library::{Loaded, load};
pub(super) use network::OnnxRuntimeNetwork;

const NAME: &str = "onnxruntime";

/// A generator in ONNX Runtime.
pub(super) struct OnnxRuntime {
    session: Session,
    /// Batches at fixed places, where CUDA graphs are asked for.
    recorded: Option<Recorded>,
    config: GeneratorConfig,
    batch: Option<usize>,
    output: Output,
    info: EngineInfo,
}

impl OnnxRuntime {
    /// Loads `library` and then `model` into it, for the execution provider of `settings`.
    ///
    /// # Errors
    /// The library or the provider cannot be loaded, refuses the graph, or the graph does not fit the manifest.
    pub(super) fn load(model: &Model, library: &Library, settings: &EngineSettings) -> Result<Self, EngineError> {
        let loaded = load(&library.path)?;
        let session = session::open(&loaded, model, settings)?;
        let config = model.manifest.generator.clone();
        let declared: Vec<_> = session.inputs().iter().map(declared).collect();
        let outputs: Vec<_> = session.outputs().iter().map(|output| output.name().to_owned()).collect();
        check_interface(&config, &declared, &outputs)?;
        let provider = &settings.provider;
        let info = EngineInfo {
            name: NAME,
            version: loaded.version,
            provider: provider.provider.title(),
            threads: settings.thread_count(),
            library: Some(loaded.library),
            fallback: None,
        };
        let recorded = provider.cuda_graphs.then(|| Recorded::on_cuda(provider.device));
        let batch = session.inputs().first().and_then(fixed_batch);
        Ok(Self { session, recorded, config, batch, output: Output::of(&model.manifest)?, info })
    }
}

/// An input's name and its dimensions behind the batch.
fn declared(input: &Outlet) -> (String, Vec<Option<usize>>) {
    let shape = input.dtype().tensor_shape();
    let dimensions = shape.map(|shape| shape.iter().skip(1).map(|&size| usize::try_from(size).ok()).collect());
    (input.name().to_owned(), dimensions.unwrap_or_default())
}

/// The first dimension of an input that is not symbolic.
fn fixed_batch(input: &Outlet) -> Option<usize> {
    usize::try_from(*input.dtype().tensor_shape()?.first()?).ok().filter(|&size| size > 0)
}

/// The numbers or levels of an output.
fn image(value: &DynValue, pixels: Pixels) -> ort::Result<Vec<f32>> {
    Ok(match pixels {
        Pixels::Float => value.try_extract_tensor::<f32>()?.1.to_vec(),
        Pixels::Uint8 => numbers(value.try_extract_tensor::<u8>()?.1),
    })
}

impl Engine for OnnxRuntime {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn fixed_batch(&self) -> Option<usize> {
        self.batch
    }

    fn run(&mut self, inputs: &Inputs) -> Result<Vec<f32>, EngineError> {
        let failed = |error: ort::Error| EngineError::Run { engine: NAME, problem: error.to_string() };
        check_inputs(NAME, &self.config, inputs)?;
        let batch = inputs.batch();
        if let Some(recorded) = &mut self.recorded {
            let image = recorded.run(&mut self.session, &self.config, &self.output, inputs).map_err(failed)?;
            self.output.check(batch, image.len())?;
            return Ok(image);
        }
        let mut feed: Vec<(&str, SessionInputValue)> = Vec::new();
        for (name, dimensions) in interface(&self.config) {
            let shape: Vec<usize> = std::iter::once(batch).chain(dimensions).collect();
            let value = match name {
                names::NOISE => TensorRef::from_array_view((shape, &inputs.noise[..])).map(Into::into),
                names::ALPHA => TensorRef::from_array_view((shape, &inputs.alpha[..])).map(Into::into),
                names::STYLE => TensorRef::from_array_view((shape, &inputs.style[..])).map(Into::into),
                _ => TensorRef::from_array_view((shape, &inputs.class[..])).map(Into::into),
            };
            feed.push((name, value.map_err(failed)?));
        }
        let outputs = self.session.run(feed).map_err(failed)?;
        let missing = || EngineError::Interface(format!("it has no output {:?}", names::IMAGE));
        let image = image(outputs.get(names::IMAGE).ok_or_else(missing)?, self.output.pixels).map_err(failed)?;
        self.output.check(batch, image.len())?;
        Ok(image)
    }
}

#[cfg(test)]
#[path = "../../../tests/serve/fixture.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests in tests/serve")]
mod fixture;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Precision, Provider, ProviderSettings};
    use crate::runtime::{self, Kit, OFFLINE_VARIABLE, RuntimeSettings};

    /// ONNX Runtime for the CPU; none where it would have to be downloaded and may not be.
    fn library() -> Option<Library> {
        let settings = RuntimeSettings::from_env();
        match runtime::find(Kit::OnnxRuntime, &settings, &|message| println!("{message}")) {
            Ok(library) => Some(library),
            Err(error) if settings.offline => {
                println!("skipped ({OFFLINE_VARIABLE}): {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn settings(provider: ProviderSettings) -> EngineSettings {
        EngineSettings { provider, threads: 2.try_into().ok(), ..EngineSettings::default() }
    }

    #[test]
    fn batches_at_fixed_places_give_the_same_images() {
        let Some(library) = library() else { return };
        let model = Model::from_bytes(fixture::model()).unwrap();
        let mut plain = OnnxRuntime::load(&model, &library, &settings(ProviderSettings::default())).unwrap();
        let mut bound = OnnxRuntime::load(&model, &library, &settings(ProviderSettings::default())).unwrap();
        bound.recorded = Some(Recorded::on_host());
        // Sizes come again with other numbers: what was bound before must not be seen.
        for (seed, batch) in [(1, 1), (2, 4), (3, 1), (4, 4)] {
            let conditions: Vec<_> = (0..batch).map(|image| (image % 10, 1.0 + image as f32 / 4.0)).collect();
            let inputs = Inputs::seeded(&bound.config, seed, &conditions);
            assert_eq!(bound.run(&inputs).unwrap(), plain.run(&inputs).unwrap(), "seed {seed}");
        }
    }

    /// The library of the CPU has neither provider; what is typed is an error, never another provider.
    #[test]
    fn a_provider_that_is_not_there_is_an_error_that_says_what_mends_it() {
        let Some(library) = library() else { return };
        let model = Model::from_bytes(fixture::model()).unwrap();
        for (provider, words) in [
            (Provider::Cuda, "`drifting runtime install --cuda`"),
            (Provider::TensorRt, "TensorRT 10"),
            (Provider::TensorRtRtx, "`drifting runtime install --tensorrt`"),
        ] {
            let provider = ProviderSettings { provider, ..ProviderSettings::default() };
            let error = OnnxRuntime::load(&model, &library, &settings(provider)).err().unwrap();
            assert!(matches!(error, EngineError::Provider { .. }), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        let contradiction = ProviderSettings { precision: Precision::F16, ..ProviderSettings::default() };
        assert!(crate::engine::open(&model, &settings(contradiction), &|_| {}).is_err());
    }
}
