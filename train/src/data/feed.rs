//! What training draws its real images from.

use std::collections::BTreeMap;
use std::fmt::Debug;

use candle_core::Tensor;
use drifting_spec::ImageShape;

use super::Result;
use crate::ranks::{Alone, Ranks};

/// What a data set is, for checks, manifests and `run.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataInfo {
    /// Shape of each image as training sees it.
    pub shape: ImageShape,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Images.
    pub images: usize,
    /// SHA-256 in hexadecimal: two data sets with the same one train alike.
    pub sha256: String,
}

/// What a step asks for (paper Table 8: N_c, N_pos, N_unc).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Class groups.
    pub classes: usize,
    /// Real images of the class, for each group.
    pub positives: usize,
    /// Real images of any class, for each group.
    pub unconditional: usize,
}

/// The real images of one step for this rank's share of the class groups, group after group; numbers in [-1, 1] or scaled
/// latents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepData {
    /// The class of each group of all ranks; a class can come twice when the feed draws by frequency.
    pub classes: Vec<usize>,
    /// `[groups, positives, channels, height, width]`.
    pub positives: Vec<f32>,
    /// `[groups, unconditional, channels, height, width]`.
    pub unconditional: Vec<f32>,
    /// Indices in the data set of the positives, then of the unconditional images: what an error report names.
    pub ids: Vec<u64>,
}

/// Things that happened since the feed was made, for metrics; part of a feed's state where it has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedCounters {
    /// Images that were drawn.
    pub drawn: u64,
    /// Draws for a class group in which an image came twice, because fewer were there than were asked for.
    pub underflows: u64,
    /// Images that were repeated because of it.
    pub repeated: u64,
    /// Images pushed into queues.
    pub pushed: u64,
    /// Files that could not be read and were replaced by others.
    pub replaced: u64,
}

impl FeedCounters {
    /// Adds what happened elsewhere.
    pub(super) fn add(&mut self, other: Self) {
        self.drawn += other.drawn;
        self.underflows += other.underflows;
        self.repeated += other.repeated;
        self.pushed += other.pushed;
        self.replaced += other.replaced;
    }

    /// Counts the repetitions in what was drawn for one class group.
    pub(super) fn count_group(&mut self, drawn: impl Iterator<Item = usize>) {
        let mut drawn: Vec<usize> = drawn.collect();
        let count = drawn.len();
        drawn.sort_unstable();
        drawn.dedup();
        self.repeated += (count - drawn.len()) as u64;
        self.underflows += u64::from(drawn.len() < count);
    }
}

/// Real images for training a generator.
pub trait Feed: Debug + Send {
    /// What it draws from.
    fn info(&self) -> &DataInfo;

    /// The images of step `step` for one of several processes, all of which ask; steps are asked for in order. What all of
    /// them receive together does not depend on their number.
    ///
    /// # Errors
    /// A source that cannot be read, a strict queue that holds too few images.
    fn next_among(&mut self, step: u64, request: Request, ranks: &dyn Ranks) -> Result<StepData>;

    /// The images of step `step` for a process alone.
    ///
    /// # Errors
    /// As [`next_among`](Self::next_among).
    fn next(&mut self, step: u64, request: Request) -> Result<StepData> {
        self.next_among(step, request, &Alone)
    }

    /// Everything that a resumed run needs, by name; empty for feeds that are a function of (seed, step).
    fn state(&self) -> BTreeMap<String, Tensor>;

    /// Continues at step `step` from a state, whatever the number of processes that it comes from.
    ///
    /// # Errors
    /// Tensors that are missing, left over or of another shape, by name.
    fn restore_among(&mut self, step: u64, state: &BTreeMap<String, Tensor>, ranks: &dyn Ranks) -> Result<()>;

    /// Continues in a process alone.
    ///
    /// # Errors
    /// As [`restore_among`](Self::restore_among).
    fn restore(&mut self, step: u64, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.restore_among(step, state, &Alone)
    }

    /// What happened so far.
    fn counters(&self) -> FeedCounters;
}

/// Labelled images of one training step of an encoder or classifier.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelledBatch {
    /// `[n, channels, height, width]`, numbers in [-1, 1] or scaled latents.
    pub images: Vec<f32>,
    /// The class of each.
    pub labels: Vec<usize>,
    /// Their indices in the data set.
    pub ids: Vec<u64>,
}

/// Real images with labels, epoch after epoch.
pub trait LabelledBatches: Debug + Send {
    /// What it draws from.
    fn info(&self) -> &DataInfo;

    /// The `count` images of step `step`: a function of (seed, step, count), so a resumed run needs no state.
    ///
    /// # Errors
    /// A source that cannot be read.
    fn next(&mut self, step: u64, count: usize) -> Result<LabelledBatch>;
}
