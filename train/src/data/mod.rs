//! Images and labels: where they come from and how a step draws from them.
//!
//! [`DataSource`] (settings) opens a [`sources::Source`]; [`Images`] reads and augments single images of it; a [`Feed`]
//! draws the images of a generator's step from them, straight or through queues, and [`LabelledBatches`] those of a step of
//! an encoder. [`Ahead`] lets other threads do the reading.

mod ahead;
mod augment;
mod collect;
mod dataset;
mod direct;
mod embedded;
mod encoding;
mod epochs;
mod error;
mod feed;
mod folder;
mod idx;
mod images;
mod inspect;
mod latents;
mod open;
mod picture;
mod queue;
mod reading;
mod resample;
mod sampler;
mod source;
pub mod sources;

pub use ahead::Ahead;
pub use augment::{Augment, Crop};
pub use dataset::Dataset;
pub use direct::{DirectBatches, DirectFeed};
pub use drifting_models::autoencoder::Autoencoder;
pub use embedded::Embedded;
pub use encoding::Encoding;
pub use epochs::Epochs;
pub use error::{DataError, Result};
pub use feed::{DataInfo, Feed, FeedCounters, LabelledBatch, LabelledBatches, Request, StepData};
pub use images::{Draw, Images, Sample, Values};
pub use inspect::{Inspection, Moments, Sheet, contact_sheet, inspect};
pub use latents::{LatentSettings, LatentWriter, open_autoencoder};
pub use picture::Picture;
pub use queue::QueueFeed;
pub use reading::Reading;
pub use resample::{Filter, Region, resize, resize_part};
pub use sampler::{Counts, Drawn, Sampler};
pub use source::{DataSource, Kind, OnBad, PathSource, Report, Skipped};
