//! The targets that samples meet: the same ones under every key of a stretch of class groups.

use candle_core::{DType, Device, Tensor};

use super::super::batch::{Columns, KeyShape};
use super::TensorResult;

/// Order and guidance weights of the targets of all problems of a stretch of class groups, on their device.
#[derive(Clone, Debug)]
pub struct TensorTargets<'a> {
    /// Guidance weight of each group.
    pub(super) weight: &'a [f32],
    pub(super) columns: Columns,
    /// Weights W of the targets, `[groups, targets]`.
    pub(super) weights: Tensor,
    /// The same in f64.
    pub(super) wide: Tensor,
    /// 1 where a sample meets itself, `[Ng, targets]`.
    pub(super) itself: Tensor,
}

impl<'a> TensorTargets<'a> {
    /// The targets of class groups with these numbers of images and guidance weights; the key's own sizes do not matter.
    ///
    /// # Errors
    /// The device fails.
    pub fn new(shape: KeyShape, weight: &'a [f32], device: &Device) -> TensorResult<Self> {
        let columns = columns(shape);
        let Columns { own, negatives, targets } = columns;
        let of_group = |&weight: &f32| {
            (0..targets).map(move |column| if (own..negatives).contains(&column) { weight } else { 1.0 })
        };
        let weights: Vec<f32> = weight.iter().flat_map(of_group).collect();
        let weights = Tensor::from_vec(weights, (weight.len(), targets), device)?;
        let itself = (0..own * targets).map(|at| f32::from(u8::from(at / targets == at % targets)));
        let itself = Tensor::from_iter(itself, device)?.reshape((own, targets))?;
        Ok(Self { weight, columns, wide: weights.to_dtype(DType::F64)?, weights, itself })
    }

    /// Sum of the weights of the targets of a sample of each group.
    pub(super) fn sums(&self) -> impl Iterator<Item = f64> + use<'_> {
        let Columns { own, negatives, targets } = self.columns;
        let (ones, weighted) = ((own + targets - negatives) as f64, (negatives - own) as f64);
        self.weight.iter().map(move |&weight| ones + f64::from(weight) * weighted)
    }
}

/// The targets of a sample: generated, unconditional and positive ones.
pub(super) fn columns(shape: KeyShape) -> Columns {
    let KeyShape { generated, unconditional, positives, .. } = shape;
    let negatives = generated + unconditional;
    Columns { own: generated, negatives, targets: negatives + positives }
}
