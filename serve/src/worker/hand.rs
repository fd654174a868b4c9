//! One thread with an engine of its own, which takes what waits.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use drifting_spec::{GeneratorConfig, Inputs};

use super::job::Share;
use super::queue::Ticket;
use super::{WorkerSettings, inputs};
use crate::engine::{self, Engine, EngineError};

/// What the thread owns.
pub(super) struct Hand {
    pub(super) engine: Box<dyn Engine>,
    /// Of the last batch.
    pub(super) inputs: Inputs,
    pub(super) config: GeneratorConfig,
    pub(super) settings: WorkerSettings,
    /// Microseconds for an image in the last batch.
    pub(super) pace: Arc<AtomicU64>,
    pub(super) ticket: Ticket,
}

impl Hand {
    /// Takes images until the queue is closed and empty.
    pub(super) fn work(mut self) {
        while let Some(shares) = self.ticket.0.take(&self.settings.batch_sizes) {
            self.run(&shares);
        }
    }

    fn run(&mut self, shares: &[Share]) {
        let now = Instant::now();
        shares.iter().for_each(|share| share.job.begin(now));
        match (self.compute(shares), shares) {
            (Ok((values, elapsed)), [share]) => share.deliver(Cow::Owned(values), share.count, elapsed),
            (Ok((values, elapsed)), _) => {
                let (image_len, size) = (self.settings.image_len, values.len() / self.settings.image_len);
                let mut rest = &values[..];
                for share in shares {
                    let (own, others) = rest.split_at(share.count * image_len);
                    share.deliver(Cow::Borrowed(own), size, elapsed);
                    rest = others;
                }
            }
            (Err(error), [share]) => share.job.fail(error),
            (Err(error), _) => {
                tracing::warn!(%error, orders = shares.len(), "a batch failed; its orders are run again, each alone");
                shares.iter().for_each(|share| self.run_alone(share));
            }
        }
    }

    /// Computes a share that failed in company. It is cut into batch sizes that are in use, so that its images are those
    /// of any other batch.
    fn run_alone(&mut self, share: &Share) {
        let mut done = 0;
        while done < share.count && !share.job.is_over() {
            let left = share.count - done;
            let size = self.settings.batch_sizes.iter().rfind(|&&size| size <= left).copied().unwrap_or(1);
            let piece = Share { job: Arc::clone(&share.job), first: share.first + done, count: size };
            match self.compute(std::slice::from_ref(&piece)) {
                Ok((values, elapsed)) => piece.deliver(Cow::Owned(values), size, elapsed),
                Err(error) => piece.job.fail(error),
            }
            done += size;
        }
    }

    /// Images of all shares, and the time that they took.
    fn compute(&mut self, shares: &[Share]) -> Result<(Vec<f32>, Duration), EngineError> {
        inputs::fill(&mut self.inputs, &self.config, shares);
        let (start, size) = (Instant::now(), self.inputs.batch());
        let result = engine::run(self.engine.as_mut(), &self.inputs);
        let elapsed = start.elapsed();
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.pace.store(micros / size.max(1) as u64, Ordering::Relaxed);
        let values = result?;
        if values.len() != size * self.settings.image_len {
            let problem = format!("it gave {} numbers in place of {}", values.len(), size * self.settings.image_len);
            return Err(EngineError::Run { engine: self.engine.info().name, problem });
        }
        self.settings.metrics.batch(size);
        Ok((values, elapsed))
    }
}
