//! What the processes of a run must agree on.

use std::sync::atomic::Ordering;

use candle_core::Tensor;

use super::{Experiment, Launch, RunError};
use crate::ranks::Ranks;

/// Waits for the first rank, which makes the folder and chooses the checkpoint.
pub(super) fn begin(ranks: &dyn Ranks) {
    ranks.gather(&[]);
}

/// Whether any rank was asked to stop; all are at the same step and hold the same weights.
///
/// # Errors
/// Ranks that have come apart.
pub(super) fn stop(experiment: &dyn Experiment, launch: &Launch<'_>) -> Result<bool, RunError> {
    let asked = launch.stop.load(Ordering::Relaxed);
    if launch.ranks.size() == 1 {
        return Ok(asked);
    }
    let mine = [f64::from(u8::from(asked)), experiment.step_count() as f64, fingerprint(experiment)?];
    let all = launch.ranks.gather(&mine);
    let ranks = all.as_chunks::<3>().0;
    let apart = |rank: &&[f64; 3]| rank[1..] != ranks[0][1..];
    if let Some(rank) = ranks.iter().position(|rank| apart(&rank)) {
        return Err(RunError::Apart { rank, step: ranks[rank][1] as u64, first: ranks[0][1] as u64 });
    }
    Ok(ranks.iter().any(|rank| rank[0] > 0.0))
}

/// A number that differs where weights do: of every parameter a few numbers, so that it costs nothing.
fn fingerprint(experiment: &dyn Experiment) -> Result<f64, RunError> {
    const SAMPLES: usize = 8;
    let mut samples = Vec::new();
    for (_, var) in experiment.params().iter() {
        let values = var.flatten_all()?;
        let count = values.elem_count();
        for sample in 0..SAMPLES.min(count) {
            samples.push(values.narrow(0, sample * count / SAMPLES.min(count), 1)?);
        }
    }
    // Together, since a GPU has to be waited for.
    let samples = Tensor::cat(&samples, 0)?.to_vec1::<f32>()?;
    let hash = samples.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, value| {
        (hash ^ u64::from(value.to_bits())).wrapping_mul(0x100_0000_01b3)
    });
    // As many bits as a number of the exchange holds.
    Ok((hash >> 11) as f64)
}
