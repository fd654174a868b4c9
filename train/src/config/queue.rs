//! Queues of real images.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BatchSettings, ConfigError};

/// The table `queue`: real images are drawn from ring buffers of recently read ones, one for each class and a global one
/// (paper appendix A.8). Without the table they are drawn straight from the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueSettings {
    /// Images that the queue of a class holds.
    pub per_class: usize,
    /// Images that the queue of unconditional images holds.
    pub global: usize,
    /// Images that are read and pushed in each step, at least; whole loader batches are.
    pub push_per_step: usize,
    /// Images of a loader batch.
    pub loader_batch: usize,
    /// What is pushed before step 0.
    pub warm_up: WarmUp,
    /// Refuses to draw an image twice in a class group: a queue that holds too few is an error.
    pub strict: bool,
    /// Where the classes of a step come from.
    pub classes: ClassSource,
    /// What a checkpoint holds of the queues.
    pub checkpoint: QueueCheckpoint,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            per_class: 128,
            global: 1000,
            push_per_step: 64,
            loader_batch: 64,
            warm_up: WarmUp::PerClass(1),
            strict: false,
            classes: ClassSource::Loader,
            checkpoint: QueueCheckpoint::Indices,
        }
    }
}

/// What is pushed before step 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WarmUp {
    /// Nothing.
    None,
    /// The pushes of so many steps: `{ pushes = 3000 }`.
    Pushes(u64),
    /// As many as it takes until the queue of every class holds so many: `{ per_class = 16 }`.
    PerClass(usize),
}

/// Where the classes of a step come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClassSource {
    /// Labels of the last loader batch: as frequent as in the data, so that a class may come twice.
    Loader,
    /// Different classes, each as likely as any other.
    Uniform,
}

/// What a checkpoint holds of the queues; the resumed run has the same bytes either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueueCheckpoint {
    /// Which images they hold: small, but resuming reads them again.
    Indices,
    /// The images themselves.
    Samples,
}

impl QueueSettings {
    /// Checks the numbers and that a step can be drawn.
    ///
    /// # Errors
    /// Names the key and what would be right.
    pub fn validate(&self, batch: BatchSettings) -> Result<(), ConfigError> {
        let invalid = |key: &str, problem: String| Err(ConfigError::Invalid { key: key.to_owned(), problem });
        for (key, value) in [
            ("queue.per_class", self.per_class),
            ("queue.global", self.global),
            ("queue.push_per_step", self.push_per_step),
            ("queue.loader_batch", self.loader_batch),
        ] {
            if value == 0 {
                return invalid(key, "needs at least one image".to_owned());
            }
        }
        if self.classes == ClassSource::Loader && self.loader_batch < batch.classes {
            let problem = format!("{} labels for batch.classes = {}", self.loader_batch, batch.classes);
            return invalid("queue.loader_batch", format!("{problem}: raise it, or set queue.classes = \"uniform\""));
        }
        if let WarmUp::PerClass(entries) = self.warm_up
            && entries > self.per_class
        {
            let problem = format!("per_class = {entries} is more than queue.per_class = {}", self.per_class);
            return invalid("queue.warm_up", problem);
        }
        if self.strict && batch.positives > self.per_class {
            let problem =
                format!("batch.positives = {} is more than queue.per_class = {}", batch.positives, self.per_class);
            return invalid("queue.strict", problem);
        }
        if self.strict && batch.unconditional > self.global {
            let problem =
                format!("batch.unconditional = {} is more than queue.global = {}", batch.unconditional, self.global);
            return invalid("queue.strict", problem);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: BatchSettings =
        BatchSettings { classes: 64, generated: 4, positives: 64, unconditional: 16, groups_at_once: 0 };

    #[test]
    fn settings_are_read_and_written() {
        let settings: QueueSettings = toml::from_str("warm_up = { pushes = 3000 }\nclasses = \"uniform\"").unwrap();
        assert_eq!((settings.warm_up, settings.classes), (WarmUp::Pushes(3000), ClassSource::Uniform));
        assert_eq!(toml::from_str::<QueueSettings>(&toml::to_string(&settings).unwrap()).unwrap(), settings);
        let none: QueueSettings = toml::from_str("warm_up = \"none\"").unwrap();
        assert_eq!((none.warm_up, none.per_class, none.global), (WarmUp::None, 128, 1000));
        assert!(toml::from_str::<QueueSettings>("per_klass = 3").is_err());
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let message = |text: &str| {
            let settings: QueueSettings = toml::from_str(text).unwrap();
            settings.validate(BATCH).map_err(|error| error.to_string())
        };
        assert_eq!(message(""), Ok(()));
        let starts = |text: &str, expected: &str| {
            let found = message(text).unwrap_err();
            assert!(found.starts_with(expected), "{found}");
        };
        starts("global = 0", "queue.global: needs at least one image");
        starts("loader_batch = 32", "queue.loader_batch: 32 labels for batch.classes = 64");
        starts("warm_up = { per_class = 200 }", "queue.warm_up: per_class = 200 is more than queue.per_class = 128");
        starts("strict = true\nper_class = 32", "queue.strict: batch.positives = 64 is more than queue.per_class = 32");
        starts("strict = true\nglobal = 8", "queue.strict: batch.unconditional = 16 is more than queue.global = 8");
        assert_eq!(message("loader_batch = 32\nclasses = \"uniform\""), Ok(()));
    }
}
