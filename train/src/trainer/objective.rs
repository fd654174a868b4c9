//! The loss of a step over all feature keys and its gradient with respect to the generator's parameters (paper eq. 13, 14,
//! 26; method sections 11 and 18).
//!
//! Class groups are worked a few at a time. What the features of one stretch of groups need in memory does not depend on
//! the number of stretches; scales that average over the whole step are found in passes of their own.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use candle_core::Tensor;
use drifting_models::Generator;
use drifting_spec::Inputs;

use super::error::StepError;
use super::gradients::Shared;
use super::groups::{Chunk, GroupSizes, RealImages};
use super::keys::Place;
use super::report::{KeyMetrics, Timings, timed};
use crate::drift::{DriftSettings, KeyScale, Mean, ScaleScope, pool};
use crate::features::FeatureSpace;
use crate::ranks::{Ranks, Share};

/// Everything that the objective of a step depends on.
#[derive(Clone, Copy, Debug)]
pub struct StepObjective<'a> {
    /// The network.
    pub generator: &'a Generator,
    /// Feature keys.
    pub space: &'a FeatureSpace,
    /// Switches.
    pub settings: &'a DriftSettings,
    /// Images of each class group.
    pub sizes: GroupSizes,
    /// Inputs of all generated images, class group after class group.
    pub inputs: &'a Inputs,
    /// Real images of all groups.
    pub real: RealImages<'a>,
    /// Guidance weight of each group.
    pub weights: &'a [f32],
    /// Scales of the previous steps by key; used by the scope `ema`.
    pub past: &'a BTreeMap<String, KeyScale>,
    /// The processes of the step. Images, inputs and weights are those of this rank's share of the class groups.
    pub ranks: &'a dyn Ranks,
    /// Class groups of all ranks.
    pub groups: usize,
}

/// What a step's objective gives.
#[derive(Clone, Debug)]
pub struct Objective {
    /// d loss / d parameter by name.
    pub gradients: BTreeMap<String, Tensor>,
    /// Sum of the losses of all keys.
    pub loss: f64,
    /// Every key's metrics by name.
    pub keys: BTreeMap<String, KeyMetrics>,
    /// Every key's scales in this step by name.
    pub scales: BTreeMap<String, KeyScale>,
}

/// The means of one key over the class groups that were seen so far.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyMeans {
    pub(super) distances: Vec<Mean>,
    pub(super) squares: Vec<Vec<Mean>>,
}

impl KeyMeans {
    pub(super) fn extend(&mut self, distances: &[Mean], squares: &[Vec<Mean>]) {
        self.distances.extend_from_slice(distances);
        self.squares.resize_with(squares.len(), Vec::new);
        self.squares.iter_mut().zip(squares).for_each(|(all, more)| all.extend_from_slice(more));
    }
}

