//! AdamW in one pass over memory.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use drifting_models::nn::Params;
use drifting_models::profile;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::moments::{Factors, Moments};
use super::state::{Saved, describe};
use super::{OptimError, Result, global_norm};

/// Names of the saved state begin with this.
const PREFIX: &str = "adamw.";

/// Constants of AdamW; the defaults are the official code's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWSettings {
    /// Decay of the mean of the gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay, on every parameter.
    pub weight_decay: f64,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.01 }
    }
}

impl AdamWSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// Names the setting that is out of range.
    pub fn validate(&self) -> Result<()> {
        for (key, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return Err(OptimError::Setting { key, value, expected: "at least 0 and below 1" });
            }
        }
        if !(self.epsilon.is_finite() && self.epsilon > 0.0) {
            return Err(OptimError::Setting { key: "epsilon", value: self.epsilon, expected: "a positive number" });
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            let (key, expected) = ("weight_decay", "at least 0");
            return Err(OptimError::Setting { key, value: self.weight_decay, expected });
        }
        Ok(())
    }
}

/// What one step found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepNorms {
    /// L2 norm of all gradients together, before clipping.
    pub gradient: f64,
    /// What the gradients were multiplied by: 1 unless they were clipped.
    pub clip_factor: f64,
}

/// p <- p - lr * (m' / (sqrt(v') + epsilon) + weight_decay * p) with the bias-corrected moments m' and v'.
#[derive(Debug)]
pub struct AdamW {
    settings: AdamWSettings,
    step: u64,
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// An optimizer of these parameters with all moments zero.
    ///
    /// # Errors
    /// A setting that is out of range.
    pub fn new(settings: AdamWSettings, params: &Params) -> Result<Self> {
        settings.validate()?;
        let moments = params.iter().map(|(name, var)| Ok((name.to_owned(), Moments::zeros(var)?)));
        Ok(Self { settings, step: 0, moments: moments.collect::<Result<_>>()? })
    }

    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Takes one step with learning rate `lr` down `gradients`, which are first scaled so that their global norm is at
    /// most `clip`.
    ///
    /// # Errors
    /// A parameter without a gradient, a gradient of another shape or one that is not finite, by name. Nothing has
    /// changed then.
    pub fn step(
        &mut self,
        params: &Params,
        gradients: &BTreeMap<String, Tensor>,
        lr: f64,
        clip: Option<f64>,
    ) -> Result<StepNorms> {
        let _span = profile::span("adamw").numbers(8 * params.iter().map(|(_, var)| var.elem_count()).sum::<usize>());
        self.check(params, gradients)?;
        let norm = global_norm(gradients)?;
        let clip_factor = norm.clip_factor(clip);
        self.step += 1;
        let factors = Factors::new(&self.settings, self.step, lr, clip_factor);
        for ((_, var), (moments, gradient)) in params.iter().zip(self.moments.values_mut().zip(gradients.values())) {
            moments.step(var, &gradient.contiguous()?, factors)?;
        }
        Ok(StepNorms { gradient: norm.0, clip_factor })
    }

