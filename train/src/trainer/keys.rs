//! Loss and gradient of feature keys for a stretch of class groups.
//!
//! The processor takes a key to its end before the next. On another device all keys are queued, and the way back through the
//! networks after them, before the host [reads](StepObjective::read_back) what they found.

use std::ops::Range;

use candle_core::{Device, Tensor};

use super::error::StepError;
use super::groups::Chunk;
use super::objective::{KeyMeans, StepObjective};
use super::views::{ChunkViews, DeviceViews, KeyFeatures, read_together};
use crate::drift::{KeyOutcome, KeyScale, Mean, Measured, ScaleScope, TensorMeans, TensorOutcome, pool};
use crate::features::{FeatureKey, Gradients, TensorGradients};
use crate::ranks::Share;

/// A stretch of class groups in the step.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The groups of this rank.
    pub(super) share: Share,
    /// Every key's means over the whole step, where they are known.
    pub(super) known: Option<&'a [KeyMeans]>,
}

/// What one key found on a device; the host has not read it.
pub(super) struct Waiting {
    distances: TensorMeans,
    squares: TensorMeans,
    /// One f64.
    loss: Tensor,
}

/// What the class groups of a stretch are normalised by.
struct Normalisers {
    distances: Vec<f64>,
    squares: Vec<Vec<f64>>,
}

