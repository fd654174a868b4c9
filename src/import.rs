//! `drifting import`: a published artefact folder becomes a weight file.

use std::io::Write;
use std::path::PathBuf;

use drifting_models::weights::import_generator;

/// Turn a generator as its authors publish it (metadata.json beside ema_params.msgpack) into a weight file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The published folder.
    folder: PathBuf,
    /// The weight file to write.
    #[arg(long, value_name = "FILE", default_value = "generator.safetensors")]
    out: PathBuf,
}

/// Imports and says what was written.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let generator = import_generator(&args.folder)?;
    let sha256 = generator.write(&args.out)?;
    let drifting_spec::GeneratorConfig { image, patch, hidden, depth, heads, classes, .. } = &generator.config;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}: {} tensors, {} parameters", args.out.display(), generator.tensors.len(), generator.elements())?;
    writeln!(
        out,
        "  image {}x{}x{}, patch {patch}, hidden {hidden}, depth {depth}, heads {heads}, classes {classes}",
        image.channels, image.height, image.width
    )?;
    let decay = generator.ema_decay.map_or("unknown".to_owned(), |decay| decay.to_string());
    writeln!(out, "  step {}, EMA decay {decay}, sha256 {sha256}", generator.step)?;
    Ok(())
}
