//! Multi-head attention with normalised, rotated queries and keys, from the packed projection to the merged heads.
//!
//! On the CPU each head of each image is taken by itself ([`head`]).

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use drifting_spec::QkNorm;

use self::head::{Gradients, Head};
use super::linear::column_sums;
use super::operations::{fused, kernels};
use super::positions::Rotation;
use super::simd::{self, Kernel};
use super::storage::{Values, slice, written};
use super::transpose::gather;
use super::{gpu, tensors};
use crate::profile;

pub(super) mod head;

/// Added under the root of the L2 norm of queries and keys.
pub(super) const L2_FLOOR: f32 = 1e-12;

/// How attention treats queries and keys.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Heads.
    pub heads: usize,
    /// Normalisation of each query and key.
    pub qk_norm: QkNorm,
    /// Rotary positions.
    pub rotation: Option<Rotation>,
}

/// softmax(q k^T / sqrt(head_dim)) v for every head.
///
/// Shapes: qkv `[batch, tokens, 3 * hidden]` with the last dimension split as `[3][heads][head_dim]`, gains `[2,
/// head_dim]` (of queries and keys; read only with [`QkNorm::Rms`]), result `[batch, tokens, hidden]`.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn attention(qkv: &Tensor, gains: &Tensor, settings: &Attention) -> Result<Tensor> {
    let (_, tokens, width) = qkv.dims3()?;
    let (heads, head_dim) = (settings.heads, width / 3 / settings.heads);
    let table = settings.rotation.as_ref().map_or(tokens * (head_dim / 2), |rotation| rotation.cos.len());
    if width != 3 * heads * head_dim || gains.dims() != [2, head_dim] || table != tokens * (head_dim / 2) {
        candle_core::bail!("attention of {:?} with {heads} heads: gains {:?}", qkv.dims(), gains.dims());
    }
    if kernels(qkv.device()) && gpu::attention_fits(head_dim) {
        return gpu::attention(qkv, gains, settings);
    }
    if fused(qkv.device()) {
        let op = Fused { settings: settings.clone(), tokens, head_dim };
        return qkv.contiguous()?.apply_op2(&gains.contiguous()?, op);
    }
    tensors::attention(qkv, gains, settings)
}

#[cfg(test)]
fn plain(qkv: &Tensor, gains: &Tensor, settings: &Attention) -> Result<Tensor> {
    use super::EPSILON;
    use candle_core::D;

    let (batch, tokens, width) = qkv.dims3()?;
    let (heads, head_dim) = (settings.heads, width / 3 / settings.heads);
    let packed = qkv.reshape((batch, tokens, 3, heads, head_dim))?;
    let part = |i: usize| packed.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
    let prepare = |i: usize| -> Result<Tensor> {
        let x = part(i)?;
        let normed = match settings.qk_norm {
            QkNorm::Rms => {
                let deviation = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(EPSILON))?.sqrt()?;
                x.broadcast_div(&deviation)?.broadcast_mul(&gains.get(i)?)?
            }
            QkNorm::L2 => x.broadcast_div(&x.sqr()?.sum_keepdim(D::Minus1)?.maximum(f64::from(L2_FLOOR))?.sqrt()?)?,
            QkNorm::Off => x,
        };
        let Some(rotation) = &settings.rotation else { return Ok(normed) };
        let half = head_dim / 2;
        let [cos, sin] = rotation.tables(tokens, qkv.device())?;
        let (low, high) = (normed.narrow(3, 0, half)?, normed.narrow(3, half, half)?);
        let new_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
        let new_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
        Tensor::cat(&[new_low, new_high], 3)
    };
    let (q, k) = (prepare(0)?, prepare(1)?);
    let logits = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? * (head_dim as f64).powf(-0.5))?;
    let exp = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?.exp()?;
    let weights = exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?;
    weights.matmul(&part(2)?)?.transpose(1, 2)?.reshape((batch, tokens, width / 3))
}

