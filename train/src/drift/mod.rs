//! The drifting objective (paper sections 3.2-3.5, appendix A): field, normalisation, guidance, closed-form gradient.
//!
//! Features of generated images drift towards those of real images of their class and away from each other. For one
//! feature key, [`drift_key`] gives the loss and its gradient with respect to the generated features; the gradient is
//! written into the features and goes backward through encoder and generator from there. The steps, one file each:
//!
//! | file | what | source |
//! |---|---|---|
//! | `batch` | the features of one key, class group by class group | |
//! | `points`, `problem` | one group at one location: its vectors and the distances d between them | step 1 |
//! | `scale` | S, s and m, the two normalisations | steps 2, 3, 5; eq. 18-25 |
//! | `affinity`, `sinkhorn` | kernel and its normalisation: A | step 5; Algorithm 2, eq. 12 |
//! | `official` | the same in few passes where settings are the official ones | |
//! | `force` | from A to the coefficients of the targets, and to the drift V | step 5; Algorithm 2, eq. 8-11 |
//! | `spread` | mean squares of V from distances alone | step 5; eq. 25 |
//! | `phases` | all problems: squares of V, the sum F over temperatures, loss and gradient; streamed or at once | steps 1-6; A.6 |
//! | `loss`, `field` | all phases of one key, or of one set of samples | eq. 6, 26 |
//! | `tensors` | the phases in tensor operations, for other devices | |
//! | `guidance` | weight of unconditional samples, law of alpha | eq. 15, 16; A.7 |
//!
//! Problems are small (Ng x (Ng + Nu + Np)) and independent but for the scales, so each is a few matrix products and a few
//! passes over matrices that stay in the cache. Distances are kept until the gradient is written; no tensor of drifts exists.

mod affinity;
mod batch;
mod error;
mod field;
mod force;
mod guidance;
mod loss;
mod numeric;
mod official;
mod phases;
mod place;
mod points;
mod problem;
mod scale;
mod settings;
mod sinkhorn;
mod spare;
mod spread;
mod tensors;

pub use batch::{Features, KeyBatch, KeyShape};
pub use error::DriftError;
pub use field::{Negatives, field};
pub use guidance::{AlphaLaw, guidance_weight};
pub use loss::{KeyOutcome, drift_key};
pub use phases::{Drifts, Measured, distance_means};
pub use scale::{KeyScale, Mean, pool};
pub use settings::{
    Coupling, Distances, DriftSettings, Kernel, Products, Reduction, ScaleScope, TemperatureAggregation,
    WeightPlacement,
};
pub use tensors::{TensorBatch, TensorDrifts, TensorMeans, TensorMeasured, TensorOutcome, TensorTargets};
