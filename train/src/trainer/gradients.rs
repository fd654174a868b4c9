//! Gradients of parameters, added up over stretches of class groups, and over ranks while the way back goes on.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Result, Tensor, TensorId};
use drifting_models::nn::Params;
use drifting_models::ops::Handover;
use drifting_models::profile;

use crate::ranks::{Buckets, Ranks};

/// The gradients of a step in one of several ranks. Those that are handed over are added up over all ranks as soon as the last
/// stretch of class groups has found them.
#[derive(Debug)]
pub(super) struct Shared(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Whether the last stretch goes back.
    last: bool,
    /// What earlier stretches have found, by the first parameter.
    sums: HashMap<TensorId, Tensor>,
    buckets: Buckets,
    /// The parameters of each tensor in the buckets.
    begun: Vec<Vec<Tensor>>,
}

impl Shared {
    /// No gradients of `params`, whose ranks are several.
    pub(super) fn new(ranks: &dyn Ranks, params: &Params) -> Result<Option<Self>> {
        let (false, Some((_, first))) = (ranks.size() == 1, params.iter().next()) else { return Ok(None) };
        let buckets = Buckets::new(ranks, first.device())?;
        let state = State { last: false, sums: HashMap::new(), buckets, begun: Vec::new() };
        Ok(Some(Self(Arc::new(Mutex::new(state)))))
    }

    /// Who takes gradients.
    pub(super) fn handover(&self) -> Handover {
        let state = Arc::clone(&self.0);
        Handover::new(move |parameters, gradient| locked(&state).take(parameters, gradient))
    }

    /// What is handed over from here on is complete.
    pub(super) fn last(&self) {
        locked(&self.0).last = true;
    }

    /// The sums over all ranks of the gradients of all `params`; of those that were not handed over, `gradients` has this rank's.
    pub(super) fn finish(
        self,
        params: &Params,
        gradients: &mut BTreeMap<String, Tensor>,
    ) -> Result<BTreeMap<String, Tensor>> {
        let _span = profile::span("gradients of all ranks");
        let mut state = locked(&self.0);
        let handed: Vec<TensorId> = state.begun.iter().flatten().map(Tensor::id).collect();
        for (name, var) in params.iter().filter(|(_, var)| !handed.contains(&var.id())) {
            let gradient = match gradients.remove(name) {
                Some(gradient) => gradient,
                None => var.zeros_like()?,
            };
            state.begin(vec![var.as_tensor().clone()], &gradient)?;
        }
        let State { buckets, begun, .. } = &mut *state;
        let names: HashMap<TensorId, &str> = params.iter().map(|(name, var)| (var.id(), name)).collect();
        let mut found = BTreeMap::new();
        for (parameters, sum) in begun.iter().zip(buckets.finish()?) {
            let (flat, mut first) = (sum.flatten_all()?, 0);
            for parameter in parameters {
                let len = parameter.elem_count();
                // What is no parameter is a constant in its place.
                if let Some(&name) = names.get(&parameter.id()) {
                    found.insert(name.to_owned(), flat.narrow(0, first, len)?.reshape(parameter.shape())?);
                }
                first += len;
            }
        }
        Ok(found)
    }
}

impl State {
    /// Takes the gradient of `parameters`, flat.
    fn take(&mut self, parameters: &[Tensor], mut gradient: Tensor) -> Result<()> {
        let Some(first) = parameters.first().map(Tensor::id) else { return Ok(()) };
        if let Some(sum) = self.sums.remove(&first) {
            gradient = (sum + gradient)?;
        }
        if self.last {
            return self.begin(parameters.to_vec(), &gradient);
        }
        self.sums.insert(first, gradient);
        Ok(())
    }

    fn begin(&mut self, parameters: Vec<Tensor>, gradient: &Tensor) -> Result<()> {
        self.begun.push(parameters);
        self.buckets.add(gradient)
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
