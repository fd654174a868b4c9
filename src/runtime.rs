//! `drifting runtime`: the libraries of the engines.

use drifting_serve::runtime::{Kit, RuntimeSettings, install};

/// Install the libraries of the engines
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Fetch libraries with pip (pinned versions, hashes checked) into the cache.
    ///
    /// Without a flag: ONNX Runtime for the CPU, which `drifting serve` also fetches by itself. Only libraries are
    /// unpacked, into $DRIFTING_CACHE, else $XDG_CACHE_HOME/drifting, else ~/.cache/drifting. `drifting doctor` opens
    /// them and says what is still missing.
    Install(Install),
}

#[derive(Debug, clap::Args)]
struct Install {
    /// ONNX Runtime with its CUDA and TensorRT providers, and CUDA 13's libraries (1.35 GB to fetch, 2.1 GB on the disk)
    #[arg(long)]
    cuda: bool,

    /// TensorRT-RTX and its provider (147 MB to fetch, 316 MB on the disk)
    #[arg(long)]
    tensorrt: bool,
}

impl Install {
    fn kits(&self) -> Vec<Kit> {
        // TensorRT-RTX's provider plugs into ONNX Runtime for the CPU.
        let cpu = !self.cuda || self.tensorrt;
        let asked = [(Kit::OnnxRuntime, cpu), (Kit::Cuda, self.cuda), (Kit::TensorRt, self.tensorrt)];
        asked.into_iter().filter_map(|(kit, asked)| asked.then_some(kit)).collect()
    }
}

/// Installs and tells where.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Command::Install(asked) = &args.command;
    let settings = RuntimeSettings::from_env();
    for kit in asked.kits() {
        let installed = install(kit, &settings, &|message| eprintln!("{message}"))?;
        let what = if installed.fresh { "is now" } else { "was already" };
        println!("{kit} {what} in {}", installed.folder.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags;

    #[test]
    fn flags_choose_kits() {
        let kits = |flags: &[&str]| {
            let args: Args = flags::parsed(&[&["runtime", "install"], flags].concat()).unwrap();
            let Command::Install(install) = args.command;
            install.kits()
        };
        assert_eq!(kits(&[]), [Kit::OnnxRuntime]);
        assert_eq!(kits(&["--cuda"]), [Kit::Cuda]);
        assert_eq!(kits(&["--tensorrt"]), [Kit::OnnxRuntime, Kit::TensorRt]);
        assert_eq!(kits(&["--tensorrt", "--cuda"]), Kit::ALL);
    }
}
