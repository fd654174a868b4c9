//! From the authors' parameter tree to our parameters (method section 20).

use std::collections::BTreeMap;

use candle_core::Tensor;
use drifting_spec::{GeneratorConfig, QkNorm};

use super::flax::Tree;

/// The parameters of `config` from `tree`, all of it.
pub(super) fn tensors(tree: Tree<'_>, config: &GeneratorConfig) -> Result<BTreeMap<String, Tensor>, String> {
    let mut import = Import { tree, tensors: BTreeMap::new() };
    import.conditioning(config)?;
    import.tokens(config)?;
    for i in 0..config.depth {
        import.block(i, config)?;
    }
    let hidden = config.hidden;
    let last = "LightningDiT_0/FinalLayer_0";
    import.linear("final.modulation", &format!("{last}/TorchLinear_0"), [hidden, 2 * hidden])?;
    import.gain("final.norm.weight", &format!("{last}/RMSNorm_0"), hidden)?;
    import.linear("final.out", &format!("{last}/TorchLinear_1"), [hidden, config.patch_len()])?;
    match import.tree.rest() {
        Some(path) => Err(format!("tensor {path} belongs to no parameter of this network")),
        None => Ok(import.tensors),
    }
}

/// Moves tensors from one naming to the other.
struct Import<'a> {
    tree: Tree<'a>,
    tensors: BTreeMap<String, Tensor>,
}

impl Import<'_> {
    fn conditioning(&mut self, config: &GeneratorConfig) -> Result<(), String> {
        let hidden = config.hidden;
        let classes = self.tree.take("Embed_0/embedding", &[config.classes, hidden])?;
        self.tensors.insert("class_embed.weight".to_owned(), classes);
        let table = |j| format!("noise_embeds_{j}/embedding");
        let tables = (0..config.style_tokens)
            .map(|j| self.tree.take(&table(j), &[config.style_codes, hidden]))
            .collect::<Result<Vec<_>, _>>()?;
        if !tables.is_empty() {
            self.put("style_embed.weight", "noise_embeds_0/embedding", Tensor::stack(&tables, 0))?;
        }
        let alpha = "TimestepEmbedder_0";
        self.linear("alpha_embed.in", &format!("{alpha}/TorchLinear_0"), [ALPHA_FREQUENCIES, hidden])?;
        self.linear("alpha_embed.out", &format!("{alpha}/TorchLinear_1"), [hidden, hidden])?;
        self.gain("alpha_embed.norm.weight", "RMSNorm_0", hidden)
    }

    fn tokens(&mut self, config: &GeneratorConfig) -> Result<(), String> {
        let (hidden, patches, registers) = (config.hidden, config.patches(), config.registers);
        self.linear("patch_embed", "LightningDiT_0/TorchLinear_0", [config.patch_len(), hidden])?;
        self.embedding("pos_embed", "LightningDiT_0/pos_embed", [patches, hidden])?;
        if registers > 0 {
            self.linear("register.proj", "LightningDiT_0/TorchLinear_1", [hidden, hidden])?;
            self.embedding("register.embed", "LightningDiT_0/cls_embed", [registers, hidden])?;
        }
        Ok(())
    }

    fn block(&mut self, i: usize, config: &GeneratorConfig) -> Result<(), String> {
        let (hidden, inner) = (config.hidden, config.mlp_inner());
        let linears = [
            ("modulation", "TorchLinear_0", [hidden, 6 * hidden]),
            ("attn.qkv", "Attention_0/TorchLinear_0", [hidden, 3 * hidden]),
            ("attn.out", "Attention_0/TorchLinear_1", [hidden, hidden]),
            ("mlp.gate", "SwiGLUFFN_0/TorchLinear_0", [hidden, inner]),
            ("mlp.value", "SwiGLUFFN_0/TorchLinear_1", [hidden, inner]),
            ("mlp.out", "SwiGLUFFN_0/TorchLinear_2", [inner, hidden]),
        ];
        let gains = [("norm1", "RMSNorm_0", hidden), ("norm2", "RMSNorm_1", hidden)];
        let head_gains = [("attn.q_norm", "Attention_0/q_norm"), ("attn.k_norm", "Attention_0/k_norm")];
        let head_gains = head_gains.map(|(ours, theirs)| (ours, theirs, config.head_dim()));
        let head_gains = if config.qk_norm == QkNorm::Rms { head_gains.as_slice() } else { &[] };
        let path = |theirs| format!("LightningDiT_0/blocks_{i}/{theirs}");
        for (ours, theirs, sizes) in linears {
            self.linear(&format!("blocks.{i}.{ours}"), &path(theirs), sizes)?;
        }
        for &(ours, theirs, size) in gains.iter().chain(head_gains) {
            self.gain(&format!("blocks.{i}.{ours}.weight"), &path(theirs), size)?;
        }
        Ok(())
    }

    /// A kernel `[in, out]` becomes a weight `[out, in]`.
    fn linear(&mut self, ours: &str, theirs: &str, [inputs, outputs]: [usize; 2]) -> Result<(), String> {
        let kernel = format!("{theirs}/Dense_0/kernel");
        let weight = self.tree.take(&kernel, &[inputs, outputs])?;
        self.put(&format!("{ours}.weight"), &kernel, weight.t().and_then(|weight| weight.contiguous()))?;
        let bias = self.tree.take(&format!("{theirs}/Dense_0/bias"), &[outputs])?;
        self.tensors.insert(format!("{ours}.bias"), bias);
        Ok(())
    }

    fn gain(&mut self, ours: &str, theirs: &str, size: usize) -> Result<(), String> {
        let gain = self.tree.take(&format!("{theirs}/weight"), &[size])?;
        self.tensors.insert(ours.to_owned(), gain);
        Ok(())
    }

    /// `[1, count, width]` becomes `[count, width]`.
    fn embedding(&mut self, ours: &str, theirs: &str, [count, width]: [usize; 2]) -> Result<(), String> {
        let embedding = self.tree.take(theirs, &[1, count, width])?;
        self.put(ours, theirs, embedding.squeeze(0))
    }

    fn put(&mut self, ours: &str, theirs: &str, tensor: candle_core::Result<Tensor>) -> Result<(), String> {
        let tensor = tensor.map_err(|error| format!("tensor {theirs}: {error}"))?;
        self.tensors.insert(ours.to_owned(), tensor);
        Ok(())
    }
}

/// Cosines and sines of alpha.
const ALPHA_FREQUENCIES: usize = 256;
