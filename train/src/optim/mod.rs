//! Optimizer, gradient clipping, learning-rate schedule, exponential moving average.

mod adamw;
mod device;
mod ema;
mod error;
mod inplace;
mod learner;
mod moments;
mod norm;
mod schedule;
mod state;

pub use adamw::{AdamW, AdamWSettings, StepNorms};
pub use ema::Ema;
pub use error::{OptimError, Result};
pub(crate) use inplace::slice as cpu_slice;
pub use learner::{Learner, Learning};
pub(crate) use learner::{SCHEDULE_FROM, STEP};
pub use norm::{GlobalNorm, global_norm};
pub use schedule::{Decay, Schedule};
