//! `drifting import`: a published artefact folder becomes a weight file.

use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use drifting_models::weights::hub::{self, Fetched, HubSettings};
use drifting_models::weights::{self, Imported, ImportedNetwork};
use drifting_spec::{GeneratorConfig, MaeConfig};

/// Turn a generator or a masked autoencoder as its authors publish it (metadata.json beside ema_params.msgpack) into a
/// weight file.
///
/// Nothing is fetched unless --hub is given. Published weights are not part of drifting: their terms are their authors'.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The published folder; with --hub the name of an artefact (latent_B_sota, ...) or its folder in the repository.
    folder: PathBuf,
    /// Fetch the folder from this repository of the Hugging Face hub first [without a value: the authors'].
    #[arg(long, value_name = "REPO", num_args = 0..=1, default_missing_value = hub::AUTHORS)]
    hub: Option<String>,
    /// The weight file to write [default: generator.safetensors or mae.safetensors].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Imports and says what was written.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let out = |name: &str| args.out.clone().unwrap_or_else(|| name.into());
    let folder = match &args.hub {
        Some(repo) => fetch(repo, &args.folder)?,
        None => args.folder.clone(),
    };
    match weights::import(&folder)? {
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

/// Says under which terms weights come, and fetches them.
fn fetch(repo: &str, name: &Path) -> anyhow::Result<PathBuf> {
    eprintln!("{}", hub::TERMS);
    let name = name.to_str().context("the name of the artefact is no text")?;
    let mut last = None;
    let terminal = stderr().is_terminal();
    let folder = hub::fetch(&HubSettings::from_env(), repo, name, &mut |Fetched { name, done, all }| {
        let percent = 100 * done / (*all).max(1);
        // A line of its own for every tenth where lines cannot be written over.
        let shown = if terminal { percent } else { percent / 10 };
        if last.as_ref() != Some(&(name.clone(), shown)) {
            let end = if terminal && done < all { "\r" } else { "\n" };
            eprint!("{name}: {percent} % of {:.1} MB{end}", *all as f64 / 1e6);
            last = Some((name.clone(), shown));
        }
    })?;
    eprintln!("{repo}: {}", folder.display());
    Ok(folder)
}

fn say<C>(imported: &Imported<C>, (path, sha256): (&Path, &str), network: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}: {} tensors, {} parameters", path.display(), imported.tensors.len(), imported.elements())?;
    writeln!(out, "  {network}")?;
    let decay = imported.ema_decay.map_or("unknown".to_owned(), |decay| decay.to_string());
    writeln!(out, "  step {}, EMA decay {decay}, sha256 {sha256}", imported.step)?;
    Ok(())
}
