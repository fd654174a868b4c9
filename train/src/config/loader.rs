//! Reading ahead.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Most threads that read ahead.
const MAX_WORKERS: usize = 256;

/// The table `loader`: threads that read, decode and augment images while the step computes. What training sees does not
/// depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoaderSettings {
    /// Threads; none for images in memory that are not cropped, one for every two processors otherwise. 0 reads within
    /// the step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// Batches that may be finished before they are needed.
    pub ahead: usize,
}

impl Default for LoaderSettings {
    fn default() -> Self {
        Self { workers: None, ahead: 4 }
    }
}

impl LoaderSettings {
    /// Checks the numbers.
    ///
    /// # Errors
    /// Names the key and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |key: &str, problem: String| Err(ConfigError::Invalid { key: key.to_owned(), problem });
        match self.workers {
            Some(workers) if workers > MAX_WORKERS => {
                invalid("loader.workers", format!("{workers} is not between 0 and {MAX_WORKERS}"))
            }
            _ if self.ahead == 0 => invalid("loader.ahead", "needs at least one batch".to_owned()),
            _ => Ok(()),
        }
    }

    /// Threads for data that are cheap to read, or not.
    #[must_use]
    pub fn threads(&self, cheap: bool) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.workers.unwrap_or(if cheap { 0 } else { processors.div_ceil(2).min(16) })
    }
}
