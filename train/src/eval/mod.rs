//! Judging what a generator has learned.
//!
//! A [`Network`] looks at an [`ImageSet`] of real images, which makes a [`Yardstick`], and then at generated ones, which
//! makes an [`Evaluation`]. [`Reference`] is the older and shorter way with the [`Judge`] alone.

mod bootstrap;
mod contract;
mod curve;
mod error;
mod figure;
mod folder;
mod frechet;
mod judge;
mod kid;
mod look;
mod manifold;
mod measure;
mod moments;
mod name;
mod neighbours;
mod network;
mod pool;
mod published;
mod quality;
mod rows;
mod score;
mod set;
mod statistics;
mod symmetric;
mod training;
mod yardstick;

pub use bootstrap::{BLOCKS, Interval, distance_interval, share_interval};
pub use contract::{Contract, Provenance, Rounding};
pub use curve::{curve, sweep};
pub use error::{EvalError, Result};
pub use figure::{Better, ClassFigures, Evaluation, Figure, SCHEMA};
pub use folder::FolderImages;
pub use frechet::{Gaussian, frechet_distance};
pub use judge::{FEATURES, Judge};
pub use kid::{KID_IMAGES, KID_SUBSETS, kernel_distance};
pub use look::{Keep, Plan, Seen};
pub use manifold::{COVERAGE_NEIGHBOURS, Manifold, Overlap, PRECISION_NEIGHBOURS};
pub use measure::Measure;
pub use moments::Moments;
pub use name::{NetworkName, Sizing};
pub use neighbours::{Neighbour, Neighbours, neighbours};
pub use network::{Network, Pixels, Sight};
pub use published::Published;
pub use quality::{ClassQuality, Frechet, QualityReport, Reference, Samples};
pub use rows::Spread;
pub use score::{InceptionScore, SCORE_SPLITS};
pub use set::{GeneratedImages, ImageSet, RealImages, pixels};
pub use statistics::{ClassCount, Facts, Fit, Floor, Statistics};
pub use training::{JudgeProgress, JudgeSettings};
pub use yardstick::{COMPARED, Settings, Yardstick};
