//! From distances to the coefficients of the targets, all problems together (method step 5; paper Algorithm 2, eq. 8-12).

use std::ops::Range;

use candle_core::Tensor;

use super::super::batch::Columns;
use super::super::settings::{Coupling, DriftSettings, Kernel, WeightPlacement};
use super::{TensorBatch, TensorResult, TensorTargets};

/// Dimension of the samples x, after groups and locations.
const SAMPLES: usize = 2;
/// Dimension of the targets y.
const TARGETS: usize = 3;
/// What logits are taken from at least: those of a target of weight 0 are -inf.
const LEAST_LOGIT: f32 = -1e30;
/// What masses are divided by at least: the share of nothing is nothing.
const LEAST_MASS: f32 = 1e-37;

/// What the affinities of a batch depend on besides the distances.
pub(super) struct Affinities<'a> {
    settings: &'a DriftSettings,
    columns: Columns,
    /// 1 where a sample meets itself, `[Ng, targets]`.
    itself: &'a Tensor,
    /// Guidance weights of the targets `[groups, 1, 1, targets]`.
    weights: Tensor,
    /// Negatives of a sample by weight, `[groups, 1, 1, 1]`.
    pushing: Tensor,
}

impl<'a> Affinities<'a> {
    pub(super) fn new(batch: &'a TensorBatch<'a>, settings: &'a DriftSettings) -> TensorResult<Self> {
        let TensorTargets { weight, columns, weights, itself, .. } = batch.targets;
        let weights = weights.reshape((weight.len(), 1, 1, columns.targets))?;
        let others = (columns.own - usize::from(settings.mask_self_negatives)) as f64;
        let unconditional = (columns.negatives - columns.own) as f64;
        let pushing = weight.iter().map(|&weight| (others + f64::from(weight) * unconditional) as f32);
        let pushing = Tensor::from_iter(pushing, itself.device())?.reshape(((), 1, 1, 1))?;
        Ok(Self { settings, columns: *columns, itself, weights, pushing })
    }

    /// The coefficients c `[groups, T, Ng, targets]` of V = sum of c y, whose rows sum to 0, from scaled and masked distances.
    pub(super) fn coefficients(&self, distances: &Tensor, temperature: f32) -> TensorResult<Tensor> {
        let affinities = self.affinities(distances, temperature)?;
        let coefficients = match self.settings.coupling {
            Coupling::Mmd => self.kernel_gradient(&affinities, distances, temperature)?,
            _ => self.couple(&affinities)?,
        };
        let sums = coefficients.sum_keepdim(TARGETS)?;
        coefficients - sums.broadcast_mul(self.itself)?
    }

    /// The kernel with its normalisations and the weights of the targets.
    fn affinities(&self, distances: &Tensor, temperature: f32) -> TensorResult<Tensor> {
        let temperature = f64::from(temperature);
        let mut logits = match self.settings.kernel {
            Kernel::Exponential => (distances / -temperature)?,
            Kernel::Gaussian => ((distances / temperature)?.sqr()? * -0.5)?,
        };
        let within = self.settings.weight_placement == WeightPlacement::Logits;
        if within {
            logits = logits.broadcast_add(&self.weights.log()?)?;
        }
        let affinities = self.normalized(&logits)?;
        // What does not exist has no affinity, not even the floor's.
        let factors = if within { self.weights.gt(0.0)?.to_dtype(self.weights.dtype())? } else { self.weights.clone() };
        affinities.broadcast_mul(&factors)
    }

    /// The kernel with its normalisations, not below the floor.
    fn normalized(&self, logits: &Tensor) -> TensorResult<Tensor> {
        let DriftSettings { floor, sinkhorn_iterations, normalize_over_y, normalize_over_x, coupling, .. } =
            *self.settings;
        let kernel = match (normalize_over_y, normalize_over_x) {
            (true, true) if sinkhorn_iterations > 0 => self.balanced(logits, sinkhorn_iterations)?,
            (true, true) => {
                let products = (self.over_targets(logits)? * softmax(logits, SAMPLES)?)?;
                return products.maximum(floor)?.sqrt();
            }
            (true, false) => self.over_targets(logits)?,
            (false, true) => softmax(logits, SAMPLES)?,
            (false, false) => logits.exp()?,
        };
        if coupling == Coupling::Mmd { Ok(kernel) } else { kernel.maximum(floor.sqrt()) }
    }

    /// The targets that one normalisation spans: all of them, or negatives and positives apart.
    fn sides(&self) -> Vec<Range<usize>> {
        let Columns { negatives, targets, .. } = self.columns;
        match self.settings.coupling {
            Coupling::Split => vec![0..negatives, negatives..targets],
            _ => std::iter::once(0..targets).collect(),
        }
    }

