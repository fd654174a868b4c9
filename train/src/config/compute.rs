//! How the networks compute.

use drifting_models::ops::matmul::{Precision, set_precision};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The table `compute`: how the networks compute. The objective, norms, softmaxes, weights and all sums stay in single
/// precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ComputeSettings {
    /// Precision of what is multiplied in matrix products and 3 x 3 convolutions.
    pub products: Products,
}

/// Precision of the factors of matrix products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Products {
    /// Single precision.
    #[default]
    F32,
    /// Factors are rounded to bfloat16, as matrix units do by default: up to twice as fast on a processor with AVX512-BF16,
    /// and no faster on others.
    Bf16,
}

impl ComputeSettings {
    /// Computes so from now on, in all threads of this process.
    pub fn apply(self) {
        set_precision(match self.products {
            Products::F32 => Precision::F32,
            Products::Bf16 => Precision::Bf16,
        });
    }
}
