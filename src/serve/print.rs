//! `drifting serve --print-settings`: what it would do, as a file of settings.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};
use drifting_serve::ModelSettings;
use toml::Value;

use super::layers::{self, Layers};

/// Every setting with its value and where that comes from. Keys of clients are not among them: only their file's path.
pub(super) fn settings(layers: &Layers, models: &[ModelSettings]) -> String {
    let Some(serve) = layers.matches.subcommand_matches("serve") else { return String::new() };
    let mut text = "# The settings of `drifting serve`, and where each comes from.\n".to_owned();
    for arg in layers.command.get_arguments() {
        let Some(key) = layers::key(arg) else { continue };
        match values(arg, serve) {
            Some(values) => text += &format!("{key} = {values} # {}\n", source(layers, serve, arg, &key)),
            None => text += &format!("# {key} is not set\n"),
        }
    }
    if let Some(name) = serve.get_raw("shipped").and_then(|mut names| names.next()) {
        text += &format!("# --model {} is served\n", name.to_string_lossy());
    }
    for ModelSettings { name, path, plan } in models {
        let name = name.as_ref().map(|name| ("name", name.clone()));
        let plan = plan.as_ref().map(|plan| ("plan", plan.to_string_lossy().into_owned()));
        let file = Some(("file", path.to_string_lossy().into_owned()));
        text += "\n[[models]]\n";
        for (key, value) in [name, file, plan].into_iter().flatten() {
            text += &format!("{key} = {}\n", Value::String(value));
        }
    }
    text
}

/// The value of a setting as TOML.
fn values(arg: &Arg, serve: &ArgMatches) -> Option<String> {
    let values = serve.get_raw(arg.get_id().as_str())?;
    let values: Vec<_> = values.map(|value| scalar(&value.to_string_lossy()).to_string()).collect();
    match arg.get_action() {
        clap::ArgAction::Append => Some(format!("[{}]", values.join(", "))),
        _ => values.into_iter().next(),
    }
}

/// Numbers and answers as such where they read back as what was typed.
fn scalar(text: &str) -> Value {
    let number = text.parse().map(Value::Integer);
    let number = number.or_else(|_| text.parse().map(Value::Boolean));
    number.ok().filter(|value| value.to_string() == text).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn source(layers: &Layers, serve: &ArgMatches, arg: &Arg, key: &str) -> String {
    match (serve.value_source(arg.get_id().as_str()), &layers.file) {
        (Some(ValueSource::CommandLine), _) => "flag".to_owned(),
        (Some(ValueSource::EnvVariable), _) => "environment".to_owned(),
        (_, Some(file)) if file.sets(key) => file.path.display().to_string(),
        _ => "default".to_owned(),
    }
}
