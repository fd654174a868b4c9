//! Folders that other servers read: a Triton model repository, and a KServe service that serves one.
//!
//! A [`Deployment`] is planned from the manifest before anything is written, so that a wrong name or batch size is told
//! early; [`Deployment::model_path`] is where the verified model belongs, and [`Deployment::write`] puts the settings beside
//! it, last, since a server that watches the folder takes them for a complete model.

mod interface;
mod kserve;
mod text;
mod triton;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use drifting_models::weights::write_bytes;
use drifting_spec::Manifest;

use crate::{ExportSettings, Result};

/// Name of the model's file in a version folder, which Triton expects.
const MODEL_FILE: &str = "model.onnx";
/// The largest batch that is offered.
const LARGEST_BATCH: usize = 1024;
/// The longest name: a label of a host name.
const LONGEST_NAME: usize = 63;

/// Who will serve the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// NVIDIA's Triton inference server.
    Triton,
    /// KServe, which runs Triton in a cluster.
    Kserve,
}

/// What computes on the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accelerator {
    /// TensorRT within ONNX Runtime, CUDA for what it does not take.
    #[default]
    TensorRt,
    /// ONNX Runtime's CUDA provider.
    Cuda,
    /// The processor.
    Cpu,
}

impl Accelerator {
    /// The names that [`Accelerator::from_str`] knows.
    pub const NAMES: [&'static str; 3] = ["tensorrt", "cuda", "cpu"];
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES[*self as usize])
    }
}

impl FromStr for Accelerator {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        match name {
            "tensorrt" => Ok(Self::TensorRt),
            "cuda" => Ok(Self::Cuda),
            "cpu" => Ok(Self::Cpu),
            _ => Err(format!("no accelerator is called {name:?}: {} are", Self::NAMES.join(", "))),
        }
    }
}

/// How a server shall serve the model.
#[derive(Clone, Debug, PartialEq)]
pub struct DeploymentSettings {
    /// The model's name on the server: lower case letters, digits and hyphens; that of the manifest if none is given.
    pub name: Option<String>,
    /// Number of the version folder, from 1; other versions of the repository are left alone.
    pub version: u32,
    /// Batch sizes that the server prefers; the largest is the most it takes at once.
    pub batches: Vec<usize>,
    /// What computes.
    pub accelerator: Accelerator,
    /// Copies of the model that compute at a time, on each device.
    pub instances: u32,
    /// Where a cluster finds the repository, such as `s3://bucket/models` (KServe only).
    pub storage: Option<String>,
    /// How the model's graph is written: a graph for one batch size takes that one, whatever `batches` says.
    pub graph: ExportSettings,
}

impl Default for DeploymentSettings {
    fn default() -> Self {
        Self {
            name: None,
            version: 1,
            batches: vec![1, 2, 4, 8],
            accelerator: Accelerator::default(),
            instances: 1,
            storage: None,
            graph: ExportSettings::default(),
        }
    }
}

/// Settings that no server would take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct DeploymentError {
    /// The setting at fault, as the command line calls it.
    pub setting: &'static str,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

/// A model's place on a server.
#[derive(Clone, Debug)]
pub struct Deployment {
    target: Target,
    folder: PathBuf,
    name: String,
    settings: DeploymentSettings,
}

impl Deployment {
    /// Plans the deployment of `manifest`'s model into `folder`; writes nothing.
    ///
    /// # Errors
    /// Names the setting that does not fit, and what would.
    pub fn plan(
        target: Target,
        folder: &Path,
        manifest: &Manifest,
        settings: DeploymentSettings,
    ) -> std::result::Result<Self, DeploymentError> {
        let name = match &settings.name {
            Some(name) => checked_name(name)?.to_owned(),
            None => name_of(&manifest.name),
        };
        check(target, &settings)?;
        let batches = settings.graph.batch.map_or_else(|| settings.batches.clone(), |batch| vec![batch.get()]);
        let settings = DeploymentSettings { batches, ..settings };
        Ok(Self { target, folder: folder.to_owned(), name, settings })
    }

