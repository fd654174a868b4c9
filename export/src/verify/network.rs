//! The verification of networks of one input: encoders, and decoders alone.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use drifting_spec::{ImageShape, NetworkConfig, Pixels, Stream, names, pick};

use super::cases::{View, compare};
use super::quality::Levels;
use super::report::{OutputRange, Report, RunnerReport};
use super::verification::{Comparison, Verification};
use super::{ModelFile, begin, stored};
use crate::proto::Evaluator;
use crate::{BoxError, Network, Result};

/// The seed of the inputs.
const SEED: u64 = 17;

/// Rows of the largest batch.
const ROWS: usize = 2;

/// An engine with an exported network in it.
pub trait NetworkRunner {
    /// Name and version, for people: `onnxruntime 1.31.1`.
    fn name(&self) -> &str;

    /// The outputs of these names for an input of this shape, each in row-major order; levels as numbers.
    ///
    /// # Errors
    /// Whatever keeps the engine from running.
    fn run(
        &mut self,
        shape: &[usize],
        input: &[f32],
        outputs: &[String],
    ) -> std::result::Result<Vec<Vec<f32>>, BoxError>;
}

/// Compares `model` with the network through candle-onnx, where it knows the model's operators, and through each of
/// `runners`: two inputs at once and each alone, every output divided by its largest number if that is above 1.
///
/// # Errors
/// A model that cannot be read, a network that cannot be run.
pub fn verify_network(bytes: &[u8], network: Network<'_>, runners: &mut [Box<dyn NetworkRunner>]) -> Result<Report> {
    let file = ModelFile::from_bytes(bytes)?;
    let mut verification = Maps::verification(&file, network)?;
    verification.second_opinion(&file)?;
    runners.iter_mut().for_each(|runner| verification.run(runner.as_mut()));
    Ok(verification.finish())
}

/// Outputs of an encoder, or of a decoder alone.
pub(crate) struct Maps {
    config: NetworkConfig,
    input: Vec<f32>,
    names: Vec<String>,
    /// What each output is divided by.
    sizes: Vec<f32>,
    expected: Vec<f32>,
    view: View,
}

impl Maps {
    /// Checks the file, compares its weights with the network's, and makes the outputs that engines are compared with.
    ///
    /// # Errors
    /// A network that cannot be run, a file that cannot be read.
    pub(crate) fn verification(file: &ModelFile, network: Network<'_>) -> Result<Verification<Self>> {
        let config = network.config();
        let (shape, input) = (config.input(), input(&config));
        let maps = network.run(&tensor(shape, ROWS, &input)?)?;
        let names: Vec<String> = maps.iter().map(|(name, _)| name.clone()).collect();
        let expected = maps.iter().map(|(_, map)| Ok(map.flatten_all()?.to_vec1()?)).collect::<Result<Vec<_>>>()?;
        let pixels = pixels(&config);
        let sizes: Vec<f32> = match pixels {
            Pixels::Float => expected.iter().map(|map| OutputRange::of(map).largest().max(1.0)).collect(),
            Pixels::Uint8 => vec![1.0; expected.len()],
        };
        let expected = by_rows(&expected, ROWS, &sizes);
        let output = OutputRange::of(&expected);
        let (report, gate) = begin(file, &network.tensors(), pixels, output)?;
        let view = View { fixed: file.batch(), levels: Levels::of_numbers(output) };
        let comparison = Self { config, input, names, sizes, expected, view };
        Ok(Verification { comparison, gate, report })
    }
}

impl Comparison for Maps {
    type Engine = dyn NetworkRunner;

    fn candle(&self, file: &ModelFile) -> Result<Box<dyn NetworkRunner>> {
        Ok(Box::new(CandleOnnx::new(file, &self.config)?))
    }

    fn compare(&self, engine: &mut Self::Engine) -> RunnerReport {
        let (shape, name) = (self.config.input(), engine.name().to_owned());
        let run = |rows: &[usize]| {
            let dims = [rows.len(), shape.channels, shape.height, shape.width];
            let found = engine.run(&dims, &pick(&self.input, ROWS, rows), &self.names);
            found.map(|maps| by_rows(&maps, rows.len(), &self.sizes)).map_err(|error| error.to_string())
        };
        compare(name, ROWS, &self.expected, &self.view, run)
    }
}

/// The input that engines are asked with, and the network's outputs for it, under the names of the exported model.
///
/// # Errors
/// A network that cannot be run.
pub fn network_reference(network: Network<'_>) -> Result<BTreeMap<String, Tensor>> {
    let config = network.config();
    let input = tensor(config.input(), ROWS, &input(&config))?;
    let maps = network.run(&input)?.into_iter();
    let mut tensors =
        maps.map(|(name, map)| Ok((name, stored(map, pixels(&config))?))).collect::<Result<BTreeMap<_, _>>>()?;
    // A decoder's output and an encoder's input bear the same name, but never in one file.
    tensors.insert(input_name(&config).to_owned(), input);
    Ok(tensors)
}

/// Standard normal numbers.
fn input(config: &NetworkConfig) -> Vec<f32> {
    Stream::new(SEED, "input", 0).normals(ROWS * config.input().len())
}

fn input_name(config: &NetworkConfig) -> &'static str {
    match config {
        NetworkConfig::Decoder { .. } => names::LATENT,
        NetworkConfig::Encoder(_) => names::IMAGE,
    }
}

fn pixels(config: &NetworkConfig) -> Pixels {
    match config {
        NetworkConfig::Decoder { pixels, .. } => *pixels,
        NetworkConfig::Encoder(_) => Pixels::Float,
    }
}

fn tensor(shape: ImageShape, rows: usize, values: &[f32]) -> candle_core::Result<Tensor> {
    Tensor::from_slice(values, (rows, shape.channels, shape.height, shape.width), &Device::Cpu)
}

/// All outputs of the first row, then of the second, ..., each output divided by its size.
fn by_rows(maps: &[Vec<f32>], rows: usize, sizes: &[f32]) -> Vec<f32> {
    let mut values = Vec::with_capacity(maps.iter().map(Vec::len).sum());
    for row in 0..rows {
        for (map, size) in maps.iter().zip(sizes) {
            values.extend(pick(map, rows, &[row]).iter().map(|value| value / size));
        }
    }
    values
}

/// candle's own evaluator of ONNX files.
struct CandleOnnx {
    model: Evaluator,
    input: &'static str,
}

impl CandleOnnx {
    fn new(file: &ModelFile, config: &NetworkConfig) -> Result<Self> {
        Ok(Self { model: Evaluator::new(&file.whole()?)?, input: input_name(config) })
    }
}

impl NetworkRunner for CandleOnnx {
    fn name(&self) -> &str {
        "candle-onnx"
    }

    fn run(
        &mut self,
        shape: &[usize],
        input: &[f32],
        outputs: &[String],
    ) -> std::result::Result<Vec<Vec<f32>>, BoxError> {
        let input = Tensor::from_slice(input, shape, &Device::Cpu)?;
        let found = self.model.run(BTreeMap::from([(self.input, input)]))?;
        let map = |name: &String| {
            let map = found.get(name).ok_or_else(|| format!("the model has no output {name:?}"))?;
            Ok(map.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
        };
        outputs.iter().map(map).collect()
    }
}