    /// Parameters, moments and gradients are in name order, so after this check they can be walked together.
    fn check(&self, params: &Params, gradients: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, var) in params.iter() {
            let Some(gradient) = gradients.get(name) else {
                return Err(OptimError::NoGradient { name: name.into() });
            };
            if gradient.shape() != var.shape() || gradient.dtype() != var.dtype() {
                let (expected, found) = (describe(var), describe(gradient));
                return Err(OptimError::Gradient { name: name.into(), expected, found });
            }
        }
        if let Some(name) = gradients.keys().find(|name| params.get(name).is_none()) {
            return Err(OptimError::UnknownGradient { name: name.clone() });
        }
        if !self.moments.keys().map(String::as_str).eq(params.iter().map(|(name, _)| name)) {
            let problem = "optimizer was made for other parameters".to_owned();
            return Err(OptimError::State { name: PREFIX.into(), problem });
        }
        Ok(())
    }

    /// Steps and moments as named tensors, for a checkpoint; every name begins with `adamw.`.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn state(&self, params: &Params) -> Result<BTreeMap<String, Tensor>> {
        let steps = Tensor::new(self.step as i64, &Device::Cpu)?;
        let mut state = BTreeMap::from([(format!("{PREFIX}step"), steps)]);
        for ((name, var), moments) in params.iter().zip(self.moments.values()) {
            let (first, second) = moments.tensors(var)?;
            state.insert(format!("{PREFIX}m.{name}"), first);
            state.insert(format!("{PREFIX}v.{name}"), second);
        }
        Ok(state)
    }

    /// Continues from [`state`](Self::state); tensors under other prefixes are left alone.
    ///
    /// # Errors
    /// A tensor that is missing, left over or of another shape, by name. The optimizer is then unchanged.
    pub fn restore(&mut self, params: &Params, saved: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut saved = Saved::new(saved, PREFIX);
        let step = saved.take("step", &Tensor::new(0i64, &Device::Cpu)?)?.to_scalar::<i64>()?;
        let Ok(step) = u64::try_from(step) else {
            return Err(OptimError::State { name: format!("{PREFIX}step"), problem: format!("is {step}") });
        };
        let mut moments = BTreeMap::new();
        for (name, var) in params.iter() {
            let first = saved.take(&format!("m.{name}"), var)?;
            let second = saved.take(&format!("v.{name}"), var)?;
            moments.insert(name.to_owned(), Moments::from_tensors(&first, &second)?);
        }
        saved.finish()?;
        (self.step, self.moments) = (step, moments);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use drifting_models::nn::{Builder, Init, Source};
    use drifting_spec::Stream;

    use super::super::inplace::CHUNK;
    use super::*;

    const SHAPES: [(&str, &[usize]); 2] = [("bias", &[7]), ("weight", &[3, CHUNK])];
    const SETTINGS: AdamWSettings = AdamWSettings { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1 };

    fn params() -> Params {
        let builder = Builder::new(Source::Seed(3), &Device::Cpu);
        for (name, shape) in SHAPES {
            builder.param(name, shape, Init::Normal(1.0)).unwrap();
        }
        builder.finish().unwrap()
    }

    fn gradients(step: u64) -> BTreeMap<String, Tensor> {
        let tensor = |(name, shape): (&str, &[usize])| {
            let values = Stream::new(step, name, 1).normals(shape.iter().product());
            (name.to_owned(), Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
        };
        SHAPES.into_iter().map(tensor).collect()
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// torch.optim.AdamW and optax.adamw, in f64.
    fn reference(parameters: &mut [f64], lr: f64, steps: u64, clip: f64) {
        let all = |step| gradients(step).values().flat_map(numbers).map(f64::from).collect::<Vec<_>>();
        let (mut m, mut v) = (vec![0.0; parameters.len()], vec![0.0; parameters.len()]);
        for step in 1..=steps {
            let gradient = all(step);
            let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            let scale = if norm > clip { clip / norm } else { 1.0 };
            for (i, g) in gradient.into_iter().map(|g| g * scale).enumerate() {
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.95 * v[i] + 0.05 * g * g;
                let (mean, square) =
                    (m[i] / (1.0 - 0.9f64.powi(step as i32)), v[i] / (1.0 - 0.95f64.powi(step as i32)));
                parameters[i] -= lr * (mean / (square.sqrt() + 1e-8) + 0.1 * parameters[i]);
            }
        }
    }

    #[test]
    fn steps_agree_with_the_f64_reference() {
        let params = params();
        let mut expected: Vec<f64> = params.iter().flat_map(|(_, var)| numbers(var)).map(f64::from).collect();
        let mut adamw = AdamW::new(SETTINGS, &params).unwrap();
        let mut norms = None;
        for step in 1..=5 {
            norms = Some(adamw.step(&params, &gradients(step), 0.01, Some(2.0)).unwrap());
        }
        reference(&mut expected, 0.01, 5, 2.0);
        let found = params.iter().flat_map(|(_, var)| numbers(var));
        let worst =
            found.zip(expected).map(|(found, expected)| (f64::from(found) - expected).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-6, "{worst}");
        let StepNorms { gradient, clip_factor } = norms.unwrap();
        assert!((gradient * clip_factor - 2.0).abs() < 1e-12 && gradient > 200.0, "{gradient} {clip_factor}");
    }

    #[test]
    fn a_restored_run_continues_bit_for_bit() {
        let (straight, resumed) = (params(), params());
        let mut adamw = AdamW::new(SETTINGS, &straight).unwrap();
        for step in 1..=3 {
            adamw.step(&straight, &gradients(step), 0.01, None).unwrap();
        }
        let state = adamw.state(&straight).unwrap();
        for ((_, from), (_, to)) in straight.iter().zip(resumed.iter()) {
            to.set(from).unwrap();
        }
        let mut other = AdamW::new(SETTINGS, &resumed).unwrap();
        other.restore(&resumed, &state).unwrap();
        assert_eq!(other.steps(), 3);
        for step in 4..=6 {
            adamw.step(&straight, &gradients(step), 0.01, None).unwrap();
            other.step(&resumed, &gradients(step), 0.01, None).unwrap();
        }
        for ((_, straight), (_, resumed)) in straight.iter().zip(resumed.iter()) {
            assert_eq!(numbers(straight), numbers(resumed));
        }
    }

    #[test]
    fn saved_state_must_match_exactly() {
        let params = params();
        let mut adamw = AdamW::new(SETTINGS, &params).unwrap();
        let good = adamw.state(&params).unwrap();
        let mut message = |edit: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
            let mut state = good.clone();
            edit(&mut state);
            adamw.restore(&params, &state).unwrap_err().to_string()
        };
        let missing = message(&|state| drop(state.remove("adamw.v.bias")));
        assert_eq!(missing, "saved state: tensor adamw.v.bias is missing");
        let left = message(&|state| drop(state.insert("adamw.m.more".into(), good["adamw.m.bias"].clone())));
        assert_eq!(left, "saved state: tensor adamw.m.more belongs to no parameter");
        let shape = message(&|state| drop(state.insert("adamw.m.weight".into(), good["adamw.m.bias"].clone())));
        assert_eq!(shape, format!("saved state: tensor adamw.m.weight is F32 [7], expected F32 [3, {CHUNK}]"));
    }

    #[test]
    fn bad_gradients_are_named_and_change_nothing() {
        let params = params();
        let before = numbers(params.get("weight").unwrap());
        let mut adamw = AdamW::new(SETTINGS, &params).unwrap();
        let mut fails = |edit: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
            let mut gradients = gradients(1);
            edit(&mut gradients);
            adamw.step(&params, &gradients, 0.01, None).unwrap_err()
        };
        let none = fails(&|gradients| drop(gradients.remove("weight")));
        assert!(matches!(none, OptimError::NoGradient { name } if name == "weight"));
        let nan = Tensor::full(f32::NAN, 7, &Device::Cpu).unwrap();
        let not_finite = fails(&|gradients| drop(gradients.insert("bias".into(), nan.clone())));
        assert!(matches!(not_finite, OptimError::NotFinite { name } if name == "bias"));
        let short = fails(&|gradients| drop(gradients.insert("weight".into(), nan.clone())));
        assert!(matches!(short, OptimError::Gradient { name, .. } if name == "weight"));
        let unknown = fails(&|gradients| drop(gradients.insert("more".into(), nan.clone())));
        assert!(matches!(unknown, OptimError::UnknownGradient { name } if name == "more"));
        assert_eq!((adamw.steps(), before), (0, numbers(params.get("weight").unwrap())));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let settings = AdamWSettings { beta2: 1.0, ..SETTINGS };
        assert!(matches!(AdamW::new(settings, &params()), Err(OptimError::Setting { key: "beta2", .. })));
    }
}
