//! What a checkpoint holds beside the weights, and how a run goes on from it.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use drifting_models::Generator;
use drifting_models::nn::Source;

use super::{TrainError, Trainer};
use crate::drift::{KeyScale, ScaleScope};

/// Names of the scales of the scope `ema` begin with this, then the feature key.
const SCALE: &str = "scale.";
/// Names of the feed's tensors begin with this.
const FEED: &str = "feed.";

impl Trainer<'_> {
    /// The state of the optimizer, of the scales and of the feed; with the weights and the averages it is all that the run
    /// needs.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn optimizer_state(&self) -> Result<BTreeMap<String, Tensor>, TrainError> {
        let mut state = self.learner.state(self.generator.params())?;
        for (key, scale) in &self.past {
            let numbers: Vec<f64> = std::iter::once(scale.distance).chain(scale.squares.iter().copied()).collect();
            state.insert(format!("{SCALE}{key}"), Tensor::new(numbers, &Device::Cpu)?);
        }
        state.extend(self.feed.state().into_iter().map(|(name, tensor)| (format!("{FEED}{name}"), tensor)));
        Ok(state)
    }

    /// Continues from the weights of the generator and the states of the optimizer, of each average, of the scales and of
    /// the feed.
    ///
    /// # Errors
    /// Tensors that are missing, left over or of another shape, by name.
    pub fn restore(
        &mut self,
        weights: BTreeMap<String, Tensor>,
        state: &BTreeMap<String, Tensor>,
    ) -> Result<(), TrainError> {
        let generator = Generator::new(self.config.generator.clone(), Source::Tensors(weights), self.space.device())?;
        let past = self.scales(state)?;
        self.learner.restore(generator.params(), state)?;
        self.feed.restore_among(self.learner.step_count(), &of_prefix(state, FEED), self.ranks)?;
        (self.generator, self.past) = (generator, past);
        Ok(())
    }

    /// The scales that a state holds: those of all keys or, at the start, of none.
    fn scales(&self, state: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, KeyScale>, TrainError> {
        let saved = of_prefix(state, SCALE);
        if saved.is_empty() || self.config.drift.scale_scope != ScaleScope::Ema {
            return Ok(BTreeMap::new());
        }
        let temperatures = self.config.drift.temperatures.len();
        let scale = |name: &str| {
            let numbers = match saved.get(name) {
                Some(tensor) => tensor.to_vec1::<f64>().unwrap_or_default(),
                None => Vec::new(),
            };
            match numbers.split_first() {
                Some((&distance, squares)) if squares.len() == temperatures => {
                    Ok((name.to_owned(), KeyScale { distance, squares: squares.to_vec() }))
                }
                _ => {
                    let problem = format!("the checkpoint does not hold {} f64 numbers for it", 1 + temperatures);
                    Err(TrainError::mismatch(&format!("{SCALE}{name}"), problem))
                }
            }
        };
        self.space.keys().iter().map(|key| scale(key.name())).collect()
    }
}

/// The tensors under a prefix, without it.
fn of_prefix(state: &BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    let rest = |(name, tensor): (&String, &Tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()));
    state.iter().filter_map(rest).collect()
}
