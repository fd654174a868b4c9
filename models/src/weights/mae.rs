//! Weight files of masked autoencoders.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use drifting_spec::MaeConfig;

use super::file::{read, write};
use crate::nn::Source;
use crate::{Error, Mae, Result};

const KIND_ENTRY: &str = "kind";
const KIND: &str = "mae";
const CONFIG_ENTRY: &str = "config";

/// A masked autoencoder's weights and what its file says about them.
#[derive(Debug)]
pub struct MaeFile {
    /// Architecture.
    pub config: MaeConfig,
    /// Parameters by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The text entries of the header, `kind` and `config` among them.
    pub metadata: BTreeMap<String, String>,
    /// SHA-256 of the whole file in hexadecimal.
    pub sha256: String,
}

impl MaeFile {
    /// Reads a file that [`MaeFile::write`] wrote.
    ///
    /// # Errors
    /// A file that cannot be read, or that does not say that it holds a masked autoencoder and which.
    pub fn read(path: &Path, device: &Device) -> Result<Self> {
        let file = read(path, device)?;
        let problem = |problem: String| Error::File { path: path.to_owned(), problem };
        let entry = |name: &str| file.metadata.get(name).map(String::as_str);
        if entry(KIND_ENTRY) != Some(KIND) {
            let kind = entry(KIND_ENTRY).unwrap_or("unsaid");
            return Err(problem(format!("holds no masked autoencoder: kind is {kind}, expected {KIND}")));
        }
        let config = entry(CONFIG_ENTRY).ok_or_else(|| problem(format!("header: {CONFIG_ENTRY} is missing")))?;
        let config: MaeConfig =
            serde_json::from_str(config).map_err(|error| problem(format!("header: {CONFIG_ENTRY}: {error}")))?;
        config.validate().map_err(|error| problem(format!("header: {error}")))?;
        Ok(Self { config, tensors: file.tensors, metadata: file.metadata, sha256: file.sha256 })
    }

    /// Writes parameters with `kind`, `config` and the entries `about` them; returns the file's SHA-256.
    ///
    /// # Errors
    /// Names the file and the cause.
    pub fn write(
        path: &Path,
        config: &MaeConfig,
        tensors: &BTreeMap<String, Tensor>,
        about: BTreeMap<String, String>,
    ) -> Result<String> {
        let json = serde_json::to_string(config)
            .map_err(|error| Error::File { path: path.to_owned(), problem: error.to_string() })?;
        let mut metadata = about;
        metadata.insert(KIND_ENTRY.to_owned(), KIND.to_owned());
        metadata.insert(CONFIG_ENTRY.to_owned(), json);
        write(path, tensors, &metadata)
    }

    /// The network with these weights as constants, on `device`.
    ///
    /// # Errors
    /// Tensors that do not match the configuration.
    pub fn frozen(self, device: &Device) -> Result<Mae> {
        Mae::frozen(self.config, Source::Tensors(self.tensors), device)
    }
}

#[cfg(test)]
mod tests {
    use drifting_spec::ImageShape;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mae.safetensors");
        let config = MaeConfig::new(ImageShape { channels: 1, height: 8, width: 8 }, 2, 4, 3);
        let mae = Mae::new(config.clone(), Source::Seed(1), &Device::Cpu).unwrap();
        let about = BTreeMap::from([("step".to_owned(), "7".to_owned())]);
        let sha256 = MaeFile::write(&path, &config, &mae.params().tensors(), about).unwrap();
        let file = MaeFile::read(&path, &Device::Cpu).unwrap();
        assert_eq!((&file.config, &file.sha256, file.metadata["step"].as_str()), (&config, &sha256, "7"));
        let image = Tensor::ones((1, 1, 8, 8), candle_core::DType::F32, &Device::Cpu).unwrap();
        let last = |mae: &Mae| {
            let maps = mae.encode(&image).unwrap();
            maps.last().unwrap().map.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(last(&file.frozen(&Device::Cpu).unwrap()), last(&mae));
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.safetensors");
        write(&path, &BTreeMap::new(), &BTreeMap::new()).unwrap();
        let error = MaeFile::read(&path, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("other.safetensors") && error.contains("no masked autoencoder"), "{error}");
    }
}
