//! Images and labels: where they come from and how a step draws from them.

mod dataset;
mod embedded;
mod error;
mod folder;
mod idx;
mod sampler;
mod source;

pub use dataset::Dataset;
pub use embedded::Embedded;
pub use error::{DataError, Result};
pub use sampler::{Batch, Counts, Sampler};
pub use source::{DataSource, Kind, OnBad, PathSource, Report, Skipped};
