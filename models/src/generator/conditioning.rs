//! The conditioning vector: class, style and guidance (paper appendix A.2).

use candle_core::Tensor;
use drifting_spec::{AlphaEmbedding, GeneratorConfig, Norm};

use crate::nn::{Builder, Init, Linear, ModulatedNorm};
use crate::{Result, ops};

/// Frequencies of the sinusoids of alpha.
const FREQUENCIES: usize = 128;
/// Factor of the alpha embedding in the sum.
const ALPHA_WEIGHT: f64 = 0.02;
/// Standard deviation of new embeddings.
const DEVIATION: f64 = 0.02;

/// Sum of class, style and alpha embeddings.
#[derive(Clone, Debug)]
pub(super) struct Conditioning {
    class: Tensor,
    style: Option<Style>,
    alpha: Alpha,
}

#[derive(Clone, Debug)]
struct Style {
    /// `[tables, codes, hidden]`.
    tables: Tensor,
    tokens: usize,
}

#[derive(Clone, Debug)]
struct Alpha {
    /// `[1, FREQUENCIES]`, or `None` for the plain scalar.
    frequencies: Option<Tensor>,
    inner: Linear,
    out: Linear,
    norm: Option<ModulatedNorm>,
}

impl Conditioning {
    pub(super) fn new(builder: &Builder, config: &GeneratorConfig) -> Result<Self> {
        let hidden = config.hidden;
        let class = builder.part("class_embed").param("weight", &[config.classes, hidden], Init::Normal(DEVIATION))?;
        let shape = [config.style_table_count(), config.style_codes, hidden];
        let style = match config.style_tokens {
            0 => None,
            tokens => {
                let tables = builder.part("style_embed").param("weight", &shape, Init::Normal(DEVIATION))?;
                Some(Style { tables, tokens })
            }
        };
        let alpha = Alpha::new(&builder.part("alpha_embed"), config)?;
        Ok(Self { class, style, alpha })
    }

    /// style `[batch, style tokens]`, class `[batch]`, alpha `[batch]` to `[batch, hidden]`.
    pub(super) fn forward(&self, style: &Tensor, class: &Tensor, alpha: &Tensor) -> Result<Tensor> {
        let mut condition = ops::sum_of_rows(&self.class, &class.unsqueeze(1)?)?;
        if let Some(table) = &self.style {
            condition = (condition + table.forward(style)?)?;
        }
        Ok((condition + self.alpha.forward(alpha)?)?)
    }
}

impl Style {
    fn forward(&self, style: &Tensor) -> candle_core::Result<Tensor> {
        let (tables, codes, hidden) = self.tables.dims3()?;
        let (_, tokens) = style.dims2()?;
        if tokens != self.tokens {
            candle_core::bail!("style: {tokens} codes an image, expected {}", self.tokens);
        }
        if style.device().is_cpu() {
            let largest = style.flatten_all()?.to_vec1::<i64>()?.into_iter().max().unwrap_or(0);
            if largest >= codes as i64 {
                candle_core::bail!("style: code {largest} of 0..{codes}");
            }
        }
        let all = self.tables.reshape((tables * codes, hidden))?;
        if tables == 1 {
            return ops::sum_of_rows(&all, style);
        }
        let starts: Vec<i64> = (0..tables as i64).map(|table| table * codes as i64).collect();
        let starts = Tensor::from_vec(starts, (1, tables), style.device())?;
        ops::sum_of_rows(&all, &style.broadcast_add(&starts)?)
    }
}

impl Alpha {
    fn new(builder: &Builder, config: &GeneratorConfig) -> Result<Self> {
        let hidden = config.hidden;
        let (width, frequencies, norm) = match config.alpha_embedding {
            AlphaEmbedding::Sinusoidal => {
                let table = (0..FREQUENCIES).map(|i| (-(1e4f64.ln()) * i as f64 / FREQUENCIES as f64).exp() as f32);
                let table = Tensor::from_vec(table.collect(), (1, FREQUENCIES), builder.device())?;
                let norm = ModulatedNorm::new(&builder.part("norm"), Norm::Rms, hidden, true)?;
                (2 * FREQUENCIES, Some(table), Some(norm))
            }
            AlphaEmbedding::Mlp => (1, None, None),
        };
        let inner = Linear::new(&builder.part("in"), width, hidden, Init::Normal(DEVIATION))?;
        let out = Linear::new(&builder.part("out"), hidden, hidden, Init::Normal(DEVIATION))?;
        Ok(Self { frequencies, inner, out, norm })
    }

    fn forward(&self, alpha: &Tensor) -> Result<Tensor> {
        let alpha = alpha.unsqueeze(1)?;
        let input = match &self.frequencies {
            Some(frequencies) => {
                let angles = alpha.broadcast_mul(frequencies)?;
                Tensor::cat(&[angles.cos()?, angles.sin()?], 1)?
            }
            None => alpha,
        };
        let embedded = self.out.forward(&ops::silu(&self.inner.forward(&input)?)?)?;
        match &self.norm {
            Some(norm) => Ok((norm.unmodulated(&embedded.unsqueeze(1)?)?.squeeze(1)? * ALPHA_WEIGHT)?),
            None => Ok(embedded),
        }
    }
}
