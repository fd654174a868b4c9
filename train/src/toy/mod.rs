//! Drifting in the plane, where everything can be seen (paper section 5.1, figures 3 and 4).
//!
//! A small network maps noise to points, and the points drift towards a distribution of known shape: no classes, no
//! features, no guidance. What a step computes is [`drift_key`](crate::drift::drift_key) on the points themselves, with
//! [`DriftSettings::plain`](crate::drift::DriftSettings::plain) exactly paper Algorithm 2, so the plane shows what the
//! objective does to images.

mod ablation;
mod activation;
mod config;
mod experiment;
mod metrics;
mod network;
mod picture;
mod plain;
mod target;
mod trainer;

pub use ablation::{Ablations, run_ablations};
pub use activation::Activation;
pub use config::{Ablation, StartCloud, ToyConfig, ToySettings};
pub use metrics::{ModeMetrics, ToyMetrics};
pub use network::{Mlp, MlpConfig};
pub use target::Target;
pub use trainer::{ToyReport, ToyTrainer};

/// Coordinates of a point.
pub(crate) const DIM: usize = 2;
