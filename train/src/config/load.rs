//! From TOML and `--set section.key=value` to checked settings.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::TrainConfig;

/// Settings that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Text that is no TOML, a key that does not exist, a value of the wrong type.
    #[error("{origin}: {problem}")]
    Parse {
        /// The file or flag.
        origin: String,
        /// What is wrong, with the nearest key that exists.
        problem: String,
    },
    /// A value out of range.
    #[error("{key}: {problem}")]
    Invalid {
        /// The key.
        key: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// A section that contradicts itself; the message names the key.
    #[error("{0}")]
    Section(String),
}

/// One `section.key=value`: the value is TOML, or plain text where that is no TOML. Without a value the key is taken out.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    path: Vec<String>,
    value: Option<Value>,
    text: String,
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not section.key=value"))?;
        let path: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(format!("{text:?} is not section.key=value"));
        }
        let value = value.trim();
        let parsed = || format!("value = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
        let value = (!value.is_empty()).then(|| parsed().unwrap_or_else(|| Value::String(value.to_owned())));
        Ok(Self { path, value, text: text.to_owned() })
    }
}

impl Override {
    fn apply(&self, table: &mut Table) -> Result<(), ConfigError> {
        let mut here = table;
        let Some((last, sections)) = self.path.split_last() else { return Ok(()) };
        for section in sections {
            let entry = here.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(inner) = entry else {
                let origin = format!("--set {}", self.text);
                return Err(ConfigError::Parse { origin, problem: format!("{section} is a value, not a section") });
            };
            here = inner;
        }
        match &self.value {
            Some(value) => drop(here.insert(last.clone(), value.clone())),
            None => drop(here.remove(last)),
        }
        Ok(())
    }
}

impl TrainConfig {
    /// Reads a file, applies the overrides in their order and checks the result.
    ///
    /// # Errors
    /// Names the file, key or flag and what would be right.
    pub fn load(path: &Path, overrides: &[Override]) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Io { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string(), overrides)
    }

    /// As [`TrainConfig::load`] from text; `origin` is what errors call it.
    ///
    /// # Errors
    /// Names the key or flag and what would be right.
    pub fn parse(text: &str, origin: &str, overrides: &[Override]) -> Result<Self, ConfigError> {
        let config: Self = parse(text, origin, overrides)?;
        config.validate()?;
        Ok(config)
    }

    /// The settings as TOML, every default written out.
    ///
    /// # Errors
    /// Only values that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        to_toml(self)
    }
}

/// Settings as TOML, every default written out.
pub(crate) fn to_toml(settings: &impl Serialize) -> Result<String, ConfigError> {
    toml::to_string_pretty(settings)
        .map_err(|error| ConfigError::Parse { origin: "settings".to_owned(), problem: error.to_string() })
}

/// The settings of one kind of experiment, overrides applied in their order; `origin` is what errors call the text.
pub(super) fn parse<T: DeserializeOwned>(text: &str, origin: &str, overrides: &[Override]) -> Result<T, ConfigError> {
    let failed = |problem: String| ConfigError::Parse { origin: origin.to_owned(), problem };
    if overrides.is_empty() {
        // Straight from the text, so that errors show the line.
        return toml::from_str(text).map_err(|error| failed(with_suggestion(&error.to_string())));
    }
    T::deserialize(Value::Table(table(text, origin, overrides)?)).map_err(|error| {
        let flags: Vec<_> = overrides.iter().map(|change| change.text.as_str()).collect();
        failed(format!("with --set {}: {}", flags.join(" --set "), with_suggestion(&error.to_string())))
    })
}

/// The text with the overrides, before any of its keys is looked at.
pub(super) fn table(text: &str, origin: &str, overrides: &[Override]) -> Result<Table, ConfigError> {
    let failed = |error: toml::de::Error| ConfigError::Parse { origin: origin.to_owned(), problem: error.to_string() };
    let mut table: Table = text.parse().map_err(failed)?;
    for change in overrides {
        change.apply(&mut table)?;
    }
    Ok(table)
}