    /// The model's name on the server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the model's file belongs.
    #[must_use]
    pub fn model_path(&self) -> PathBuf {
        self.model_folder().join(self.settings.version.to_string()).join(MODEL_FILE)
    }

    /// Makes the folder of the model's file and returns [`Deployment::model_path`].
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn make_folder(&self) -> Result<PathBuf> {
        let path = self.model_folder().join(self.settings.version.to_string());
        match fs::create_dir_all(&path) {
            Ok(()) => Ok(self.model_path()),
            Err(source) => Err(drifting_models::Error::Io { path, source }.into()),
        }
    }

    /// Writes the server's settings beside a model that is in place; returns the files.
    ///
    /// # Errors
    /// The model is not there, or a file cannot be written.
    pub fn write(&self, manifest: &Manifest, sha256: &str) -> Result<Vec<PathBuf>> {
        let length = self.model_length()?;
        let config = self.model_folder().join("config.pbtxt");
        write_bytes(&config, triton::config(self, manifest, sha256)?.as_bytes())?;
        let mut files = vec![config];
        if self.target == Target::Kserve {
            let service = self.folder.join("inferenceservice.yaml");
            write_bytes(&service, kserve::service(self, sha256, length).as_bytes())?;
            files.push(service);
        }
        Ok(files)
    }

    /// Bytes of the model's file, and of the one that holds its weights if that is another.
    fn model_length(&self) -> Result<u64> {
        let path = self.model_path();
        match fs::metadata(&path) {
            Ok(model) => Ok(model.len() + fs::metadata(path.with_extension("onnx.data")).map_or(0, |data| data.len())),
            Err(source) => Err(drifting_models::Error::Io { path, source }.into()),
        }
    }

    /// The folder of all versions: in a repository of its own for KServe, whose YAML lies beside that.
    fn model_folder(&self) -> PathBuf {
        match self.target {
            Target::Triton => self.folder.join(&self.name),
            Target::Kserve => self.folder.join(kserve::REPOSITORY).join(&self.name),
        }
    }

    fn largest_batch(&self) -> usize {
        self.settings.batches.last().copied().unwrap_or(1)
    }
}

fn check(target: Target, settings: &DeploymentSettings) -> std::result::Result<(), DeploymentError> {
    let wrong = |setting, problem: String| Err(DeploymentError { setting, problem });
    let batches = &settings.batches;
    if batches.first().is_none_or(|&least| least == 0) || !batches.is_sorted_by(|a, b| a < b) {
        return wrong("batches", format!("{batches:?} are no ascending sizes from 1, such as 1,2,4,8"));
    }
    if let Some(batch) = batches.iter().find(|&&batch| batch > LARGEST_BATCH) {
        return wrong("batches", format!("{batch} is above {LARGEST_BATCH}"));
    }
    if settings.version == 0 {
        return wrong("model-version", "0 is no version of a model: they count from 1".to_owned());
    }
    if !(1..=64).contains(&settings.instances) {
        return wrong("instances", format!("{} is not between 1 and 64", settings.instances));
    }
    match &settings.storage {
        Some(_) if target == Target::Triton => wrong("storage", "only --target kserve has a storage".to_owned()),
        Some(storage) if !storage.contains("://") || storage.chars().any(char::is_control) => {
            wrong("storage", format!("{storage:?} is no address such as s3://bucket/models or pvc://claim/models"))
        }
        _ => Ok(()),
    }
}

/// A name that is a folder, a model of Triton's and an object of Kubernetes'.
fn checked_name(name: &str) -> std::result::Result<&str, DeploymentError> {
    let letter = |c: char| c.is_ascii_lowercase();
    let fits = name.starts_with(letter)
        && !name.ends_with('-')
        && name.len() <= LONGEST_NAME
        && name.chars().all(|c| letter(c) || c.is_ascii_digit() || c == '-');
    let problem = || format!("{name:?} must be lower case letters, digits and hyphens, with a letter first, up to 63");
    if fits { Ok(name) } else { Err(DeploymentError { setting: "name", problem: problem() }) }
}

