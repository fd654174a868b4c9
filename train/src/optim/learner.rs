//! Everything that one gradient changes: parameters, moments and moving averages, under one learning-rate schedule.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use drifting_models::nn::Params;
use drifting_models::profile;

use super::state::Saved;
use super::{AdamW, AdamWSettings, Ema, OptimError, Result, Schedule, StepNorms};

/// Names of the saved counters begin with this.
const PREFIX: &str = "run.";
/// Steps of the run.
pub(crate) const STEP: &str = "run.step";
/// Step of the schedule at which the run began: not 0 when it goes on with another run's schedule.
pub(crate) const SCHEDULE_FROM: &str = "run.schedule_from";

/// How the parameters follow the gradients.
#[derive(Clone, Copy, Debug)]
pub struct Learning<'a> {
    /// Constants of AdamW.
    pub adamw: AdamWSettings,
    /// Largest global norm of the gradients.
    pub clip: f64,
    /// Learning rate.
    pub schedule: Schedule,
    /// Decays of the moving averages.
    pub decays: &'a [f64],
}

/// Clipping by the global norm, AdamW, then every moving average (paper appendix A.9, Table 8).
#[derive(Debug)]
pub struct Learner {
    clip: f64,
    schedule: Schedule,
    schedule_from: u64,
    step: u64,
    optimizer: AdamW,
    averages: Vec<Ema>,
}

impl Learner {
    /// Step 0 of these parameters; the averages start at them.
    ///
    /// # Errors
    /// A setting that is out of range.
    pub fn new(learning: Learning<'_>, params: &Params) -> Result<Self> {
        let Learning { adamw, clip, schedule, decays } = learning;
        schedule.validate()?;
        let averages = decays.iter().map(|decay| Ema::new(*decay, params)).collect::<Result<_>>()?;
        Ok(Self { clip, schedule, schedule_from: 0, step: 0, optimizer: AdamW::new(adamw, params)?, averages })
    }

    /// Steps of the run that were taken.
    #[must_use]
    pub fn step_count(&self) -> u64 {
        self.step
    }

    /// Learning rate of the next step.
    #[must_use]
    pub fn lr(&self) -> f64 {
        self.schedule.at(self.schedule_from + self.step)
    }

    /// The moving averages in the order of the settings.
    #[must_use]
    pub fn averages(&self) -> &[Ema] {
        &self.averages
    }

    /// Takes one step down the gradients.
    ///
    /// # Errors
    /// As [`AdamW::step`]; nothing has changed then.
    pub fn step(&mut self, params: &Params, gradients: &BTreeMap<String, Tensor>) -> Result<StepNorms> {
        let norms = self.optimizer.step(params, gradients, self.lr(), Some(self.clip))?;
        let _span = profile::span("moving averages");
        for average in &mut self.averages {
            average.update(params)?;
        }
        self.step += 1;
        Ok(norms)
    }

    /// Moments and counters as named tensors, for a checkpoint; the averages have files of their own.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn state(&self, params: &Params) -> Result<BTreeMap<String, Tensor>> {
        let mut state = self.optimizer.state(params)?;
        for (name, value) in [(STEP, self.step), (SCHEDULE_FROM, self.schedule_from)] {
            state.insert(name.to_owned(), Tensor::new(value as i64, &Device::Cpu)?);
        }
        Ok(state)
    }

    /// Continues from [`state`](Self::state) and the states of the averages; tensors under other prefixes are left alone.
    ///
    /// # Errors
    /// A tensor that is missing, left over or of another shape, by name.
    pub fn restore(&mut self, params: &Params, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut saved = Saved::new(state, PREFIX);
        let mut counter = |name: &str| -> Result<u64> {
            let value = saved.take(&name[PREFIX.len()..], &Tensor::new(0i64, &Device::Cpu)?)?.to_scalar::<i64>()?;
            u64::try_from(value).map_err(|_| OptimError::State { name: name.into(), problem: format!("is {value}") })
        };
        let (step, schedule_from) = (counter(STEP)?, counter(SCHEDULE_FROM)?);
        saved.finish()?;
        self.optimizer.restore(params, state)?;
        for average in &mut self.averages {
            average.restore(state)?;
        }
        (self.step, self.schedule_from) = (step, schedule_from);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use drifting_models::nn::{Builder, Init, Source};
    use drifting_spec::Stream;

    use super::super::Decay;
    use super::*;

    fn params() -> Params {
        let builder = Builder::new(Source::Seed(3), &Device::Cpu);
        builder.param("weight", &[4, 3], Init::Normal(1.0)).unwrap();
        builder.finish().unwrap()
    }

    fn learner(params: &Params) -> Learner {
        let schedule = Schedule { lr: 1e-2, warmup_steps: 4, decay: Decay::Constant };
        let learning = Learning { adamw: AdamWSettings::default(), clip: 2.0, schedule, decays: &[0.9, 0.5] };
        Learner::new(learning, params).unwrap()
    }

    fn gradients(step: u64) -> BTreeMap<String, Tensor> {
        let values = Stream::new(step, "gradient", 0).normals(12);
        BTreeMap::from([("weight".to_owned(), Tensor::from_vec(values, (4, 3), &Device::Cpu).unwrap())])
    }

    fn bits(params: &Params, learner: &Learner) -> Vec<f32> {
        let tensors = learner.averages.iter().map(|average| &average.tensors()["weight"]);
        let weight = params.get("weight").unwrap().as_tensor();
        [weight].into_iter().chain(tensors).flat_map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
    }

    #[test]
    fn a_restored_learner_goes_on_bit_for_bit() {
        let (first, second) = (params(), params());
        let mut straight = learner(&first);
        for step in 0..3 {
            straight.step(&first, &gradients(step)).unwrap();
        }
        let mut state = straight.state(&first).unwrap();
        state.extend(straight.averages().iter().flat_map(Ema::state));
        second.get("weight").unwrap().set(&first.get("weight").unwrap().copy().unwrap()).unwrap();
        let mut resumed = learner(&second);
        resumed.restore(&second, &state).unwrap();
        assert_eq!((resumed.step_count(), resumed.lr()), (3, straight.lr()));
        for step in 3..6 {
            straight.step(&first, &gradients(step)).unwrap();
            resumed.step(&second, &gradients(step)).unwrap();
        }
        assert_eq!(bits(&first, &straight), bits(&second, &resumed));
    }

    #[test]
    fn the_schedule_can_begin_where_another_run_ended() {
        let params = params();
        let mut learner = learner(&params);
        let mut state = learner.state(&params).unwrap();
        state.extend(learner.averages().iter().flat_map(Ema::state));
        state.insert(SCHEDULE_FROM.into(), Tensor::new(100i64, &Device::Cpu).unwrap());
        let cold = learner.lr();
        learner.restore(&params, &state).unwrap();
        assert_eq!((cold, learner.lr(), learner.step_count()), (1e-6, 1e-2, 0));
        state.insert(STEP.into(), Tensor::new(-1i64, &Device::Cpu).unwrap());
        assert_eq!(learner.restore(&params, &state).unwrap_err().to_string(), "saved state: tensor run.step is -1");
    }
}