    /// Each side by itself.
    fn of_sides(
        &self,
        matrix: &Tensor,
        change: impl Fn(&Tensor, Range<usize>) -> TensorResult<Tensor>,
    ) -> TensorResult<Tensor> {
        let sides = self.sides();
        if sides.len() == 1 {
            return change(matrix, 0..self.columns.targets);
        }
        let sides = sides.into_iter().map(|side| change(&matrix.narrow(TARGETS, side.start, side.len())?, side));
        Tensor::cat(&sides.collect::<TensorResult<Vec<_>>>()?, TARGETS)
    }

    fn over_targets(&self, logits: &Tensor) -> TensorResult<Tensor> {
        self.of_sides(logits, |side, _| softmax(side, TARGETS))
    }

    /// Sinkhorn balancing: every sample's weights of a side sum to 1, every target of a side of n has samples / n.
    fn balanced(&self, logits: &Tensor, rounds: usize) -> TensorResult<Tensor> {
        self.of_sides(logits, |side, range| {
            let share = (side.dim(SAMPLES)? as f64 / range.len() as f64).ln();
            let mut logits = side.clone();
            for _ in 0..rounds {
                logits = logits.broadcast_sub(&(log_sum_exp(&logits, SAMPLES)? - share)?)?;
                logits = logits.broadcast_sub(&log_sum_exp(&logits, TARGETS)?)?;
            }
            logits.exp()
        })
    }

    /// Affinities become coefficients: negative for negatives, positive for positives.
    fn couple(&self, affinities: &Tensor) -> TensorResult<Tensor> {
        let (negative, positive) = self.halves(affinities)?;
        let (negative_mass, positive_mass) = (negative.sum_keepdim(TARGETS)?, positive.sum_keepdim(TARGETS)?);
        let (push, pull) = match self.settings.coupling {
            Coupling::Joint => (positive_mass, negative_mass),
            _ => (inverse(&negative_mass)?, inverse(&positive_mass)?),
        };
        self.join(&negative.broadcast_mul(&push)?, &positive.broadcast_mul(&pull)?)
    }

    /// Kernels become coefficients -2 xi'(d^2) of y - x, averaged over each side (paper C.2).
    fn kernel_gradient(&self, kernel: &Tensor, distances: &Tensor, temperature: f32) -> TensorResult<Tensor> {
        let temperature = f64::from(temperature);
        let slopes = match self.settings.kernel {
            Kernel::Exponential => (kernel / (distances * temperature)?)?,
            Kernel::Gaussian => (kernel / (temperature * temperature))?,
        };
        let slopes = slopes.broadcast_mul(&self.itself.affine(-1.0, 1.0)?)?;
        let (negative, positive) = self.halves(&slopes)?;
        let pull = 1.0 / (self.columns.targets - self.columns.negatives) as f64;
        self.join(&negative.broadcast_mul(&inverse(&self.pushing)?)?, &(positive * pull)?)
    }

    /// Negatives and positives.
    fn halves(&self, matrix: &Tensor) -> TensorResult<(Tensor, Tensor)> {
        let Columns { negatives, targets, .. } = self.columns;
        Ok((matrix.narrow(TARGETS, 0, negatives)?, matrix.narrow(TARGETS, negatives, targets - negatives)?))
    }

    fn join(&self, negative: &Tensor, positive: &Tensor) -> TensorResult<Tensor> {
        let negative = (negative * -f64::from(self.settings.repulsion))?;
        let positive = (positive * f64::from(self.settings.attraction))?;
        Tensor::cat(&[negative, positive], TARGETS)
    }
}

/// 1 / x, or 0 where x is 0.
fn inverse(masses: &Tensor) -> TensorResult<Tensor> {
    masses.gt(0.0)?.to_dtype(masses.dtype())? / masses.maximum(LEAST_MASS)?
}

fn softmax(logits: &Tensor, dim: usize) -> TensorResult<Tensor> {
    let largest = logits.max_keepdim(dim)?.maximum(LEAST_LOGIT)?;
    let weights = logits.broadcast_sub(&largest)?.exp()?;
    let shares = inverse(&weights.sum_keepdim(dim)?)?;
    weights.broadcast_mul(&shares)
}

/// ln of the sum of exp; 0 where there is nothing.
fn log_sum_exp(logits: &Tensor, dim: usize) -> TensorResult<Tensor> {
    let largest = logits.max_keepdim(dim)?.maximum(LEAST_LOGIT)?;
    let sums = logits.broadcast_sub(&largest)?.exp()?.sum_keepdim(dim)?;
    let there = sums.gt(0.0)?.to_dtype(sums.dtype())?;
    (sums.maximum(LEAST_MASS)?.log()? + largest)? * there
}