/// Tasks that the heads of all images are split into.
const TASKS: usize = 64;

struct Fused {
    settings: Attention,
    tokens: usize,
    head_dim: usize,
}

impl Fused {
    /// Numbers of a head of an image.
    fn len(&self) -> usize {
        self.tokens * self.head_dim
    }

    /// An image's part of `values`, `parts` matrices of all heads for each image, with the index of the head, by its number
    /// among the heads of all images.
    #[inline(always)]
    fn image<'a>(&self, values: &'a [f32], number: usize, parts: usize) -> (&'a [f32], usize) {
        let heads = self.settings.heads;
        let len = parts * heads * self.len();
        (&values[number / heads * len..][..len], number % heads)
    }

    /// Heads of a task, of so many heads.
    fn share(heads: usize) -> usize {
        heads.div_ceil(TASKS).max(1)
    }
}

impl CustomOp2 for Fused {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        qkv_layout: &Layout,
        gains: &CpuStorage,
        gains_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _span = profile::span("attention");
        let (batch, tokens, width) = qkv_layout.shape().dims3()?;
        let (qkv, gains) = (slice(qkv, qkv_layout)?, slice(gains, gains_layout)?);
        let (heads, len) = (self.settings.heads, self.len());
        let [out] = written(qkv.len() / 3, Self::share(batch * heads) * len, |start, [out]| {
            simd::dispatch_kernel(Forward { op: self, first: start / len, qkv, gains, out });
        });
        let d = self.head_dim;
        let out = match heads {
            1 => out,
            _ => gather(&out, &[batch, tokens, heads, d], &[heads * len, d, len, 1]),
        };
        Ok((CpuStorage::F32(out), (batch, tokens, width / 3).into()))
    }

    fn bwd(&self, qkv: &Tensor, gains: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let _span = profile::span("attention, backward");
        let grad = grad.contiguous()?;
        let (batch, tokens, _) = qkv.dims3()?;
        let (values, gain_values, dy) = (Values::of(qkv)?, Values::of(gains)?, Values::of(&grad)?);
        let (values, gain_values, dy): (&[f32], &[f32], &[f32]) = (&values, &gain_values, &dy);
        let (heads, len, d) = (self.settings.heads, self.len(), self.head_dim);
        let place = 3 * len + 2 * d;
        let share = Self::share(batch * heads);
        let [found] = written(batch * heads * place, share * place, |start, [out]| {
            let first = start / place;
            simd::dispatch_kernel(Backward { op: self, first, qkv: values, gains: gain_values, dy, out });
        });
        let dims = [batch, tokens, 3, heads, d];
        let dx = gather(&found, &dims, &[heads * place, d, len, place, 1]);
        let gain_grads = gather(found.get(3 * len..).unwrap_or(&[]), &[batch * heads, 2 * d], &[place, 1]);
        Ok((
            Some(Tensor::from_vec(dx, qkv.shape(), qkv.device())?),
            Some(Tensor::from_vec(column_sums(&gain_grads, 2 * d), gains.shape(), gains.device())?),
        ))
    }
}

struct Forward<'a> {
    op: &'a Fused,
    /// Number of the first head.
    first: usize,
    qkv: &'a [f32],
    gains: &'a [f32],
    /// Whole heads.
    out: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { op, first, qkv, gains, out } = self;
        let mut head = Head::new(&op.settings, op.tokens, op.head_dim);
        for (i, out) in out.chunks_exact_mut(op.len()).enumerate() {
            let (image, index) = op.image(qkv, first + i, 3);
            head.forward(image, index, gains, out);
        }
    }
}

