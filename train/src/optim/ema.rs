//! Exponential moving average of the parameters.

use std::collections::BTreeMap;

use candle_core::Tensor;
use drifting_models::nn::Params;
use drifting_models::ops::kernels;
use rayon::prelude::*;

use super::inplace::{CHUNK, update};
use super::state::Saved;
use super::{OptimError, Result, device};

/// e <- decay * e + (1 - decay) * parameter after every step, starting at the parameters, without bias correction.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    averages: BTreeMap<String, Tensor>,
}

impl Ema {
    /// An average that starts at the parameters.
    ///
    /// # Errors
    /// A decay outside [0, 1).
    pub fn new(decay: f64, params: &Params) -> Result<Self> {
        if !(0.0..1.0).contains(&decay) {
            return Err(OptimError::Setting { key: "ema decay", value: decay, expected: "at least 0 and below 1" });
        }
        let copy = |(name, var): (&str, &candle_core::Var)| Ok((name.to_owned(), var.copy()?.detach()));
        Ok(Self { decay, averages: params.iter().map(copy).collect::<Result<_>>()? })
    }

    /// The decay.
    #[must_use]
    pub fn decay(&self) -> f64 {
        self.decay
    }

    /// Takes the parameters of one more step into the average.
    ///
    /// # Errors
    /// Parameters other than those that the average was made for.
    pub fn update(&mut self, params: &Params) -> Result<()> {
        let (keep, add) = (self.decay as f32, (1.0 - self.decay) as f32);
        for (name, average) in &mut self.averages {
            let Some(parameter) = params.get(name) else {
                return Err(OptimError::State { name: name.clone(), problem: "belongs to no parameter".into() });
            };
            if average.device().is_cpu() {
                update(average, parameter, |average, parameter| blend(average, parameter, keep, add))?;
            } else if kernels(average.device()) {
                device::blend(average, parameter, keep, add)?;
            } else {
                *average = (&*average * self.decay)?.add(&(parameter.as_detached_tensor() * (1.0 - self.decay))?)?;
            }
        }
        Ok(())
    }

    /// The averaged parameters by name. They may share their storage with the average, so that the next update changes
    /// them.
    #[must_use]
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.averages
    }

    /// The averages as named tensors, for a checkpoint; every name begins with `ema.<decay>.`.
    #[must_use]
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let prefix = self.prefix();
        self.averages.iter().map(|(name, average)| (format!("{prefix}{name}"), average.clone())).collect()
    }

    /// Continues from [`state`](Self::state); tensors under other prefixes are left alone.
    ///
    /// # Errors
    /// A tensor that is missing, left over or of another shape, by name. The average is then unchanged.
    pub fn restore(&mut self, saved: &BTreeMap<String, Tensor>) -> Result<()> {
        let prefix = self.prefix();
        let mut saved = Saved::new(saved, &prefix);
        let restored =
            self.averages.iter().map(|(name, average)| Ok((name.clone(), saved.take(name, average)?.copy()?)));
        let restored = restored.collect::<Result<_>>()?;
        saved.finish()?;
        self.averages = restored;
        Ok(())
    }

    fn prefix(&self) -> String {
        format!("ema.{}.", self.decay)
    }
}

fn blend(average: &mut [f32], parameter: &[f32], keep: f32, add: f32) {
    let chunk = |(average, parameter): (&mut [f32], &[f32])| {
        for (average, &parameter) in average.iter_mut().zip(parameter) {
            *average = keep * *average + add * parameter;
        }
    };
    if average.len() <= CHUNK {
        chunk((average, parameter));
    } else {
        average.par_chunks_mut(CHUNK).zip(parameter.par_chunks(CHUNK)).for_each(chunk);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use drifting_models::nn::{Builder, Init, Source};

    use super::*;

    fn params() -> Params {
        let builder = Builder::new(Source::Seed(3), &Device::Cpu);
        builder.param("bias", &[5], Init::Normal(1.0)).unwrap();
        builder.param("weight", &[3, CHUNK], Init::Normal(1.0)).unwrap();
        builder.finish().unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn every_step_moves_the_average_by_its_share() {
        let params = params();
        let mut ema = Ema::new(0.75, &params).unwrap();
        let mut expected: Vec<f64> = values(params.get("weight").unwrap()).into_iter().map(f64::from).collect();
        for step in 0..4 {
            let weight = params.get("weight").unwrap();
            weight.set(&(weight.as_tensor() + f64::from(step)).unwrap()).unwrap();
            ema.update(&params).unwrap();
            for (expected, value) in expected.iter_mut().zip(values(weight)) {
                *expected = 0.75 * *expected + 0.25 * f64::from(value);
            }
        }
        for (found, expected) in values(&ema.tensors()["weight"]).into_iter().zip(expected) {
            assert!((f64::from(found) - expected).abs() < 1e-5);
        }
        assert_eq!(values(&ema.tensors()["bias"]), values(params.get("bias").unwrap()));
    }

    #[test]
    fn what_is_restored_is_exact_and_complete() {
        let params = params();
        let mut ema = Ema::new(0.9995, &params).unwrap();
        let weight = params.get("weight").unwrap();
        weight.set(&weight.zeros_like().unwrap()).unwrap();
        ema.update(&params).unwrap();
        let mut saved = ema.state();
        saved.insert("adamw.step".into(), Tensor::new(1i64, &Device::Cpu).unwrap());
        let mut other = Ema::new(0.9995, &params).unwrap();
        other.restore(&saved).unwrap();
        other.update(&params).unwrap();
        ema.update(&params).unwrap();
        assert_eq!(values(&ema.tensors()["weight"]), values(&other.tensors()["weight"]));

        let error = Ema::new(0.999, &params).unwrap().restore(&saved).unwrap_err().to_string();
        assert!(error.contains("ema.0.999.bias is missing"), "{error}");
        saved.insert("ema.0.9995.more".into(), saved["ema.0.9995.bias"].clone());
        assert!(other.restore(&saved).unwrap_err().to_string().contains("ema.0.9995.more"));
    }

    #[test]
    fn a_decay_of_one_is_refused() {
        for decay in [1.0, -0.1, f64::NAN] {
            assert!(matches!(Ema::new(decay, &params()), Err(OptimError::Setting { key: "ema decay", .. })));
        }
    }
}