impl StepObjective<'_> {
    /// A scalar whose backward hands the generated images and maps of a stretch of groups their gradients. Means and losses of
    /// all keys are added to what was found in stretches before, or wait on their device.
    pub(super) fn seed(
        &self,
        chunk: &Chunk,
        place: Place<'_>,
        found: &mut [(KeyMeans, f64)],
    ) -> Result<(Option<Tensor>, Vec<Waiting>), StepError> {
        let keys = self.space.keys().iter().enumerate();
        match chunk.views(self)? {
            ChunkViews::Host(views) => {
                let mut pulled = Gradients::new(self.space);
                for ((at, key), found) in keys.zip(found) {
                    let given = self.given(key, (chunk.groups(), place.share, place.known.map(|all| &all[at])));
                    let outcome = self.on_host(&views.features(self, key), given, place.share, &mut found.0)?;
                    found.1 += outcome.loss;
                    pulled.add(self.space, &views.generated, key, outcome.gradient);
                }
                drop(views);
                Ok((pulled.seed(&chunk.generated)?, Vec::new()))
            }
            ChunkViews::Device(views) => {
                let mut pulled = TensorGradients::new(&chunk.generated);
                let mut waiting = Vec::new();
                for (at, key) in keys {
                    let given = self.given(key, (chunk.groups(), place.share, place.known.map(|all| &all[at])));
                    let (gradient, found) = self.on_device(&views, key, given.as_ref(), place.share)?;
                    waiting.push(found);
                    pulled.add(self.space, &chunk.generated, key, &gradient)?;
                }
                Ok((pulled.seed(&chunk.generated)?, waiting))
            }
        }
    }

    /// Adds what [`seed`](Self::seed) left on the device to what was found in stretches before; the host waits once.
    ///
    /// # Errors
    /// Features that are not finite.
    pub(super) fn read_back(
        &self,
        chunk: &Chunk,
        waiting: &[Waiting],
        found: &mut [(KeyMeans, f64)],
    ) -> Result<(), StepError> {
        if waiting.is_empty() {
            return Ok(());
        }
        let tensors =
            waiting.iter().flat_map(|key| [key.distances.numbers(), key.squares.numbers(), key.loss.reshape(1)]);
        let mut numbers = read_together(&tensors.collect::<candle_core::Result<Vec<_>>>()?)?.into_iter();
        for ((key, waiting), (means, loss)) in self.space.keys().iter().zip(waiting).zip(found) {
            let mut next = || numbers.next().unwrap_or_default();
            let (distances, squares) = (waiting.distances.of(&next()).concat(), waiting.squares.of(&next()));
            if distances.iter().any(|mean| !mean.sum.is_finite())
                && let ChunkViews::Device(views) = chunk.views(self)?
            {
                views.measured(self, key)?.check(&distances)?;
            }
            means.extend(&distances, &squares);
            *loss += next().iter().sum::<f64>();
        }
        Ok(())
    }

    /// Loss and gradient of one key for one stretch of groups; its means go to `seen`.
    fn on_host(
        &self,
        features: &KeyFeatures<'_>,
        given: Option<Normalisers>,
        share: Share,
        seen: &mut KeyMeans,
    ) -> Result<KeyOutcome, StepError> {
        let measured = Measured::new(&features.batch()?, self.settings)?;
        let (distances, squares) = given.map_or((None, None), |given| (Some(given.distances), Some(given.squares)));
        let distances = distances.unwrap_or_else(|| self.pooled(share, &[measured.distance_means()]).concat());
        let drifts = measured.drifts(&distances)?;
        let lists = drifts.square_means();
        let of_lists = || self.pooled(share, &lists.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let squares = squares.unwrap_or_else(of_lists);
        seen.extend(measured.distance_means(), lists);
        Ok(drifts.outcome(&squares, self.groups)?)
    }

    /// The gradient of one key for one stretch of groups, and what else it found.
    fn on_device(
        &self,
        views: &DeviceViews<'_>,
        key: &FeatureKey,
        given: Option<&Normalisers>,
        share: Share,
    ) -> Result<(Tensor, Waiting), StepError> {
        let measured = views.measured(self, key)?;
        let (means, device) = (measured.distance_means(), self.space.device());
        let distances = match given {
            Some(given) => Tensor::new(&given.distances[..], device)?,
            None => self.pooled_there(share, means, device)?,
        };
        let drifts = measured.drifts(&distances)?;
        let squares = match given {
            Some(given) => Tensor::new(given.squares.clone(), device)?,
            None => self.pooled_there(share, drifts.square_means(), device)?,
        };
        let TensorOutcome { gradient, loss } = drifts.outcome(&squares, self.groups)?;
        Ok((gradient, Waiting { distances: means.clone(), squares: drifts.square_means().clone(), loss }))
    }

    /// What is known of a key before its features are, in this stretch of the share.
    fn given(
        &self,
        key: &FeatureKey,
        (range, share, known): (Range<usize>, Share, Option<&KeyMeans>),
    ) -> Option<Normalisers> {
        let scope = self.settings.scale_scope;
        let past = self.past.get(key.name()).filter(|_| scope == ScaleScope::Ema);
        if let Some(KeyScale { distance, squares }) = past {
            let all = |&number: &f64| vec![number; range.len()];
            return Some(Normalisers { distances: all(distance), squares: squares.iter().map(all).collect() });
        }
        let own = |means: &Vec<Mean>| share.part(&pool(means, scope), 1)[range.clone()].to_vec();
        known.map(|known| Normalisers {
            distances: own(&known.distances),
            squares: known.squares.iter().map(own).collect(),
        })
    }

    /// What each of this rank's class groups is normalised by, from lists of one mean for each.
    fn pooled(&self, share: Share, lists: &[&[Mean]]) -> Vec<Vec<f64>> {
        let scope = self.settings.scale_scope;
        if scope == ScaleScope::Group {
            return lists.iter().map(|means| pool(means, scope)).collect();
        }
        let all = share.gather(self.ranks, lists);
        all.iter().map(|means| share.part(&pool(means, scope), 1).to_vec()).collect()
    }

    /// The same where the means are; only those of several ranks come to the host.
    fn pooled_there(&self, share: Share, means: &TensorMeans, device: &Device) -> Result<Tensor, StepError> {
        let scope = self.settings.scale_scope;
        if scope == ScaleScope::Group || self.ranks.size() == 1 {
            return Ok(means.pool(scope)?);
        }
        let lists = means.read()?;
        let pooled = self.pooled(share, &lists.iter().map(Vec::as_slice).collect::<Vec<_>>());
        Ok(Tensor::new(pooled, device)?)
    }
}
