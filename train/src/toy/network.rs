//! A multilayer perceptron from noise to points.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use drifting_models::Result;
use drifting_models::nn::{Builder, Init, Linear, Params, Source};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Activation, DIM};

/// Sizes of an [`Mlp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MlpConfig {
    /// Length of a noise vector.
    pub noise: usize,
    /// Width of the hidden layers.
    pub hidden: usize,
    /// Hidden layers.
    pub depth: usize,
    /// Activation of the hidden layers.
    pub activation: Activation,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self { noise: 32, hidden: 256, depth: 3, activation: Activation::Silu }
    }
}

/// noise -> hidden -> ... -> hidden -> 2.
#[derive(Debug)]
pub struct Mlp {
    config: MlpConfig,
    hidden: Vec<Linear>,
    output: Linear,
    params: Params,
}

impl Mlp {
    /// A network whose weights come from `source`: Xavier-uniform and zero biases for a seed.
    ///
    /// # Errors
    /// Given tensors that are missing, left over or of another shape, by name.
    pub fn new(config: MlpConfig, source: Source) -> Result<Self> {
        let builder = Builder::new(source, &Device::Cpu);
        let mut width = config.noise;
        let mut hidden = Vec::new();
        for layer in 0..config.depth {
            let part = builder.part("hidden").part(&layer.to_string());
            hidden.push(Linear::new(&part, width, config.hidden, Init::Xavier)?);
            width = config.hidden;
        }
        let output = Linear::new(&builder.part("output"), width, DIM, Init::Xavier)?;
        Ok(Self { config, hidden, output, params: builder.finish()? })
    }

    /// The same network with its last layer rescaled so that the points of `noise` have this mean and this standard
    /// deviation in each coordinate.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn moved(&self, noise: Vec<f32>, center: [f32; DIM], spread: f32) -> Result<Self> {
        let points: Vec<f32> = self.forward(noise)?.flatten_all()?.to_vec1()?;
        let (mut weight, mut bias) = (self.output.weight().to_vec2::<f32>()?, self.output.bias().to_vec1::<f32>()?);
        for axis in 0..DIM {
            let values = || points.iter().skip(axis).step_by(DIM).map(|&value| f64::from(value));
            let count = (points.len() / DIM).max(1) as f64;
            let mean = values().sum::<f64>() / count;
            let deviation = (values().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
            let factor = f64::from(spread) / deviation.max(1e-12);
            weight[axis].iter_mut().for_each(|value| *value = (factor * f64::from(*value)) as f32);
            bias[axis] = (f64::from(center[axis]) + factor * (f64::from(bias[axis]) - mean)) as f32;
        }
        let mut tensors: BTreeMap<String, Tensor> = self.params.tensors();
        tensors.insert("output.weight".to_owned(), Tensor::new(weight, &Device::Cpu)?);
        tensors.insert("output.bias".to_owned(), Tensor::new(bias, &Device::Cpu)?);
        Self::new(self.config, Source::Tensors(tensors))
    }

    /// Points `[n, 2]` of noise `[n, noise]`.
    ///
    /// # Errors
    /// A length that is no multiple of the noise's.
    pub fn forward(&self, noise: Vec<f32>) -> Result<Tensor> {
        let rows = noise.len() / self.config.noise.max(1);
        let mut x = Tensor::from_vec(noise, (rows, self.config.noise), &Device::Cpu)?;
        for layer in &self.hidden {
            x = self.config.activation.forward(&layer.forward(&x)?)?;
        }
        self.output.forward(&x)
    }

    /// Its parameters.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }
}

#[cfg(test)]
mod tests {
    use drifting_spec::Stream;

    use super::*;

    #[test]
    fn every_parameter_gets_a_gradient_and_the_sizes_are_the_notebooks() {
        for activation in [Activation::Silu, Activation::Gelu] {
            let network = Mlp::new(MlpConfig { activation, ..MlpConfig::default() }, Source::Seed(1)).unwrap();
            assert_eq!(network.params().elements(), 33 * 256 + 2 * 257 * 256 + 257 * 2);
            let points = network.forward(Stream::new(1, "noise", 0).normals(8 * 32)).unwrap();
            assert_eq!(points.dims(), [8, 2]);
            let gradients = points.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            for (name, var) in network.params().iter() {
                let size = gradients.get(var).unwrap().abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
                assert!(size > 0.0 && size.is_finite(), "{name}");
            }
        }
    }

    #[test]
    fn a_moved_network_starts_where_it_is_told() {
        let network = Mlp::new(MlpConfig { noise: 2, ..MlpConfig::default() }, Source::Seed(1)).unwrap();
        let noise = Stream::new(1, "noise", 0).normals(2 * 4096);
        let moved = network.moved(noise.clone(), [-6.0, 2.0], 0.5).unwrap();
        let points: Vec<f32> = moved.forward(noise).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        for (axis, center) in [(0, -6.0), (1, 2.0)] {
            let values: Vec<f64> = points.iter().skip(axis).step_by(2).map(|&value| f64::from(value)).collect();
            let mean = values.iter().sum::<f64>() / 4096.0;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 4096.0;
            assert!((mean - center).abs() < 1e-4 && (variance.sqrt() - 0.5).abs() < 1e-4, "{mean} {variance}");
        }
    }
}