/// Adds "did you mean" to serde's message about an unknown field or variant.
fn with_suggestion(message: &str) -> String {
    let message = message.trim_end();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let Some((unknown, known)) = quoted.split_first() else { return message.to_owned() };
    if !message.contains("unknown ") {
        return message.to_owned();
    }
    let nearest = known.iter().map(|known| (strsim::jaro_winkler(unknown, known), known));
    match nearest.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((similarity, nearest)) if similarity > 0.7 => format!("{message}\ndid you mean `{nearest}`?"),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "test"
        steps = 10
        data = { embedded = "fashion-mnist" }
        generator = { image = { channels = 1, height = 28, width = 28 }, patch = 4, hidden = 32, depth = 1, heads = 2, classes = 10 }
        batch = { classes = 10, generated = 4, positives = 8, unconditional = 2 }
        features = { keys = ["global", "patch_7"] }
        schedule = { lr = 1e-3 }
    "#;

    fn with(changes: &[&str]) -> Result<TrainConfig, ConfigError> {
        let overrides: Vec<_> = changes.iter().map(|change| change.parse().unwrap()).collect();
        TrainConfig::parse(GOOD, "test.toml", &overrides)
    }

    fn message(changes: &[&str]) -> String {
        with(changes).unwrap_err().to_string()
    }

    #[test]
    fn resolved_settings_read_back_as_themselves() {
        let config = with(&[]).unwrap();
        assert_eq!(TrainConfig::parse(&config.to_toml().unwrap(), "resolved", &[]).unwrap(), config);
        assert_eq!((config.seed, config.generator.registers), (42, 16));
    }

    #[test]
    fn overrides_reach_every_depth() {
        let config = with(&["seed=7", "schedule.lr=2e-3", "generator.rope=2d", "drift.temperatures=[0.1]"]).unwrap();
        assert_eq!((config.seed, config.schedule.lr), (7, 2e-3));
        assert_eq!((config.generator.rope, config.drift.temperatures), (drifting_spec::Rope::TwoD, vec![0.1]));
        let default = with(&["drift.temperatures=[0.1]", "drift.temperatures="]).unwrap();
        assert_eq!(default.drift.temperatures, [0.2, 0.05, 0.02]);
        assert!("seed".parse::<Override>().is_err() && ".a=1".parse::<Override>().is_err());
        assert!(message(&["steps.deep=1"]).contains("--set steps.deep=1: steps is a value, not a section"));
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_name() {
        let found = message(&["drift.temperature=[0.1]"]);
        assert!(found.contains("did you mean `temperatures`?"), "{found}");
        let in_file = TrainConfig::parse(&GOOD.replace("steps", "step"), "test.toml", &[]).unwrap_err().to_string();
        assert!(in_file.contains("test.toml") && in_file.contains("did you mean `steps`?"), "{in_file}");
    }

    #[test]
    fn values_out_of_range_are_named() {
        for (change, expected) in [
            ("batch.generated=0", "batch.generated: needs at least one image"),
            ("batch.classes=11", "batch.classes: 11 is not between 1 and 10"),
            ("generator.patch=5", "generator.patch: an image of 28x28"),
            ("features.keys=[]", "features.keys: needs at least one key"),
            ("features.keys=['patch_5']", "patch_5 needs an image whose sides are multiples of 5"),
            ("features.keys=['global','global']", "global is named twice"),
            ("ema.decays=[1.0]", "ema.decays: 1 is not at least 0 and below 1"),
            ("sampling.alpha=9", "sampling: alpha 9 is not in the trained 1..4"),
            ("optimizer.clip=0", "optimizer.clip: 0 is not a positive number"),
            ("schedule.lr=0", "schedule: lr is 0"),
            ("queue.loader_batch=3", "queue.loader_batch: 3 labels for batch.classes = 10"),
            ("augment.scale=[0.5,2]", "augment.scale: [0.5, 2.0] is not 0 < from <= to <= 1"),
            ("loader.ahead=0", "loader.ahead: needs at least one batch"),
        ] {
            assert!(message(&[change]).contains(expected), "{change}: {}", message(&[change]));
        }
    }
}
