//! `drifting report`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use drifting_models::weights::write_bytes;
use drifting_train::run::{RunError, RunFolder, report};

/// Write one page of HTML about a run, or about several side by side.
///
/// It holds the settings that differ, curves, sample grids, the measurements that `drifting eval --json` left in the run
/// folders as eval*.json, machines and hashes. It is one file that needs no network and no scripts.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run folders.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Where the page goes [default: report.html in the run folder, or here for several runs].
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let folders = args.runs.iter().map(|path| RunFolder::open(path)).collect::<Result<Vec<_>, RunError>>()?;
    let page = report(&folders)?;
    let path = match (&args.out, args.runs.as_slice()) {
        (Some(path), _) => path.clone(),
        (None, [run]) => run.join("report.html"),
        (None, _) => PathBuf::from("report.html"),
    };
    write_bytes(&path, page.as_bytes())?;
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}
