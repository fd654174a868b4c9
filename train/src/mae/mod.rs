//! Training of the masked autoencoder whose encoder gives the features (method section 7.2).
//!
//! Each step hides half of the blocks of every image, and goes down the mean squared error of what the network makes of
//! the hidden positions. In the last steps of a run the classes of the images join in:
//! loss = weight * cross entropy + (1 - weight) * reconstruction.

mod evaluation;
mod experiment;
mod loss;
mod mask;
mod picture;
mod trainer;

pub use experiment::MaeRun;
pub use trainer::{MaeReport, MaeTrainer};

#[cfg(test)]
mod tests;
