//! Flags that choose and set up an execution provider.

use drifting_serve::engine::{Precision, Provider, ProviderSettings};

/// What computes within ONNX Runtime
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Execution provider of ONNX Runtime")]
pub(crate) struct ProviderArgs {
    /// cpu, cuda, tensorrt (TensorRT 10), tensorrt-rtx; one that is not there is an error, never another one
    #[arg(long, value_name = "NAME", default_value_t)]
    provider: Provider,

    /// Number of the GPU
    #[arg(long, value_name = "N", default_value_t = 0)]
    device: u32,

    /// Numbers in a GPU's matrix products: model (as exported), tf32 (cuda), f16 or bf16 (tensorrt)
    #[arg(long, value_name = "NAME", default_value_t)]
    precision: Precision,

    /// Megabytes of the GPU's memory for CUDA's arena, or for TensorRT's workspace [default: no limit]
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    gpu_memory: Option<u64>,

    /// Record each batch size once as a CUDA graph and replay it (cuda, tensorrt)
    #[arg(long)]
    cuda_graphs: bool,

    /// Any option of the provider by ONNX Runtime's own key; replaces ours; can be given several times
    #[arg(long = "provider-option", value_name = "KEY=VALUE", value_parser = option)]
    options: Vec<(String, String)>,
}

impl ProviderArgs {
    /// The settings.
    pub(crate) fn settings(&self) -> ProviderSettings {
        ProviderSettings {
            provider: self.provider,
            device: self.device,
            precision: self.precision,
            memory_limit: self.gpu_memory,
            cuda_graphs: self.cuda_graphs,
            options: self.options.clone(),
        }
    }
}

fn option(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    if key.is_empty() {
        return Err(format!("{text:?} has no key"));
    }
    Ok((key.to_owned(), value.to_owned()))
}
