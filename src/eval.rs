//! `drifting eval`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use drifting_models::weights::write_bytes;
use drifting_train::data::{DataSource, Embedded};
use drifting_train::run::RunFolder;

use crate::{judge, models, train};

/// Measure what a run has learned.
///
/// A small CNN, trained on the real images with a fixed seed and kept in the run folder, recognises generated images of
/// every class; their diversity and their Fréchet distance in the CNN's features are measured beside the real ones'.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run folder.
    run: PathBuf,
    /// Guidance strengths, one report each [default: the model's].
    #[arg(long, value_delimiter = ',')]
    alpha: Vec<f32>,
    /// Generated images of each class.
    #[arg(short, long, default_value_t = 100)]
    n: usize,
    /// Which moving average, by its decay [default: the first].
    #[arg(long, value_name = "DECAY")]
    ema: Option<f64>,
    /// Real images to judge by in place of the run's: the name of those that come with the program (fashion-mnist), or a
    /// folder.
    #[arg(long, value_name = "NAME|FOLDER")]
    data: Option<String>,
    /// Where the judge is kept [default: judge.safetensors in the run folder].
    #[arg(long, value_name = "FILE")]
    judge: Option<PathBuf>,
    /// Also write the reports as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut config = RunFolder::open(&args.run)?.config()?;
    if let Some(data) = &args.data {
        let embedded = [Embedded::FashionMnist].into_iter().find(|embedded| embedded.name() == data);
        config.data = embedded.map_or_else(|| DataSource::path(data), DataSource::Embedded);
    }
    let model = models::open(&args.run, args.ema)?;
    let range = model.manifest.alpha;
    let alphas = if args.alpha.is_empty() { vec![range.default] } else { args.alpha.clone() };
    if let Some(alpha) = alphas.iter().find(|alpha| !range.contains(**alpha)) {
        bail!("--alpha {alpha} is outside the trained range {}..{}", range.min, range.max);
    }
    if !(2..=10_000).contains(&args.n) {
        bail!("-n {}: between 2 and 10000 images of each class can be measured", args.n);
    }
    let data = train::open_data(&config)?;
    let path = args.judge.clone().unwrap_or_else(|| args.run.join("judge.safetensors"));
    let reference = judge::reference(&config, &data, &path)?;
    let generator = model.generator()?;
    let mut reports = Vec::new();
    for alpha in alphas {
        let report = judge::measure(&reference, &generator, alpha, args.n)?;
        println!("step {}, alpha {alpha}\n{report}\n", model.manifest.provenance.step);
        reports.push(serde_json::json!({ "step": model.manifest.provenance.step, "alpha": alpha, "quality": report }));
    }
    if let Some(path) = &args.json {
        write_bytes(path, format!("{}\n", serde_json::to_string_pretty(&reports)?).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}
