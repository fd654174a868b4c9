//! Execution providers of ONNX Runtime: what computes, and how it is set up.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::runtime::Kit;

/// What computes within ONNX Runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// The processor.
    #[default]
    Cpu,
    /// CUDA kernels on an NVIDIA GPU.
    Cuda,
    /// TensorRT 10, with CUDA for what it leaves over.
    #[serde(rename = "tensorrt")]
    TensorRt,
    /// TensorRT-RTX as a plug-in, with the processor for what it leaves over.
    #[serde(rename = "tensorrt-rtx")]
    TensorRtRtx,
}

impl Provider {
    const ALL: [Self; 4] = [Self::Cpu, Self::Cuda, Self::TensorRt, Self::TensorRtRtx];

    /// The names that [`Provider::from_str`] knows.
    pub const NAMES: [&'static str; 4] = ["cpu", "cuda", "tensorrt", "tensorrt-rtx"];

    /// ONNX Runtime's name.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
            Self::TensorRt => "TensorrtExecutionProvider",
            Self::TensorRtRtx => "NvTensorRTRTXExecutionProvider",
        }
    }

    /// The kit that holds the ONNX Runtime which this provider needs.
    #[must_use]
    pub fn kit(self) -> Kit {
        match self {
            // The plug-in brings everything of its own: any ONNX Runtime will do.
            Self::Cpu | Self::TensorRtRtx => Kit::OnnxRuntime,
            Self::Cuda | Self::TensorRt => Kit::Cuda,
        }
    }

    /// What mends a library of this provider that is not there or is of the wrong kind.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::Cpu => "`drifting runtime install` fetches ONNX Runtime",
            Self::Cuda => "`drifting runtime install --cuda` fetches what it needs",
            Self::TensorRt => {
                "`drifting runtime install --cuda` fetches ONNX Runtime, and TensorRT 10 comes from NVIDIA's own packages"
            }
            Self::TensorRtRtx => "`drifting runtime install --tensorrt` fetches what it needs",
        }
    }
}

impl FromStr for Provider {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let position = Self::NAMES.iter().position(|known| *known == name);
        let provider = position.and_then(|position| Self::ALL.get(position)).copied();
        provider.ok_or_else(|| format!("no execution provider is called {name:?}: {} are", Self::NAMES.join(", ")))
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES[*self as usize])
    }
}

/// What a GPU computes an exported f32 model with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The types of the model file; an f32 model in f32.
    #[default]
    Model,
    /// f32 with matrix products of 10-bit mantissas (TensorFloat-32).
    Tf32,
    /// TensorRT 10 may take f16.
    F16,
    /// TensorRT 10 may take bf16.
    Bf16,
}

impl Precision {
    const ALL: [Self; 4] = [Self::Model, Self::Tf32, Self::F16, Self::Bf16];

    /// The names that [`Precision::from_str`] knows.
    pub const NAMES: [&'static str; 4] = ["model", "tf32", "f16", "bf16"];
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let position = Self::NAMES.iter().position(|known| *known == name);
        let precision = position.and_then(|position| Self::ALL.get(position)).copied();
        precision.ok_or_else(|| format!("no precision is called {name:?}: {} are", Self::NAMES.join(", ")))
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES[*self as usize])
    }
}

/// How an execution provider is set up. All but `provider` is for GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderSettings {
    /// The provider that was asked for.
    pub provider: Provider,
    /// Number of the GPU, as CUDA counts them.
    pub device: u32,
    /// Numbers in matrix products.
    pub precision: Precision,
    /// Megabytes (2^20 bytes) that the provider's arena (CUDA) or workspace (TensorRT) may take.
    pub memory_limit: Option<u64>,
    /// Whether each batch size is recorded once as a CUDA graph and then replayed.
    pub cuda_graphs: bool,
    /// Further options of the provider, by ONNX Runtime's own keys; they replace ours.
    pub options: Vec<(String, String)>,
}

