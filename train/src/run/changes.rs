//! Whether a folder's run may go on under the settings that are asked for now.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

/// Settings that may change when a run goes on: they do not change what the steps compute.
const FREE: [&str; 6] = ["steps", "name", "output", "sampling", "evaluation", "loader"];

/// A setting that is not what the run was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The setting, such as `schedule.lr`.
    pub key: String,
    /// Its value in the folder.
    pub before: String,
    /// Its value now.
    pub now: String,
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} = {}, now it is {}", self.key, self.before, self.now)
    }
}

/// The settings that differ and neither may, nor are allowed to: `allowed` names keys or whole sections.
///
/// # Errors
/// Text that is no TOML.
pub(super) fn changes(before: &str, now: &str, allowed: &[String]) -> Result<Vec<Change>, toml::de::Error> {
    let (before, now) = (flat(before)?, flat(now)?);
    let mut found: Vec<Change> = Vec::new();
    for key in before.keys().chain(now.keys().filter(|key| !before.contains_key(*key))) {
        let (before, now) = (before.get(key), now.get(key));
        if before != now && !covers(&FREE, key) && !covers(allowed, key) {
            let text = |value: Option<&String>| value.map_or_else(|| "its default".to_owned(), Clone::clone);
            found.push(Change { key: key.clone(), before: text(before), now: text(now) });
        }
    }
    Ok(found)
}

/// Whether one of `names` is the key itself or a section that it is in.
pub(super) fn covers(names: &[impl AsRef<str>], key: &str) -> bool {
    names
        .iter()
        .any(|name| key.strip_prefix(name.as_ref()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// Settings as `section.key` and value.
///
/// # Errors
/// Text that is no TOML.
pub(super) fn flat(text: &str) -> Result<BTreeMap<String, String>, toml::de::Error> {
    fn walk(prefix: &str, table: &Table, into: &mut BTreeMap<String, String>) {
        for (key, value) in table {
            let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                Value::Table(inner) => walk(&name, inner, into),
                value => {
                    into.insert(name, value.to_string());
                }
            }
        }
    }
    let mut into = BTreeMap::new();
    walk("", &text.parse()?, &mut into);
    Ok(into)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "steps = 7\nseed = 1\n[schedule]\nlr = 1e-3\n[schedule.decay.cosine]\nsteps = 9\n";

    fn keys(now: &str, allowed: &[&str]) -> Vec<String> {
        let allowed: Vec<_> = allowed.iter().map(|key| (*key).to_owned()).collect();
        changes(BEFORE, now, &allowed).unwrap().into_iter().map(|change| change.key).collect()
    }

    #[test]
    fn every_difference_is_named_unless_it_is_allowed() {
        let now = BEFORE
            .replace("seed = 1", "seed = 2")
            .replace("lr = 1e-3", "lr = 2e-3")
            .replace("steps = 9", "steps = 9\nstages = 2");
        assert_eq!(keys(BEFORE, &[]), Vec::<String>::new());
        assert_eq!(keys(&now, &[]), ["schedule.lr", "seed", "schedule.decay.cosine.stages"]);
        assert_eq!(keys(&now, &["schedule"]), ["seed"]);
        assert_eq!(keys(&now, &["schedule.decay", "seed"]), ["schedule.lr"]);
        assert_eq!(keys(&now, &["sched"]).len(), 3, "a part of a name is not the name");
    }

    #[test]
    fn the_length_of_the_run_is_free_and_that_of_the_schedule_is_not() {
        assert_eq!(keys(&BEFORE.replace("steps = 7", "steps = 8"), &[]), Vec::<String>::new());
        let found = changes(BEFORE, &BEFORE.replace("steps = 9", "steps = 8"), &[]).unwrap();
        assert_eq!(found[0].to_string(), "schedule.decay.cosine.steps = 9, now it is 8");
    }
}
