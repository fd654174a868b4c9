//! `drifting doctor`: what this machine offers.

use drifting_serve::runtime::{Kit, RuntimeSettings, install};
use drifting_serve::{LibraryReport, Report, doctor};

/// Tell which engines are there and what is missing
///
/// Opens every library that the engines can use, tells its version or why it does not open, and names the command that
/// mends it. Nothing is changed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Fetch ONNX Runtime into the cache first if it is not there (as `drifting runtime install`)
    #[arg(long)]
    fetch: bool,
}

/// Prints the report.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let settings = RuntimeSettings::from_env();
    if args.fetch {
        install(Kit::OnnxRuntime, &settings, &|message| eprintln!("{message}"))?;
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
    text += &gpu_text(report);
    text += "\n";
    text += &line("python", &or(&report.python.python, "python3 is not there"));
    text += &line("pip", &or(&report.python.pip, "python3 has no pip"));
    text += &line("processors", &report.threads.to_string());
    text
}

/// Kits, libraries of the system and GPUs.
fn gpu_text(report: &Report) -> String {
    let mut text = String::new();
    for kit in &report.kits {
        let state = if kit.installed { "installed" } else { "not installed" };
        text += &format!("\n{}: {state}\n", kit.title);
        if let Some(folder) = kit.folder.as_ref().filter(|_| kit.installed) {
            text += &format!("  in {}\n", folder.display());
        }
        text += &libraries_text(&kit.libraries);
        if let Some(advice) = &kit.advice {
            text += &format!("  advice: {advice}\n");
        }
    }
    text += "\nFrom the system\n";
    text += &libraries_text(&report.system);
    let gpu = |gpu: &drifting_serve::runtime::Gpu| {
        let capability = gpu.capability.as_ref().map_or(String::new(), |text| format!(", compute capability {text}"));
        format!("  GPU {}: {}{capability}, driver {}\n", gpu.index, gpu.name, gpu.driver)
    };
    text += &report.gpus.iter().map(gpu).collect::<String>();
    if report.gpus.is_empty() {
        text += "  no NVIDIA GPU\n";
    }
    text
}

fn libraries_text(libraries: &[LibraryReport]) -> String {
    let told = |library: &LibraryReport| {
        let version = library.version.as_deref().unwrap_or("");
        let finding = match (&library.problem, &library.file) {
            (Some(problem), _) => format!("does not open: {problem}"),
            (None, Some(file)) if library.name.starts_with("libcuda.") => format!("opens ({})", file.display()),
            _ => "opens".to_owned(),
        };
        format!("  {:<48} {version:<12} {finding}\n", library.name)
    };
    libraries.iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_what_programs_are() {
        let settings = RuntimeSettings { library: Some("/absent/lib.so".into()), ..RuntimeSettings::default() };
        let report = doctor(&settings);
        let told = text(&report);
        for words in [
            "not in use",
            "/absent/lib.so is no file",
            "rten is what",
            "0.27.0",
            "processors",
            "libnvinfer.so.10",
            "for CUDA 13: not",
        ] {
            assert!(told.contains(words), "{words}: {told}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["onnxruntime"]["places"][0]["name"], "ORT_DYLIB_PATH");
        assert_eq!((&json["kits"][0]["kit"], &json["kits"][1]["installed"]), (&"cuda".into(), &false.into()));
    }
}
