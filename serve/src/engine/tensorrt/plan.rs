//! A plan: what TensorRT built from a model, with a card beside it that says for which model and which batches.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::engine::EngineError;

/// What a plan is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanCard {
    /// SHA-256 of the ONNX file.
    pub model_sha256: String,
    /// SHA-256 of the plan.
    pub plan_sha256: String,
    /// The TensorRT that built it and can run it.
    pub tensorrt: String,
    /// The batch sizes, each with an optimisation profile of its own, in ascending order.
    pub batches: Vec<usize>,
}

/// A plan and its card.
#[derive(Clone, PartialEq, Eq)]
pub struct Plan {
    /// What TensorRT reads.
    pub bytes: Vec<u8>,
    /// What it is good for.
    pub card: PlanCard,
}

impl Plan {
    /// A plan with its card.
    #[cfg_attr(not(feature = "tensorrt"), allow(dead_code, reason = "only TensorRT itself makes plans"))]
    pub(super) fn new(bytes: Vec<u8>, model_sha256: &str, tensorrt: &str, batches: &[usize]) -> Self {
        let card = PlanCard {
            model_sha256: model_sha256.to_owned(),
            plan_sha256: hash(&bytes),
            tensorrt: tensorrt.to_owned(),
            batches: batches.to_vec(),
        };
        Self { bytes, card }
    }

    /// Writes the plan to `path` and its card beside it, the card last: a plan without its card is not used.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), EngineError> {
        let card_path = card_path(path);
        let json = serde_json::to_vec_pretty(&self.card).map_err(|error| failed(&card_path)(error.into()))?;
        // A plan must not stand beside the card of another one.
        match fs::remove_file(&card_path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&card_path)(error)),
            _ => {}
        }
        publish(path, &self.bytes)?;
        publish(&card_path, &json)
    }

    /// Reads the plan at `path` if it was built for this model by this TensorRT.
    ///
    /// # Errors
    /// A file that is missing or damaged, and a plan for something else: says which.
    pub fn read(path: &Path, model_sha256: &str, tensorrt: &str) -> Result<Self, EngineError> {
        let card_path = card_path(path);
        let json = fs::read(&card_path).map_err(failed(&card_path))?;
        let card: PlanCard = serde_json::from_slice(&json).map_err(|error| failed(&card_path)(error.into()))?;
        let bytes = fs::read(path).map_err(failed(path))?;
        let problem = if card.model_sha256 != model_sha256 {
            "was built from another model file"
        } else if card.tensorrt != tensorrt {
            "was built by another TensorRT"
        } else if card.plan_sha256 != hash(&bytes) {
            "is not the plan that its card describes"
        } else if card.batches.is_empty() {
            "has no batch sizes"
        } else {
            return Ok(Self { bytes, card });
        };
        let (path, built) = (path.to_owned(), card.tensorrt);
        Err(EngineError::Plan { path, problem: format!("{problem} (TensorRT-RTX {built}, here {tensorrt})") })
    }
}

/// The card of the plan at `path`: `model.plan.json` beside `model.plan`.
fn card_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".json");
    PathBuf::from(name)
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes beside the target, syncs and renames.
fn publish(path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    let partial = PathBuf::from(name);
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> EngineError + use<> {
    let path = path.to_owned();
    move |source| EngineError::Cache { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_only_for_what_it_was_built_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.plan");
        let plan = Plan::new(vec![1, 2, 3], "abc", "1.7.1", &[1, 2]);
        plan.write(&path).unwrap();
        assert!(Plan::read(&path, "abc", "1.7.1").unwrap() == plan);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        let problem = |model: &str, tensorrt: &str| match Plan::read(&path, model, tensorrt) {
            Err(error) => error.to_string(),
            Ok(_) => String::new(),
        };
        assert!(problem("abd", "1.7.1").contains("another model file"));
        assert!(problem("abc", "1.8").contains("another TensorRT (TensorRT-RTX 1.7.1, here 1.8)"));
        fs::write(&path, [1, 2]).unwrap();
        assert!(problem("abc", "1.7.1").contains("not the plan that its card describes"));
        fs::write(folder.path().join("model.plan.json"), "{").unwrap();
        assert!(problem("abc", "1.7.1").contains("model.plan.json"));
        fs::remove_file(&path).unwrap();
        assert!(problem("abc", "1.7.1").contains("model.plan"));
    }
}
