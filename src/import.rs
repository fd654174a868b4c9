//! `drifting import`: a published artefact folder becomes a weight file.

use std::io::Write;
use std::path::{Path, PathBuf};

use drifting_models::weights::{self, Imported, ImportedNetwork};
use drifting_spec::{GeneratorConfig, MaeConfig};

/// Turn a generator or a masked autoencoder as its authors publish it (metadata.json beside ema_params.msgpack) into a
/// weight file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The published folder.
    folder: PathBuf,
    /// The weight file to write [default: generator.safetensors or mae.safetensors].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Imports and says what was written.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let out = |name: &str| args.out.clone().unwrap_or_else(|| name.into());
    match weights::import(&args.folder)? {
        ImportedNetwork::Generator(generator) => {
            let path = out("generator.safetensors");
            let sha256 = generator.write(&path)?;
            let GeneratorConfig { image, patch, hidden, depth, heads, classes, .. } = &generator.config;
            let network = format!(
                "image {}x{}x{}, patch {patch}, hidden {hidden}, depth {depth}, heads {heads}, classes {classes}",
                image.channels, image.height, image.width
            );
            say(&generator, (&path, &sha256), &network)
        }
        ImportedNetwork::Mae(mae) => {
            let path = out("mae.safetensors");
            let sha256 = mae.write(&path)?;
            let MaeConfig { image, input_patch, base_channels, blocks, classes, .. } = &mae.config;
            let network = format!(
                "masked autoencoder, image {}x{}x{}, patch {input_patch}, width {base_channels}, blocks {blocks:?}, \
                 classes {classes}",
                image.channels, image.height, image.width
            );
            say(&mae, (&path, &sha256), &network)
        }
    }
}

fn say<C>(imported: &Imported<C>, (path, sha256): (&Path, &str), network: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}: {} tensors, {} parameters", path.display(), imported.tensors.len(), imported.elements())?;
    writeln!(out, "  {network}")?;
    let decay = imported.ema_decay.map_or("unknown".to_owned(), |decay| decay.to_string());
    writeln!(out, "  step {}, EMA decay {decay}, sha256 {sha256}", imported.step)?;
    Ok(())
}
