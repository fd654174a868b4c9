//! Judging what a generator has learned.

mod error;
mod frechet;
mod judge;
mod network;
mod pool;
mod published;
mod quality;
mod symmetric;
mod training;

pub use error::{EvalError, Result};
pub use frechet::{Gaussian, frechet_distance};
pub use judge::{FEATURES, Judge};
pub use network::{Network, Pixels, Sight};
pub use published::Published;
pub use quality::{ClassQuality, Frechet, QualityReport, Reference, Samples};
pub use training::{JudgeProgress, JudgeSettings};
