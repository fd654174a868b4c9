//! How and where the networks compute.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use drifting_models::ops::matmul::set_precision;
use drifting_models::ops::{set_operations, set_recomputation};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::ConfigError;
pub use crate::drift::Products;

/// The table `compute`: how and where the networks compute. Norms, softmaxes, weights and all sums stay in single precision, and
/// so does the objective but for `drift.products`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ComputeSettings {
    /// What trains.
    pub device: DeviceName,
    /// Precision of what is multiplied in matrix products and 3 x 3 convolutions, on the processor.
    pub products: Products,
    /// Which code computes, on the processor.
    pub operations: Operations,
    /// Keep only the inputs of the generator's blocks for the way back and compute the rest once more: less memory on a GPU.
    pub recompute: bool,
}

/// What trains: `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceName {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU by its number.
    Cuda(usize),
}

/// Which code computes on the processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Operations {
    /// This program's own operations, or its kernels on a GPU.
    #[default]
    Fused,
    /// Compositions of general tensor operations: slow, to hold the others against.
    Plain,
}

impl ComputeSettings {
    /// Computes so from now on, in all threads of this process.
    pub fn apply(self) {
        set_precision(self.products.precision());
        set_operations(match self.operations {
            Operations::Fused => drifting_models::ops::Operations::Fused,
            Operations::Plain => drifting_models::ops::Operations::Plain,
        });
        set_recomputation(self.recompute);
    }
}

impl DeviceName {
    /// Opens the device. Tensors of two openings of a GPU do not meet.
    ///
    /// # Errors
    /// A device that is not there, or that this program was built without.
    pub fn open(self) -> Result<Device, ConfigError> {
        let Self::Cuda(number) = self else { return Ok(Device::Cpu) };
        let problem = match candle_core::utils::cuda_is_available() {
            false => {
                "this program was built without CUDA: cargo build --release --features cuda (docs/cuda.md)".to_owned()
            }
            true => match drifting_models::device::cuda(number) {
                Ok(device) => return Ok(device),
                Err(error) => format!("GPU {number} cannot be opened: {error}"),
            },
        };
        Err(ConfigError::Invalid { key: "compute.device".to_owned(), problem })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let number = match name {
            "cpu" => return Ok(Self::Cpu),
            "cuda" => Some(0),
            _ => name.strip_prefix("cuda:").and_then(|number| number.parse().ok()),
        };
        number.map(Self::Cuda).ok_or_else(|| format!("{name:?} is no device: cpu, cuda or cuda:N"))
    }
}

impl TryFrom<String> for DeviceName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<DeviceName> for String {
    fn from(device: DeviceName) -> Self {
        device.to_string()
    }
}

impl JsonSchema for DeviceName {
    fn schema_name() -> Cow<'static, str> {
        "DeviceName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What trains: the processor or an NVIDIA GPU, by its number where there are several.",
            "type": "string",
            "pattern": "^(cpu|cuda(:[0-9]+)?)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_written() {
        for (name, device) in [("cpu", DeviceName::Cpu), ("cuda", DeviceName::Cuda(0)), ("cuda:3", DeviceName::Cuda(3))]
        {
            assert_eq!((name.parse(), device.to_string()), (Ok(device), name.to_owned()));
        }
        for name in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU"] {
            assert!(name.parse::<DeviceName>().unwrap_err().contains("cpu, cuda or cuda:N"));
        }
    }

    #[test]
    fn a_gpu_that_cannot_be_used_is_an_error_that_says_why() {
        // No machine has a hundred GPUs.
        let message = DeviceName::Cuda(99).open().unwrap_err().to_string();
        let why =
            if cfg!(feature = "cuda") { "GPU 99 cannot be opened: DriverError(CUDA_ERROR_" } else { "--features cuda" };
        assert!(message.contains("compute.device") && message.contains(why), "{message}");
    }
}