/// The nearest such name.
fn name_of(text: &str) -> String {
    let lower = text.chars().map(|c| c.to_ascii_lowercase());
    let kept: String = lower.map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    let parts: Vec<&str> = kept.split('-').filter(|part| !part.is_empty()).collect();
    let joined = match parts.first() {
        None => "generator".to_owned(),
        Some(first) if first.starts_with(|c: char| c.is_ascii_digit()) => format!("generator-{}", parts.join("-")),
        Some(_) => parts.join("-"),
    };
    joined.chars().take(LONGEST_NAME).collect::<String>().trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use drifting_spec::{AlphaRange, GeneratorConfig, ImageShape};

    use super::*;

    pub(super) fn manifest() -> Manifest {
        let image = ImageShape { channels: 4, height: 32, width: 16 };
        let generator = GeneratorConfig { style_tokens: 3, ..GeneratorConfig::new(image, 2, 8, 1, 1, 2) };
        let alpha = AlphaRange { min: 1.0, max: 4.0, default: 1.5 };
        let classes = vec!["a \"quoted\"\\ name".to_owned(), "Été\n".to_owned()];
        Manifest { classes, ..Manifest::new("Latent B/2".into(), generator, alpha) }
    }

    pub(super) fn plan(
        target: Target,
        settings: DeploymentSettings,
    ) -> std::result::Result<Deployment, DeploymentError> {
        Deployment::plan(target, Path::new("out"), &manifest(), settings)
    }

    #[test]
    fn names_become_those_of_servers() {
        for (text, name) in [
            ("Latent B/2", "latent-b-2"),
            ("", "generator"),
            ("../../etc", "etc"),
            ("2nd", "generator-2nd"),
            (&"x-".repeat(99), &"x-".repeat(32)[..63]),
        ] {
            assert_eq!(name_of(text), name);
            assert!(checked_name(name).is_ok(), "{name}");
        }
        for name in ["", "A", "a/b", "..", "a-", "1a", &"a".repeat(64)] {
            assert!(checked_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn every_file_has_its_place() {
        let triton = plan(Target::Triton, DeploymentSettings { version: 3, ..Default::default() }).unwrap();
        assert_eq!(triton.model_path(), Path::new("out/latent-b-2/3/model.onnx"));
        let kserve =
            plan(Target::Kserve, DeploymentSettings { name: Some("b2".into()), ..Default::default() }).unwrap();
        assert_eq!(kserve.model_path(), Path::new("out/models/b2/1/model.onnx"));
    }

    #[test]
    fn settings_that_no_server_takes_are_named() {
        let refused = |change: fn(&mut DeploymentSettings)| {
            let mut settings = DeploymentSettings::default();
            change(&mut settings);
            plan(Target::Triton, settings).unwrap_err().to_string()
        };
        assert!(refused(|s| s.batches.clear()).starts_with("batches: [] are no ascending sizes"));
        assert!(refused(|s| s.batches = vec![2, 2]).starts_with("batches: [2, 2]"));
        assert!(refused(|s| s.batches = vec![0, 2]).starts_with("batches: [0, 2]"));
        assert!(refused(|s| s.batches = vec![1, 4096]).starts_with("batches: 4096 is above"));
        assert!(refused(|s| s.version = 0).starts_with("model-version: 0"));
        assert!(refused(|s| s.instances = 0).starts_with("instances: 0"));
        assert!(refused(|s| s.name = Some("No".into())).starts_with("name: \"No\""));
        assert!(refused(|s| s.storage = Some("s3://x".into())).starts_with("storage: only --target kserve"));
        let no_address = DeploymentSettings { storage: Some("bucket".into()), ..Default::default() };
        assert!(plan(Target::Kserve, no_address).unwrap_err().to_string().starts_with("storage: \"bucket\""));
    }
}
