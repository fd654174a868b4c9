//! A file of settings for `drifting serve`: its flags as keys, and its models.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use clap::{Arg, ArgAction, ValueHint};
use drifting_serve::ModelSettings;
use serde::Deserialize;
use toml::{Table, Value};

use super::layers;

/// What a file says. Its paths are relative to its folder, and here are no longer.
#[derive(Debug)]
pub(crate) struct File {
    pub(super) path: PathBuf,
    pub(super) models: Vec<ModelSettings>,
    /// By key, as flags would have them.
    values: HashMap<String, Vec<String>>,
}

/// One of `[[models]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    /// What it is called in addresses.
    name: Option<String>,
    /// The file that `drifting export` wrote.
    file: PathBuf,
    /// The plan of TensorRT to run.
    plan: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Models {
    models: Vec<Model>,
}

impl File {
    /// Reads a file for `command`, whose flags are what may be set.
    ///
    /// # Errors
    /// Names the file, the key, its line and what would be right.
    pub(super) fn read(path: &Path, command: &clap::Command) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text, path, command)
    }

    fn parse(text: &str, path: &Path, command: &clap::Command) -> Result<Self> {
        let told = |error: toml::de::Error| anyhow!("{}: {}", path.display(), error.to_string().trim_end());
        let table: Table = text.parse().map_err(told)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let beside = |file: PathBuf| folder.join(file);
        let Models { models } = toml::from_str(text).map_err(told)?;
        let models = models.into_iter().map(|Model { name, file, plan }| ModelSettings {
            name,
            path: beside(file),
            plan: plan.map(beside),
        });
        let mut file = Self { path: path.to_owned(), models: models.collect(), values: HashMap::new() };
        for (key, value) in table.iter().filter(|(key, _)| *key != "models") {
            let line = line(text, key).map(|line| format!(", line {line}")).unwrap_or_default();
            let values = setting(command, folder, (key, value))
                .map_err(|problem| anyhow!("{}{line}: {key}: {problem}", path.display()))?;
            file.values.insert(key.clone(), values);
        }
        Ok(file)
    }

    /// Whether the file says something about `key`.
    pub(super) fn sets(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// `command` with the file's values in the place of its defaults.
    pub(super) fn apply(&self, command: clap::Command) -> clap::Command {
        command.mut_args(|arg| match layers::key(&arg).and_then(|key| self.values.get(&key)) {
            Some(values) => arg.default_values(values.clone()),
            None => arg,
        })
    }
}

/// The values of one key as its flag would have them.
fn setting(command: &clap::Command, folder: &Path, (key, value): (&String, &Value)) -> Result<Vec<String>, String> {
    let Some(arg) = command.get_arguments().find(|arg| layers::key(arg).as_ref() == Some(key)) else {
        let known = command.get_arguments().filter_map(layers::key).chain(["models".to_owned()]);
        let hint = layers::nearest(key, known).map(|known| format!("; did you mean {known:?}?")).unwrap_or_default();
        return Err(format!("there is no such setting{hint}"));
    };
    let is_list = matches!(arg.get_action(), ArgAction::Append);
    let values = match value {
        Value::Array(list) if is_list => list.iter().map(scalar).collect::<Result<Vec<_>, _>>()?,
        Value::Array(_) => return Err("a list, where one value is wanted".to_owned()),
        value => vec![scalar(value)?],
    };
    let values = match arg.get_value_hint() {
        ValueHint::AnyPath => values.iter().map(|file| folder.join(file).to_string_lossy().into_owned()).collect(),
        _ => values,
    };
    check(arg, &values)?;
    Ok(values)
}

fn scalar(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(answer) => Ok(answer.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            Err(format!("a {}, where a text, a number or true or false is wanted", value.type_str()))
        }
    }
}

/// Lets the flag judge `values`.
pub(super) fn check(arg: &Arg, values: &[String]) -> Result<(), String> {
    if !arg.get_action().takes_values() {
        let is_answer = values.iter().all(|value| value == "true" || value == "false");
        return if is_answer { Ok(()) } else { Err(format!("{:?} is neither true nor false", values.join(" "))) };
    }
    let flag = arg.get_long().unwrap_or_default();
    let words = values.iter().map(|value| format!("--{flag}={value}"));
    let alone = clap::Command::new("settings").no_binary_name(true).arg(arg.clone());
    alone.try_get_matches_from(words).map(drop).map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        cause.unwrap_or_else(|| {
            let text = error.to_string();
            text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })
    })
}

/// The line on which the text sets `key`.
fn line(text: &str, key: &str) -> Option<usize> {
    let table = toml::de::DeTable::parse(text).ok()?;
    let start = table.get_ref().keys().find(|known| known.get_ref() == key)?.span().start;
    Some(text.get(..start)?.matches('\n').count() + 1)
}