impl ProviderSettings {
    /// Refuses what TensorRT without ONNX Runtime would not do: it only takes a device.
    ///
    /// # Errors
    /// Says what is right.
    pub(super) fn check_tensorrt(&self) -> Result<(), String> {
        let only_device = Self { device: self.device, ..Self::default() };
        if *self == only_device {
            return Ok(());
        }
        Err("--engine tensorrt computes in the types of the model file and takes --device only: leave out --provider and \
             its options"
            .to_owned())
    }

    /// Refuses what the provider would not do.
    ///
    /// # Errors
    /// Names the setting, and what to do instead.
    pub fn check(&self) -> Result<(), String> {
        let Self { provider, precision, .. } = self;
        if *provider == Provider::Cpu {
            let unset = Self { options: self.options.clone(), ..Self::default() };
            if *self != unset || !self.options.is_empty() {
                return Err("device, precision, memory limit, CUDA graphs and provider options belong to a GPU: \
                            choose one with --provider cuda, tensorrt or tensorrt-rtx"
                    .to_owned());
            }
        }
        match (provider, precision) {
            (Provider::Cuda | Provider::TensorRtRtx, Precision::F16 | Precision::Bf16) => {
                return Err(format!(
                    "{provider} computes in the types of the model file: export the model in {precision} instead of \
                     --precision {precision}"
                ));
            }
            (Provider::TensorRt | Provider::TensorRtRtx, Precision::Tf32) => {
                return Err(format!("{provider} decides about TF32 itself; NVIDIA_TF32_OVERRIDE=0 forbids it"));
            }
            _ => {}
        }
        if self.cuda_graphs && *provider == Provider::TensorRtRtx {
            return Err("CUDA graphs need --provider cuda or tensorrt".to_owned());
        }
        let nul = self.options.iter().find(|(key, value)| key.contains('\0') || value.contains('\0'));
        match nul {
            Some((key, _)) => Err(format!("the provider option {key:?} contains a zero byte")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for (name, provider) in Provider::NAMES.into_iter().zip(Provider::ALL) {
            assert_eq!((name.parse(), provider.to_string().as_str()), (Ok(provider), name));
            assert_eq!(serde_json::to_value(provider).unwrap(), name);
        }
        for (name, precision) in Precision::NAMES.into_iter().zip(Precision::ALL) {
            assert_eq!((name.parse(), precision.to_string().as_str()), (Ok(precision), name));
            assert_eq!(serde_json::to_value(precision).unwrap(), name);
        }
        assert!("gpu".parse::<Provider>().unwrap_err().contains("cuda"));
        assert!("fp16".parse::<Precision>().unwrap_err().contains("f16"));
    }

    #[test]
    fn what_a_provider_would_not_do_is_refused() {
        let problem = |settings: ProviderSettings| settings.check().err().unwrap_or_default();
        let of = |provider| ProviderSettings { provider, ..ProviderSettings::default() };
        for provider in Provider::ALL {
            assert_eq!(problem(of(provider)), "");
        }
        assert!(problem(ProviderSettings { device: 1, ..of(Provider::Cpu) }).contains("--provider cuda"));
        let option = vec![("a".to_owned(), "1".to_owned())];
        assert!(problem(ProviderSettings { options: option, ..of(Provider::Cpu) }).contains("--provider cuda"));
        let precise = |provider, precision| problem(ProviderSettings { precision, ..of(provider) });
        assert!(precise(Provider::Cuda, Precision::F16).contains("export the model in f16"));
        assert!(precise(Provider::TensorRt, Precision::Tf32).contains("NVIDIA_TF32_OVERRIDE"));
        assert_eq!(precise(Provider::TensorRt, Precision::Bf16) + &precise(Provider::Cuda, Precision::Tf32), "");
        assert!(problem(ProviderSettings { cuda_graphs: true, ..of(Provider::TensorRtRtx) }).contains("CUDA graphs"));
        assert!(ProviderSettings { device: 2, ..of(Provider::Cpu) }.check_tensorrt().is_ok());
        assert!(of(Provider::Cuda).check_tensorrt().unwrap_err().contains("--device"));
        let nul = vec![("a\0".to_owned(), String::new())];
        assert!(problem(ProviderSettings { options: nul, ..of(Provider::Cuda) }).contains("zero byte"));
    }
}
