//! Normalisation with adaLN modulation.

use candle_core::{DType, Tensor};
use drifting_spec::Norm;

use super::{Builder, Init};
use crate::ops::{self, Modulation};
use crate::{Error, Result};

/// RMSNorm or LayerNorm over the last dimension, its gain and bias learned or absent.
#[derive(Clone, Debug)]
pub struct ModulatedNorm {
    kind: Norm,
    /// `[1, hidden]` gain or `[2, hidden]` gain and bias.
    affine: Affine,
}

#[derive(Clone, Debug)]
enum Affine {
    Gain(Tensor),
    GainAndBias(Tensor, Tensor),
    Absent(Tensor),
}

impl ModulatedNorm {
    /// Parameters `weight` `[hidden]` (ones) and, for LayerNorm, `bias` (zeros); none without `affine`.
    ///
    /// # Errors
    /// As [`Builder::param`].
    pub fn new(builder: &Builder, kind: Norm, hidden: usize, affine: bool) -> Result<Self> {
        let weight = || builder.param("weight", &[hidden], Init::Ones);
        let affine = match (affine, kind) {
            (true, Norm::Rms) => Affine::Gain(weight()?),
            (true, Norm::Layer) => Affine::GainAndBias(weight()?, builder.param("bias", &[hidden], Init::Zeros)?),
            (false, _) => Affine::Absent(Tensor::ones((1, hidden), DType::F32, builder.device())?),
        };
        Ok(Self { kind, affine })
    }

    /// Gain `[1, hidden]`, or gain and bias `[2, hidden]`; ones without learned parameters.
    ///
    /// # Errors
    /// Only those of tensor operations.
    pub fn affine(&self) -> Result<Tensor> {
        Ok(match &self.affine {
            Affine::Gain(gain) => gain.unsqueeze(0)?,
            Affine::GainAndBias(gain, bias) => Tensor::stack(&[gain, bias], 0)?,
            Affine::Absent(ones) => ones.clone(),
        })
    }

    /// The rows of [`affine`](Self::affine) as they are: parameters, or a constant.
    #[must_use]
    pub fn rows(&self) -> Vec<Tensor> {
        match &self.affine {
            Affine::Gain(gain) => vec![gain.clone()],
            Affine::GainAndBias(gain, bias) => vec![gain.clone(), bias.clone()],
            Affine::Absent(ones) => vec![ones.clone()],
        }
    }

    /// Rows of [`affine`](Self::affine).
    #[must_use]
    pub fn parts(&self) -> usize {
        if matches!(self.affine, Affine::GainAndBias(..)) { 2 } else { 1 }
    }

    /// affine(normalised x) * (1 + scale) + shift for x `[batch, tokens, hidden]`; shift and scale are the named columns
    /// of `modulation` `[batch, width]`.
    ///
    /// # Errors
    /// Shapes that do not fit each other.
    pub fn forward(&self, x: &Tensor, modulation: &Tensor, columns: Modulation) -> Result<Tensor> {
        let affine = self.affine()?;
        ops::norm(self.kind, x, &affine, modulation, columns).map_err(Error::from)
    }

    /// affine(normalised x) without modulation.
    ///
    /// # Errors
    /// An input of another width.
    pub fn unmodulated(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, _, hidden) = x.dims3()?;
        let none = Tensor::zeros((batch, hidden), DType::F32, x.device())?;
        self.forward(x, &none, Modulation { shift: 0, scale: 0 })
    }
}
