//! Multi-head attention with normalised, rotated queries and keys, from the packed projection to the merged heads.
//!
//! One task works on one head of one image, whose matrices stay in cache; nothing of size tokens x tokens reaches memory.
//! The backward pass computes the head again instead of keeping it.

use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor};
use drifting_spec::QkNorm;
use rayon::prelude::*;

use self::head::{Gradients, Head};
use super::linear::column_sums;
use super::positions::Rotation;
use super::storage::{Values, slice};
use super::{EPSILON, simd};

pub(super) mod head;

/// Added under the root of the L2 norm of queries and keys.
const L2_FLOOR: f32 = 1e-12;

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
    let head_dim = width / 3 / settings.heads;
    let table = settings.rotation.as_ref().map_or(tokens * (head_dim / 2), |rotation| rotation.cos.len());
    if width != 3 * settings.heads * head_dim || gains.dims() != [2, head_dim] || table != tokens * (head_dim / 2) {
        candle_core::bail!("attention of {:?} with {} heads: gains {:?}", qkv.dims(), settings.heads, gains.dims());
    }
    if qkv.device().is_cpu() {
        qkv.contiguous()?.apply_op2(&gains.contiguous()?, Fused(settings.clone()))
    } else {
        plain(qkv, gains, settings)
    }
}

fn plain(qkv: &Tensor, gains: &Tensor, settings: &Attention) -> Result<Tensor> {
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
        let table = |values: &[f32]| Tensor::from_slice(values, (tokens, half), qkv.device());
        let (cos, sin) = (table(&rotation.cos)?, table(&rotation.sin)?);
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

struct Fused(Attention);

impl CustomOp2 for Fused {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        layout: &Layout,
        gains: &CpuStorage,
        gains_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, tokens, width) = layout.shape().dims3()?;
        let (qkv, gains) = (slice(qkv, layout)?, slice(gains, gains_layout)?);
        let (heads, hidden) = (self.0.heads, width / 3);
        let head_dim = hidden / heads;
        let mut by_head = vec![0.0; batch * tokens * hidden];
        by_head.par_chunks_mut(tokens * head_dim).enumerate().for_each_init(
            || Head::new(&self.0, tokens, head_dim),
            |head, (task, out)| {
                let image = &qkv[task / heads * tokens * width..][..tokens * width];
                simd::dispatch_call(|out| head.forward(image, task % heads, gains, out), out);
            },
        );
        let out = merge(&by_head, [batch, tokens, heads, 1, head_dim]);
        Ok((CpuStorage::F32(out), (batch, tokens, hidden).into()))
    }

    fn bwd(&self, qkv: &Tensor, gains: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (batch, tokens, width) = qkv.dims3()?;
        let (values, gain_values, dy) = (Values::of(qkv)?, Values::of(gains)?, Values::of(&grad)?);
        let (values, gain_values, dy): (&[f32], &[f32], &[f32]) = (&values, &gain_values, &dy);
        let (heads, hidden) = (self.0.heads, width / 3);
        let head_dim = hidden / heads;
        let mut by_head = vec![0.0; batch * tokens * width];
        let mut gain_grads = vec![0.0; batch * heads * 2 * head_dim];
        by_head
            .par_chunks_mut(3 * tokens * head_dim)
            .zip(gain_grads.par_chunks_mut(2 * head_dim))
            .enumerate()
            .for_each_init(
                || (Head::new(&self.0, tokens, head_dim), Gradients::new(tokens, head_dim)),
                |(head, gradients), (task, (packed, gain_grad))| {
                    let (image, index) = (task / heads, task % heads);
                    let qkv = &values[image * tokens * width..][..tokens * width];
                    let dy = &dy[image * tokens * hidden..][..tokens * hidden];
                    simd::dispatch_call(|head| head.load(qkv, index, gain_values), &mut *head);
                    let written = (packed, gain_grad);
                    simd::dispatch_call(|out| gradients.backward(head, (dy, index), gain_values, out), written);
                },
            );
        let qkv_grad = merge(&by_head, [batch, tokens, heads, 3, head_dim]);
        let gain_grad = column_sums(&gain_grads, 2 * head_dim);
        Ok((
            Some(Tensor::from_vec(qkv_grad, qkv.shape(), qkv.device())?),
            Some(Tensor::from_vec(gain_grad, gains.shape(), qkv.device())?),
        ))
    }
}

/// `[batch][heads][parts][tokens][head_dim]` to `[batch][tokens][parts][heads][head_dim]`.
fn merge(by_head: &[f32], [batch, tokens, heads, parts, head_dim]: [usize; 5]) -> Vec<f32> {
    let image = tokens * parts * heads * head_dim;
    let mut out = vec![0.0; batch * image];
    out.par_chunks_mut(image).zip(by_head.par_chunks(image)).for_each(|(out, by_head)| {
        for (i, row) in out.chunks_exact_mut(head_dim).enumerate() {
            let (head, part, token) = (i % heads, i / heads % parts, i / heads / parts);
            row.copy_from_slice(&by_head[((head * parts + part) * tokens + token) * head_dim..][..head_dim]);
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, random};
    use super::*;
    use candle_core::Var;
    use drifting_spec::{GeneratorConfig, ImageShape, Rope};

    fn settings(qk_norm: QkNorm, rope: Rope) -> Attention {
        let image = ImageShape { channels: 1, height: 4, width: 6 };
        let config = GeneratorConfig { registers: 1, rope, ..GeneratorConfig::new(image, 2, 24, 1, 3, 3) };
        Attention { heads: 3, qk_norm, rotation: Rotation::of(&config) }
    }

    #[test]
    fn agrees_with_plain_operations() {
        for rope in [Rope::OneD, Rope::TwoD, Rope::Off] {
            let settings = settings(QkNorm::Rms, rope);
            let inputs = [random("qkv", &[2, 7, 72]), random("gains", &[2, 8])];
            agrees(&inputs, |t| attention(&t[0], &t[1], &settings), |t| plain(&t[0], &t[1], &settings));
        }
    }

    #[test]
    fn agrees_without_gains() {
        for qk_norm in [QkNorm::L2, QkNorm::Off] {
            let settings = settings(qk_norm, Rope::OneD);
            let gains = Var::ones((2, 8), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
            agrees(
                &[random("qkv", &[2, 7, 72])],
                |t| attention(&t[0], &gains, &settings),
                |t| plain(&t[0], &gains, &settings),
            );
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let settings = settings(QkNorm::Rms, Rope::OneD);
        assert!(attention(&random("qkv", &[2, 6, 72]), &random("gains", &[2, 8]), &settings).is_err());
        assert!(attention(&random("qkv", &[2, 7, 71]), &random("gains", &[2, 8]), &settings).is_err());
    }
}
