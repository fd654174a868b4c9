//! Models that come with the program.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use drifting_export::ExportSettings;
use drifting_models::weights::write_bytes;
use drifting_serve::engine::EngineChoice;
use drifting_serve::runtime::RuntimeSettings;
use drifting_train::run::ModelFile;

use crate::export;

/// A model that comes with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shipped {
    /// Clothes, 28 x 28 and grey, of ten classes; trained as configs/fashion.toml says.
    Fashion,
}

impl Shipped {
    const ALL: [Self; 1] = [Self::Fashion];

    fn name(self) -> &'static str {
        match self {
            Self::Fashion => "fashion",
        }
    }

    fn weights(self) -> &'static [u8] {
        match self {
            Self::Fashion => include_bytes!("../assets/fashion.safetensors"),
        }
    }

    /// The model called `name`.
    pub(crate) fn named(name: &Path) -> Option<Self> {
        Self::ALL.into_iter().find(|model| Path::new(model.name()) == name)
    }

    /// Its weights, by way of a file in `folder`.
    pub(crate) fn open(self, folder: &Path) -> Result<ModelFile> {
        let path = folder.join(self.name()).with_extension("safetensors");
        write_bytes(&path, self.weights())?;
        Ok(ModelFile::read(&path)?)
    }

    /// Its ONNX file in the cache, exported and verified by the first call.
    pub(crate) fn onnx(self, engine: EngineChoice) -> Result<PathBuf> {
        let folder = cache()?;
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let model = self.open(&folder)?;
        let hash = &model.manifest.provenance.weights_sha256;
        // Another version of the program may bring other weights or write them in another way.
        let name = format!("{}-{}-{}.onnx", self.name(), env!("CARGO_PKG_VERSION"), &hash[..hash.len().min(12)]);
        let path = folder.join(name);
        if !path.is_file() {
            eprintln!("exporting {} for its first use", self.name());
            export::print(&path, &export::write(model, &path, &ExportSettings::default(), engine)?);
        }
        Ok(path)
    }
}

/// Where shipped models are unpacked.
pub(crate) fn cache() -> Result<PathBuf> {
    let cache = RuntimeSettings::from_env().cache;
    Ok(cache.context("there is no folder for the cache: set DRIFTING_CACHE to one")?.join("models"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_weights_make_a_network() {
        let folder = tempfile::tempdir().unwrap();
        for model in Shipped::ALL {
            assert_eq!(Shipped::named(Path::new(model.name())), Some(model));
            assert!(model.weights().len() <= 8 << 20, "{} is larger than 8 MB", model.name());
            let file = model.open(folder.path()).unwrap();
            assert_eq!(file.manifest.classes.len(), file.manifest.generator.classes);
            file.generator().unwrap();
        }
        assert_eq!(Shipped::named(Path::new("trousers")), None);
    }
}
