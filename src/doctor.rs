//! `drifting doctor`: what this machine offers.

use drifting_serve::runtime::{self, RuntimeSettings};
use drifting_serve::{Report, doctor};

/// Tell which ONNX Runtime is in use and what this machine offers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Fetch ONNX Runtime into the cache now if it is not there
    #[arg(long)]
    fetch: bool,
}

/// Prints the report.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let settings = RuntimeSettings::from_env();
    if args.fetch {
        runtime::find(&settings, &|message| eprintln!("{message}"))?;
    }
    let report = doctor(&settings);
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{}", text(&report)),
    }
    Ok(())
}

/// The report for people, one finding a line.
fn text(report: &Report) -> String {
    let line = |name: &str, value: &str| format!("{name:<18}{value}\n");
    let or = |value: &Option<String>, other: &str| value.clone().unwrap_or_else(|| other.to_owned());
    let runtime = &report.onnxruntime;
    let mut text = line("drifting", report.version);
    text += &line("engine", &format!("{} is what `--engine auto` takes", report.engine));
    text += "\n";
    text += &line("ONNX Runtime", &or(&runtime.version, "not in use"));
    if let Some(library) = &runtime.library {
        text += &line("  library", &library.path.display().to_string());
        text += &line("  found by", &library.source.to_string());
    }
    for place in &runtime.places {
        text += &line(&format!("  {}", place.name), &place.finding);
    }
    if let Some(advice) = &runtime.advice {
        text += &line("  advice", advice);
    }
    text += &line("rten", &format!("{} (compiled in)", report.rten));
    text += "\n";
    text += &line("python", &or(&report.python.python, "python3 is not there"));
    text += &line("pip", &or(&report.python.pip, "python3 has no pip"));
    text += &line("processors", &report.threads.to_string());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_what_programs_are() {
        let settings = RuntimeSettings { library: Some("/absent/lib.so".into()), ..RuntimeSettings::default() };
        let report = doctor(&settings);
        let told = text(&report);
        for words in ["not in use", "/absent/lib.so is no file", "rten is what", "0.27.0", "processors"] {
            assert!(told.contains(words), "{words}: {told}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["onnxruntime"]["places"][0]["name"], "ORT_DYLIB_PATH");
    }
}
