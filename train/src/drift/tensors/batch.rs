//! The features of one key on a device.

use candle_core::{Device, Tensor};

use super::super::DriftError;
use super::super::batch::{Columns, Features, KeyBatch, KeyShape};
use super::super::phases::Measured;
use super::super::settings::DriftSettings;
use super::TensorResult;
use super::targets::{TensorTargets, columns};

/// One feature key of one step on a device, image by image as an encoder gives it. Generated samples are each other's negatives.
#[derive(Clone, Debug)]
pub struct TensorBatch<'a> {
    pub(super) key: &'a str,
    pub(super) shape: KeyShape,
    /// G `[groups * Ng, T, D]`
    pub(super) generated: Tensor,
    /// P of all groups, then U `[groups * images, T, D]`
    pub(super) real: Tensor,
    pub(super) targets: &'a TensorTargets<'a>,
}

impl<'a> TensorBatch<'a> {
    /// A batch for `key`, the name that errors call it by, from features `[groups * images, T, D]` of the generated images and
    /// of the real ones, the positives of all groups before the unconditional images.
    ///
    /// # Errors
    /// A size of 0 (only Nu may be), tensors or targets that do not have the shape's sizes, weights that are negative or not
    /// finite.
    pub fn new(
        key: &'a str,
        shape: KeyShape,
        generated: &Tensor,
        real: &Tensor,
        targets: &'a TensorTargets<'a>,
    ) -> Result<Self, DriftError> {
        shape.check(key, shape.generated)?;
        shape.check_weights(key, targets.weight)?;
        let mismatch = |problem| Err(DriftError::Shape { key: key.to_owned(), problem });
        if columns(shape) != targets.columns {
            return mismatch(format!("images {:?}, targets {:?}", columns(shape), targets.columns));
        }
        let KeyShape { groups, locations, dim, positives, unconditional, .. } = shape;
        for (set, found, images) in
            [("generated", generated, shape.generated), ("real", real, positives + unconditional)]
        {
            let expected = [groups * images, locations, dim];
            if found.dims() != expected {
                return mismatch(format!("{set} features {:?}, expected {expected:?}", found.dims()));
            }
        }
        Ok(Self { key, shape, generated: generated.detach(), real: real.detach(), targets })
    }

    /// G, U, P: `[groups * images, T, D]`, in the order of the targets.
    fn sets(&self) -> TensorResult<Vec<Tensor>> {
        let KeyShape { groups, positives, unconditional, .. } = self.shape;
        let mut sets = vec![self.generated.clone()];
        if unconditional > 0 {
            sets.push(self.real.narrow(0, groups * positives, groups * unconditional)?);
        }
        sets.push(self.real.narrow(0, 0, groups * positives)?);
        Ok(sets)
    }

    pub(super) fn columns(&self) -> Columns {
        self.targets.columns
    }

    /// The vectors of every problem, `[groups, T, images, D]`: generated samples, then the other targets.
    pub(super) fn points(&self) -> TensorResult<Tensor> {
        let KeyShape { groups, locations, dim, .. } = self.shape;
        let problems = |set: &Tensor| {
            let images = set.dim(0)? / groups;
            set.reshape((groups, images, locations, dim))?.transpose(1, 2)?.contiguous()
        };
        let sets = self.sets()?.iter().map(problems).collect::<TensorResult<Vec<_>>>()?;
        Tensor::cat(&sets, 2)
    }

    /// Why some distance is not finite.
    pub(super) fn culprit(&self, settings: &DriftSettings) -> DriftError {
        let unknown = || DriftError::NotFinite { key: self.key.to_owned(), group: 0, location: 0, set: "some" };
        let numbers = |set: &Tensor| set.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<f32>();
        let sets = self.sets().and_then(|sets| sets.iter().map(numbers).collect::<TensorResult<Vec<_>>>());
        let Ok(mut sets) = sets else { return unknown() };
        let positives = sets.pop().unwrap_or_default();
        let unconditional = if sets.len() > 1 { sets.pop().unwrap_or_default() } else { Vec::new() };
        let generated = sets.pop().unwrap_or_default();
        let features = Features {
            generated: &generated,
            positives: &positives,
            unconditional: &unconditional,
            weight: self.targets.weight,
        };
        let found =
            KeyBatch::new(self.key, self.shape, features).and_then(|batch| Measured::new(&batch, settings).map(drop));
        found.err().unwrap_or_else(unknown)
    }
}
