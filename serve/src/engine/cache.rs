//! Where engines that were built for one model on one GPU are kept.

use std::fs;
use std::path::{Path, PathBuf};

use super::EngineError;
use crate::runtime::Gpu;

/// What an engine is good for; any other model, GPU or version is another folder.
#[derive(Clone, Debug)]
pub(super) struct CacheKey<'a> {
    /// SHA-256 of the model file.
    pub(super) model: &'a str,
    /// The GPU, where the driver tells it.
    pub(super) gpu: Option<&'a Gpu>,
    /// Names and versions of everything that takes part.
    pub(super) versions: Vec<(&'a str, String)>,
}

impl CacheKey<'_> {
    /// The folder's name: `<model>-<GPU>-<driver>-<name><version>-...`.
    fn name(&self) -> String {
        let model: String = self.model.chars().take(16).collect();
        let gpu = self.gpu.map_or_else(|| "unknown-gpu".to_owned(), |gpu| format!("{}-driver{}", gpu.name, gpu.driver));
        let versions = self.versions.iter().map(|(name, version)| format!("{name}{version}"));
        let words: Vec<String> = [model, gpu].into_iter().chain(versions).collect();
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' };
        words.join("-").chars().map(plain).collect()
    }

    /// Makes the folder within `cache`.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn folder(&self, cache: &Path) -> Result<PathBuf, EngineError> {
        let path = cache.join("engines").join(self.name());
        match fs::create_dir_all(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(EngineError::Cache { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_matters_is_in_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = |name: &str, driver: &str| {
            let (name, driver) = (name.to_owned(), driver.to_owned());
            Gpu { index: 0, name, capability: None, driver }
        };
        let (h100, newer, a10) =
            (gpu("NVIDIA H100", "580.1"), gpu("NVIDIA H100", "590.2"), gpu("NVIDIA A10/24", "580.1"));
        let path = |model: &str, gpu, version: &str| {
            let key = CacheKey { model, gpu, versions: vec![("ort", version.to_owned())] };
            key.folder(folder.path()).unwrap()
        };
        let (one, two) = ("a".repeat(64), "b".repeat(64));
        let first = path(&one, Some(&h100), "1.31.1");
        assert!(first.ends_with("engines/aaaaaaaaaaaaaaaa-NVIDIA_H100-driver580.1-ort1.31.1") && first.is_dir());
        let others = [
            path(&two, Some(&h100), "1.31.1"),
            path(&one, Some(&newer), "1.31.1"),
            path(&one, Some(&a10), "1.31.1"),
            path(&one, None, "1.31.1"),
            path(&one, Some(&h100), "1.32.0"),
        ];
        assert!(others.iter().all(|other| *other != first && other.parent() == first.parent()));
        assert_eq!(path(&one, Some(&h100), "1.31.1"), first);
        fs::write(folder.path().join("file"), "").unwrap();
        let key = CacheKey { model: &one, gpu: None, versions: Vec::new() };
        assert!(key.folder(&folder.path().join("file")).unwrap_err().to_string().contains("file"));
    }
}
