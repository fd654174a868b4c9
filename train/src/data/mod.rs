//! Images and labels: where they come from and how a step draws from them.

mod dataset;
mod direct;
mod embedded;
mod error;
mod feed;
mod folder;
mod idx;
mod sampler;
mod source;

pub use dataset::Dataset;
pub use direct::{DirectBatches, DirectFeed, Epochs};
pub use embedded::Embedded;
pub use error::{DataError, Result};
pub use feed::{DataInfo, Feed, FeedCounters, LabelledBatch, LabelledBatches, Request, StepData};
pub use sampler::{Batch, Counts, Drawn, Sampler};
pub use source::{DataSource, Kind, OnBad, PathSource, Report, Skipped};