struct Backward<'a> {
    op: &'a Fused,
    /// Number of the first head.
    first: usize,
    qkv: &'a [f32],
    gains: &'a [f32],
    dy: &'a [f32],
    /// Of each head the gradients of queries, keys and values, then those of the gains, zero before.
    out: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { op, first, qkv, gains, dy, out } = self;
        if op.len() == 0 {
            return;
        }
        let mut head = Head::new(&op.settings, op.tokens, op.head_dim);
        let mut gradients = Gradients::new(op.tokens, op.head_dim);
        for (i, out) in out.chunks_exact_mut(3 * op.len() + 2 * op.head_dim).enumerate() {
            let (image, index) = op.image(qkv, first + i, 3);
            head.load(image, index, gains);
            let (dy, _) = op.image(dy, first + i, 1);
            gradients.backward(&head, (dy, index), gains, out.split_at_mut(3 * op.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, random};
    use super::*;
    use candle_core::{DType, Device};
    use drifting_spec::{GeneratorConfig, ImageShape, Rope};

    fn settings(qk_norm: QkNorm, rope: Rope) -> Attention {
        let image = ImageShape { channels: 1, height: 4, width: 6 };
        let config = GeneratorConfig { registers: 1, rope, ..GeneratorConfig::new(image, 2, 24, 1, 3, 3) };
        Attention { heads: 3, qk_norm, rotation: Rotation::of(&config) }
    }

    #[test]
    fn agrees_with_plain_operations() {
        for (qk_norm, rope) in [(QkNorm::Rms, Rope::OneD), (QkNorm::L2, Rope::Off)] {
            let settings = settings(qk_norm, rope);
            let gains = random("gains", &[2, 8]);
            let read = if qk_norm == QkNorm::Rms { vec![gains.clone()] } else { Vec::new() };
            let inputs = [vec![random("qkv", &[2, 7, 72])], read].concat();
            let of = |t: &[Tensor]| t.get(1).map_or_else(|| gains.detach(), Tensor::clone);
            agrees(&inputs, |t| attention(&t[0], &of(t), &settings), |t| plain(&t[0], &of(t), &settings));
            agrees(&inputs, |t| tensors::attention(&t[0], &of(t), &settings), |t| plain(&t[0], &of(t), &settings));
        }
        let gains = random("gains", &[2, 5]).detach();
        for (batch, tokens) in [(1, 33), (70, 1)] {
            let settings = Attention { heads: 1, qk_norm: QkNorm::Off, rotation: None };
            let qkv = random("qkv", &[batch, tokens, 15]);
            let inputs = [qkv];
            agrees(&inputs, |t| attention(&t[0], &gains, &settings), |t| plain(&t[0], &gains, &settings));
            agrees(&inputs, |t| tensors::attention(&t[0], &gains, &settings), |t| plain(&t[0], &gains, &settings));
        }
        let empty = Tensor::zeros((0, 7, 72), DType::F32, &Device::Cpu).unwrap();
        let found = attention(&empty, &random("gains", &[2, 8]), &settings(QkNorm::Rms, Rope::OneD)).unwrap();
        assert_eq!(found.dims(), [0, 7, 24]);
    }

    #[test]
    fn equal_keys_share_the_attention() {
        let settings = settings(QkNorm::Off, Rope::Off);
        let (keys, values) = (Tensor::zeros((2, 7, 48), DType::F32, &Device::Cpu).unwrap(), random("v", &[2, 7, 24]));
        let qkv = Tensor::cat(&[&keys, values.as_tensor()], 2).unwrap();
        let found = attention(&qkv, &random("gains", &[2, 8]), &settings).unwrap();
        let expected = values.mean_keepdim(1).unwrap().broadcast_as((2, 7, 24)).unwrap();
        let worst = (found - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(worst < 1e-6, "{worst}");
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let settings = settings(QkNorm::Rms, Rope::OneD);
        assert!(attention(&random("qkv", &[2, 6, 72]), &random("gains", &[2, 8]), &settings).is_err());
        assert!(attention(&random("qkv", &[2, 7, 71]), &random("gains", &[2, 8]), &settings).is_err());
    }
}