impl StepObjective<'_> {
    /// Loss and gradients, `groups_at_once` class groups at a time; 0 for all of them.
    ///
    /// The number of groups at a time changes nothing but rounding.
    ///
    /// # Errors
    /// Features or losses that are not finite, by key; sizes that do not fit each other.
    pub fn evaluate(&self, groups_at_once: usize, timings: &mut Timings) -> Result<Objective, StepError> {
        let share = self.share()?;
        let chunks = chunks(share.groups, groups_at_once);
        // All ranks do the same, whether or not their own groups would do with less.
        let streamed = groups_at_once > 0 && self.groups.div_ceil(self.ranks.size()) > groups_at_once;
        let known = if streamed { self.whole_step_means(share, &chunks, timings)? } else { None };
        let place = Place { share, known: known.as_deref() };
        let mut found = vec![(KeyMeans::default(), 0.0); self.space.keys().len()];
        let mut gradients = BTreeMap::new();
        let shared = Shared::new(self.ranks, self.generator.params())?;
        let handing = shared.as_ref().map(|shared| self.generator.handing(shared.handover()));
        let generator = handing.as_ref().unwrap_or(self.generator);
        let mut remaining = chunks.len();
        for range in chunks {
            remaining -= 1;
            let images = self.timed("generate", &mut timings.generate, || self.generate(generator, range.clone()))?;
            let chunk = self.timed("encode", &mut timings.encode, || Chunk::new(self, range, &images))?;
            let (seed, waiting) = self.timed("drift", &mut timings.drift, || self.seed(&chunk, place, &mut found))?;
            if let (Some(shared), 0) = (&shared, remaining) {
                shared.last();
            }
            self.timed("backward", &mut timings.backward, || self.backward(seed, &mut gradients))?;
            self.timed("drift", &mut timings.drift, || self.read_back(&chunk, &waiting, &mut found))?;
        }
        if let Some(shared) = shared {
            gradients = shared.finish(self.generator.params(), &mut gradients)?;
        }
        let (means, losses): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        self.report(gradients, &self.whole_losses(&losses), self.gather(share, &means))
    }

    /// The means over the whole step, where the scales need them and one stretch of groups does not have them all.
    fn whole_step_means(
        &self,
        share: Share,
        chunks: &[Range<usize>],
        timings: &mut Timings,
    ) -> Result<Option<Vec<KeyMeans>>, StepError> {
        let keys = self.space.keys();
        let remembered = keys.iter().all(|key| self.past.contains_key(key.name()));
        let known = match self.settings.scale_scope {
            ScaleScope::Group => true,
            ScaleScope::Ema => remembered,
            ScaleScope::Batch => false,
        };
        if known {
            return Ok(None);
        }
        let images = chunks.iter().map(|range| {
            self.timed("generate", &mut timings.generate, || {
                Ok::<_, StepError>(self.generate(self.generator, range.clone())?.detach())
            })
        });
        let images: Vec<_> = images.collect::<Result<_, _>>()?;
        let mut means = vec![KeyMeans::default(); keys.len()];
        for (range, images) in chunks.iter().zip(&images) {
            let chunk = self.timed("encode", &mut timings.encode, || Chunk::new(self, range.clone(), images))?;
            self.timed("drift", &mut timings.drift, || {
                let found = chunk.views(self)?.distance_means(self, keys)?;
                means.iter_mut().zip(&found).for_each(|(means, found)| means.distances.extend_from_slice(found));
                Ok::<_, StepError>(())
            })?;
        }
        let mut means = self.gather(share, &means);
        let mut squares = vec![KeyMeans::default(); keys.len()];
        for (range, images) in chunks.iter().zip(&images) {
            let chunk = self.timed("encode", &mut timings.encode, || Chunk::new(self, range.clone(), images))?;
            self.timed("drift", &mut timings.drift, || {
                let own = |means: &KeyMeans| {
                    share.part(&pool(&means.distances, ScaleScope::Batch), 1)[range.clone()].to_vec()
                };
                let distances: Vec<_> = means.iter().map(own).collect();
                let found = chunk.views(self)?.square_means(self, keys, &distances)?;
                squares.iter_mut().zip(&found).for_each(|(squares, found)| squares.extend(&[], found));
                Ok::<_, StepError>(())
            })?;
        }
        for (means, squares) in means.iter_mut().zip(self.gather(share, &squares)) {
            means.squares = squares.squares;
        }
        Ok(Some(means))
    }

    /// [`timed`] on the device of the features.
    fn timed<T>(&self, name: &'static str, total: &mut Duration, part: impl FnOnce() -> T) -> T {
        timed(name, self.space.device(), total, part)
    }

    /// The class groups of this rank.
    fn share(&self) -> Result<Share, StepError> {
        let share = Share::of(self.ranks, self.groups);
        match share.groups == self.weights.len() && share.groups > 0 {
            true => Ok(share),
            false => Err(StepError::Share { groups: self.groups, ranks: self.ranks.size(), given: self.weights.len() }),
        }
    }

    /// The means of the class groups of all ranks.
    fn gather(&self, share: Share, means: &[KeyMeans]) -> Vec<KeyMeans> {
        let lists = |means: &KeyMeans| 1 + means.squares.len();
        let all = means.iter().flat_map(|means| [&means.distances].into_iter().chain(&means.squares));
        // A pass that looked at one kind of mean only has none of the other.
        let all: Vec<&[Mean]> = all.map(Vec::as_slice).collect();
        let there: Vec<&[Mean]> = all.iter().copied().filter(|list| !list.is_empty()).collect();
        let mut gathered = share.gather(self.ranks, &there).into_iter();
        let mut whole =
            all.into_iter().map(|list| if list.is_empty() { Vec::new() } else { gathered.next().unwrap_or_default() });
        means
            .iter()
            .map(|means| {
                let distances = whole.next().unwrap_or_default();
                KeyMeans { distances, squares: whole.by_ref().take(lists(means) - 1).collect() }
            })
            .collect()
    }

    /// Each key's loss over the class groups of all ranks.
    fn whole_losses(&self, losses: &[f64]) -> Vec<f64> {
        let all = self.ranks.gather(losses);
        (0..losses.len()).map(|key| all.iter().skip(key).step_by(losses.len()).sum()).collect()
    }

    /// The images of a stretch of groups, with their graph.
    fn generate(&self, generator: &Generator, groups: Range<usize>) -> Result<Tensor, StepError> {
        let (config, per_group) = (generator.config(), self.sizes.generated);
        let rows = |len: usize| groups.start * per_group * len..groups.end * per_group * len;
        let inputs = Inputs {
            noise: self.inputs.noise[rows(config.image.len())].to_vec(),
            style: self.inputs.style[rows(config.style_tokens)].to_vec(),
            class: self.inputs.class[rows(1)].to_vec(),
            alpha: self.inputs.alpha[rows(1)].to_vec(),
        };
        Ok(generator.run(&inputs)?)
    }

    /// Adds the gradients of the parameters.
    fn backward(&self, seed: Option<Tensor>, sums: &mut BTreeMap<String, Tensor>) -> Result<(), StepError> {
        let Some(seed) = seed else { return Ok(()) };
        let mut store = seed.backward()?;
        for (name, var) in self.generator.params().iter() {
            let Some(gradient) = store.remove(var) else { continue };
            let sum = match sums.remove(name) {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            };
            sums.insert(name.to_owned(), sum);
        }
        Ok(())
    }

    fn report(
        &self,
        gradients: BTreeMap<String, Tensor>,
        losses: &[f64],
        means: Vec<KeyMeans>,
    ) -> Result<Objective, StepError> {
        let mut found = Objective { gradients, loss: 0.0, keys: BTreeMap::new(), scales: BTreeMap::new() };
        for ((key, &loss), means) in self.space.keys().iter().zip(losses).zip(means) {
            if !loss.is_finite() {
                return Err(StepError::Loss { key: key.name().to_owned(), loss });
            }
            let scale = KeyScale::of(&means.distances, &means.squares, self.settings.scale_scope);
            let metrics = KeyMetrics { scale: scale.distance, drift: scale.squares.clone(), loss };
            found.loss += loss;
            found.keys.insert(key.name().to_owned(), metrics);
            found.scales.insert(key.name().to_owned(), scale);
        }
        Ok(found)
    }
}

/// `groups` class groups, `at_once` at a time; 0 for all.
fn chunks(groups: usize, at_once: usize) -> Vec<Range<usize>> {
    let size = if at_once == 0 { groups.max(1) } else { at_once };
    (0..groups).step_by(size).map(|start| start..(start + size).min(groups)).collect()
}
