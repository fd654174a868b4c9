//! Flags, environment and file: three ways to the same settings, in this order of precedence.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches};

use super::file::{self, File};

/// What the names of environment variables begin with.
const PREFIX: &str = "DRIFTING_SERVE_";

/// Flags that make no setting: they say what to do, or where settings are.
const NO_SETTINGS: [&str; 5] = ["config", "print-settings", "model", "help", "version"];

/// The command line of the program and, for `drifting serve`, what stands behind it.
#[derive(Debug)]
pub(crate) struct Layers {
    /// What was typed, and what stands in for what was not.
    pub(crate) matches: ArgMatches,
    /// The subcommand `serve` as it was read.
    pub(super) command: clap::Command,
    /// What `--config` names.
    pub(super) file: Option<File>,
}

impl Layers {
    /// Reads `words` as the command line of `program`, and for `serve` the environment and the file of settings.
    ///
    /// # Errors
    /// A [`clap::Error`] for wrong words, or one that names the variable, or the file, its key and line.
    pub(crate) fn read(program: clap::Command, words: &[OsString]) -> Result<Self> {
        let program = program.mut_subcommand("serve", with_environment);
        let command = program.find_subcommand("serve").cloned().unwrap_or_default();
        let matches = program.clone().try_get_matches_from(words).map_err(|error| match error.kind() {
            ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
                variable(&command, |name| std::env::var(name).ok()).unwrap_or_else(|| error.into())
            }
            _ => error.into(),
        })?;
        let serve = matches.subcommand_matches("serve");
        let Some(path) = serve.and_then(|serve| serve.get_one::<PathBuf>("config")) else {
            return Ok(Self { matches, command, file: None });
        };
        let file = File::read(path, &command)?;
        let matches = program.mut_subcommand("serve", |serve| file.apply(serve)).try_get_matches_from(words)?;
        Ok(Self { matches, command, file: Some(file) })
    }
}

/// The key of a flag that is a setting.
pub(super) fn key(arg: &Arg) -> Option<String> {
    let flag = arg.get_long().filter(|flag| !NO_SETTINGS.contains(flag))?;
    Some(flag.replace('-', "_"))
}

/// The variable of a setting, or of the file of settings.
fn variable_name(arg: &Arg) -> Option<String> {
    let key = key(arg).or_else(|| (arg.get_id() == "config").then(|| "config".to_owned()))?;
    Some(format!("{PREFIX}{}", key.to_uppercase()))
}

/// Gives each setting its variable.
fn with_environment(serve: clap::Command) -> clap::Command {
    serve.mut_args(|arg| match variable_name(&arg) {
        Some(name) => arg.env(name).hide_env_values(true),
        None => arg,
    })
}

/// The first variable whose value is wrong.
fn variable(serve: &clap::Command, value: impl Fn(&str) -> Option<String>) -> Option<anyhow::Error> {
    serve.get_arguments().find_map(|arg| {
        let name = variable_name(arg)?;
        let problem = file::check(arg, &[value(&name)?]).err()?;
        Some(anyhow!("environment variable {name}: {problem}"))
    })
}

/// The word among `known` that `text` was meant to be.
pub(super) fn nearest(text: &str, known: impl IntoIterator<Item = String>) -> Option<String> {
    let likeness = known.into_iter().map(|known| (strsim::jaro_winkler(text, &known), known));
    let (likeness, nearest) = likeness.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness > 0.7).then_some(nearest)
}

/// Variables that look like settings and are none, each with the setting that it was meant to be.
pub(super) fn unknown_variables(serve: &clap::Command) -> Vec<(String, Option<String>)> {
    let known: Vec<_> = serve.get_arguments().filter_map(variable_name).collect();
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let unknown = set.filter(|name| name.starts_with(PREFIX) && !known.contains(name));
    unknown.map(|name| (name.clone(), nearest(&name, known.clone()))).collect()
}
