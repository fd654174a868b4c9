//! One transformer block with adaLN-zero (paper appendix A.2).

use candle_core::{DType, Tensor};
use drifting_spec::{GeneratorConfig, QkNorm};

use crate::Result;
use crate::nn::{Builder, Init, Linear, ModulatedNorm};
use crate::ops::{self, Attention, BlockSettings, BlockSizes, Handover, Modulation, Rotation};

/// x += gate * attention(norm(x)); x += gate * SwiGLU(norm(x)), both norms and gates modulated by the condition.
#[derive(Clone, Debug)]
pub(super) struct Block {
    modulation: Linear,
    norms: [ModulatedNorm; 2],
    qkv: Linear,
    gains: [Tensor; 2],
    attention_out: Linear,
    mlp: Swiglu,
    settings: BlockSettings,
}

impl Block {
    pub(super) fn new(builder: &Builder, config: &GeneratorConfig) -> Result<Self> {
        let (hidden, head_dim) = (config.hidden, config.head_dim());
        let norm = |name| ModulatedNorm::new(&builder.part(name), config.norm, hidden, config.norm_affine);
        let attention = builder.part("attn");
        let gain = |name: &str| match config.qk_norm {
            QkNorm::Rms => attention.part(name).param("weight", &[head_dim], Init::Ones),
            QkNorm::L2 | QkNorm::Off => Ok(Tensor::ones(head_dim, DType::F32, builder.device())?),
        };
        let norms = [norm("norm1")?, norm("norm2")?];
        let norm_parts = norms[0].parts();
        Ok(Self {
            modulation: Linear::new(&builder.part("modulation"), hidden, 6 * hidden, Init::Zeros)?,
            norms,
            qkv: Linear::new(&attention.part("qkv"), hidden, 3 * hidden, Init::Xavier)?,
            gains: [gain("q_norm")?, gain("k_norm")?],
            attention_out: Linear::new(&attention.part("out"), hidden, hidden, Init::Xavier)?,
            mlp: Swiglu::new(&builder.part("mlp"), hidden, config.mlp_inner())?,
            settings: BlockSettings {
                sizes: BlockSizes { hidden, inner: config.mlp_inner(), head_dim, norm_parts },
                norm: config.norm,
                attention: Attention { heads: config.heads, qk_norm: config.qk_norm, rotation: Rotation::of(config) },
            },
        })
    }

    /// x `[batch, tokens, hidden]`, condition `[batch, hidden]` after SiLU. Where the block is one operation its gradients are handed
    /// over.
    pub(super) fn forward(&self, x: &Tensor, condition: &Tensor, handover: Option<&Handover>) -> Result<Tensor> {
        // Columns: shift, scale, gate of the attention, then of the MLP.
        let modulation = match handover {
            Some(handover) => self.modulation.handing(handover)?.forward(condition)?,
            None => self.modulation.forward(condition)?,
        };
        if ops::recomputes() && !ops::fused(x.device()) {
            return Ok(ops::block_recomputed(x, &modulation, &self.packed(handover)?, &self.settings)?);
        }
        if ops::is_one_operation(x.device(), &self.settings) {
            return Ok(ops::block(x, &modulation, &self.packed(handover)?, &self.settings)?);
        }
        let column = |i: usize| i * self.settings.sizes.hidden;
        let normed = self.norms[0].forward(x, &modulation, Modulation { shift: column(0), scale: column(1) })?;
        let gains = Tensor::stack(&self.gains, 0)?;
        let mixed = ops::attention(&self.qkv.forward(&normed)?, &gains, &self.settings.attention)?;
        let x = ops::gated_add(x, &self.attention_out.forward(&mixed)?, &modulation, column(2))?;
        let normed = self.norms[1].forward(&x, &modulation, Modulation { shift: column(3), scale: column(4) })?;
        Ok(ops::gated_add(&x, &self.mlp.forward(&normed)?, &modulation, column(5))?)
    }

    /// The parameters in the order of [`BlockSizes`].
    fn packed(&self, handover: Option<&Handover>) -> Result<Tensor> {
        let dense = |layer: &Linear| [layer.weight().clone(), layer.bias().clone()];
        let [norm1, norm2] = self.norms.each_ref().map(ModulatedNorm::rows);
        let parts: Vec<Tensor> = norm1
            .into_iter()
            .chain(dense(&self.qkv))
            .chain(self.gains.iter().cloned())
            .chain(dense(&self.attention_out))
            .chain(norm2)
            .chain([&self.mlp.gate, &self.mlp.value, &self.mlp.out].into_iter().flat_map(dense))
            .collect();
        let flat = parts.iter().map(Tensor::flatten_all).collect::<candle_core::Result<Vec<_>>>()?;
        let flat = Tensor::cat(&flat, 0)?;
        Ok(match handover {
            Some(handover) => handover.of(parts, &flat)?,
            None => flat,
        })
    }
}

/// (SiLU(x W1 + b1) * (x W3 + b3)) W2 + b2.
#[derive(Clone, Debug)]
struct Swiglu {
    gate: Linear,
    value: Linear,
    out: Linear,
}

impl Swiglu {
    fn new(builder: &Builder, hidden: usize, inner: usize) -> Result<Self> {
        Ok(Self {
            gate: Linear::new(&builder.part("gate"), hidden, inner, Init::Xavier)?,
            value: Linear::new(&builder.part("value"), hidden, inner, Init::Xavier)?,
            out: Linear::new(&builder.part("out"), inner, hidden, Init::Xavier)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.out.forward(&ops::swiglu(&self.gate.forward(x)?, &self.value.forward(x)?)?)
    }
}
