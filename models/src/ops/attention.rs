//! Multi-head attention with normalised, rotated queries and keys, from the packed projection to the merged heads.
//!
//! Here in plain operations, for devices other than the CPU; on the CPU a [`block`](super::block()) takes each head by
//! itself ([`head`]).

use candle_core::{D, Result, Tensor};
use drifting_spec::QkNorm;

use super::EPSILON;
use super::positions::Rotation;

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
    let (batch, tokens, width) = qkv.dims3()?;
    let (heads, head_dim) = (settings.heads, width / 3 / settings.heads);
    let table = settings.rotation.as_ref().map_or(tokens * (head_dim / 2), |rotation| rotation.cos.len());
    if width != 3 * heads * head_dim || gains.dims() != [2, head_dim] || table != tokens * (head_dim / 2) {
        candle_core::bail!("attention of {:?} with {heads} heads: gains {:?}", qkv.dims(), gains.dims());
    }
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

#[cfg(test)]
mod tests {
    use super::super::testing::random;
    use super::*;
    use candle_core::{DType, Device};
    use drifting_spec::{GeneratorConfig, ImageShape, Rope};

    fn settings(qk_norm: QkNorm, rope: Rope) -> Attention {
        let image = ImageShape { channels: 1, height: 4, width: 6 };
        let config = GeneratorConfig { registers: 1, rope, ..GeneratorConfig::new(image, 2, 24, 1, 3, 3) };
        Attention { heads: 3, qk_norm, rotation: Rotation::of(&config) }
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
