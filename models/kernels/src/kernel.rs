//! Kernels by name.

/// A file of kernels.
#[derive(Debug)]
#[allow(dead_code, reason = "each feature reads some of it")]
pub struct Source {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    #[cfg(feature = "cuda")]
    pub(crate) ptx: &'static str,
}

impl Source {
    /// One of its kernels.
    #[must_use]
    pub const fn kernel(&'static self, function: &'static str) -> Kernel {
        Kernel { source: self, function }
    }
}

/// A kernel of a file.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "read where kernels can run")]
pub struct Kernel {
    pub(crate) source: &'static Source,
    pub(crate) function: &'static str,
}

impl Kernel {
    /// Its name.
    #[must_use]
    pub fn function(&self) -> &'static str {
        self.function
    }
}

/// The files of kernels.
pub mod source {
    use super::Source;

    macro_rules! sources {
        ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
            $($(#[$doc])* pub static $constant: Source = Source {
                name: $name,
                text: include_str!(concat!("cu/", $name, ".cu")),
                #[cfg(feature = "cuda")]
                ptx: include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx")),
            };)*

            /// All of them.
            pub static ALL: &[&Source] = &[$(&$constant),*];
        };
    }

    sources! {
        /// RMSNorm and LayerNorm with gain and modulation.
        NORM = "norm";
        /// Group normalisation with ReLU.
        GROUP_NORM = "group_norm";
        /// SiLU(gate) value.
        SWIGLU = "swiglu";
        /// x + gate y.
        GATE = "gate";
        /// Patches of images, for convolutions.
        PATCHES = "patches";
        /// Heads, their norms and rotations, softmaxes.
        ATTENTION = "attention";
        /// Means and deviations of the cells of maps.
        CELLS = "cells";
        /// The objective of one feature key.
        DRIFT = "drift";
        /// Biases, sums with ReLU.
        ROWS = "rows";
        /// Steps of AdamW, averages, norms.
        ADAMW = "adamw";
    }
}
