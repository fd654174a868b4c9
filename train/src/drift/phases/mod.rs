//! The objective of one key in phases, so that class groups can be worked a few at a time (method section 18).
//!
//! Two normalisations average over all class groups of a step: S over distances, m over drifts. With all groups at hand the
//! phases follow each other; streamed, each phase goes over all groups before the next begins:
//!
//! 1. [`Measured`]: the distances of every group, whose means are pooled to S;
//! 2. [`Measured::drifts`] with that S: [`Drifts::square_means`] of every group, pooled to m;
//! 3. [`Drifts::outcome`] with m: the loss and the gradient.
//!
//! Distances are kept from phase to phase, and of the drifts themselves or their coefficients what is less, if it is little. What
//! is not kept is computed again, in memory that belongs to a thread.

mod drifts;
mod measured;

use std::cell::RefCell;

use drifting_models::ops::rounded_rows::{RoundedRows, RoundedSums};

pub use self::drifts::Drifts;
pub use self::measured::{Measured, distance_means};
use super::DriftError;
use super::force::Coefficients;
use super::points::Gathered;
use super::problem::Ruler;
use super::spread::Spread;

/// Memory of a thread, used for one task after the other.
#[derive(Default)]
struct Scratch {
    ruler: Ruler,
    /// Points of the problems of a task.
    points: Gathered,
    rows: RoundedRows,
    finder: Coefficients,
    /// Coefficients `[temperatures, Ng, stride]`.
    coefficients: Vec<f32>,
    /// Those of the sum over temperatures `[Ng, stride]`.
    sum: Vec<f32>,
    spread: Spread,
    /// V `[temperatures, Ng, D]`, or F `[Ng, D]`.
    drifts: Vec<f32>,
    sums: RoundedSums,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

pub(in crate::drift) fn check_groups(key: &str, what: &str, found: usize, expected: usize) -> Result<(), DriftError> {
    if found == expected {
        return Ok(());
    }
    Err(DriftError::Shape { key: key.to_owned(), problem: format!("{found} {what} for {expected} class groups") })
}
