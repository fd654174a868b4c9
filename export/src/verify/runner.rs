//! Engines that run an exported model.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use drifting_spec::{GeneratorConfig, Inputs, names};

use super::file::ModelFile;
use crate::proto::Evaluator;
use crate::{BoxError, Profile};

/// An engine with the exported model in it.
pub trait Runner {
    /// Name and version, for people: `onnxruntime 1.31.1`.
    fn name(&self) -> &str;

    /// The images of a batch, `[batch, channels, height, width]` in row-major order: numbers, or levels as numbers.
    ///
    /// # Errors
    /// Whatever keeps the engine from running.
    fn run(&mut self, inputs: &Inputs) -> std::result::Result<Vec<f32>, BoxError>;
}

/// candle's own evaluator of ONNX files: slow, and independent of every other engine.
#[derive(Debug)]
pub struct CandleOnnx {
    model: Evaluator,
    config: GeneratorConfig,
}

/// candle-onnx keeps the weights twice and every value until the end: it is asked about models of fewer bytes only.
const SECOND_OPINION_BYTES: u64 = 256 << 20;

impl CandleOnnx {
    pub(crate) fn new(file: &ModelFile, config: GeneratorConfig) -> crate::Result<Self> {
        Ok(Self { model: Evaluator::new(&file.whole()?)?, config })
    }
}

/// Why candle-onnx is not asked about a model.
pub(crate) fn why_not_candle(file: &ModelFile) -> Option<String> {
    match file.profile() {
        Profile::Portable if file.weight_bytes() <= SECOND_OPINION_BYTES => None,
        Profile::Portable => Some(format!(
            "it would need several times the {} bytes of the weights, and is for models of up to {SECOND_OPINION_BYTES}",
            file.weight_bytes()
        )),
        profile => Some(format!("it does not know all operators of the profile {profile}")),
    }
}

impl Runner for CandleOnnx {
    fn name(&self) -> &str {
        "candle-onnx"
    }

    fn run(&mut self, inputs: &Inputs) -> std::result::Result<Vec<f32>, BoxError> {
        let values = tensors(inputs, &self.config)?;
        let outputs = self.model.run(values)?;
        let image = outputs.get(names::IMAGE).ok_or_else(|| format!("the model has no output {:?}", names::IMAGE))?;
        Ok(image.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }
}

/// The inputs as tensors under the names that the model gives them.
pub(super) fn tensors(inputs: &Inputs, config: &GeneratorConfig) -> Result<BTreeMap<&'static str, Tensor>> {
    let (batch, image, cpu) = (inputs.batch(), config.image, &Device::Cpu);
    let noise = Tensor::from_slice(&inputs.noise, (batch, image.channels, image.height, image.width), cpu)?;
    let mut tensors = BTreeMap::from([
        (names::NOISE, noise),
        (names::CLASS, Tensor::from_slice(&inputs.class, batch, cpu)?),
        (names::ALPHA, Tensor::from_slice(&inputs.alpha, batch, cpu)?),
    ]);
    if config.style_tokens > 0 {
        tensors.insert(names::STYLE, Tensor::from_slice(&inputs.style, (batch, config.style_tokens), cpu)?);
    }
    Ok(tensors)
}
