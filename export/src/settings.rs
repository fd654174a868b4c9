//! What a person chooses about an exported file: for which engines its graph is spelled, batch, where weights lie.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// For whom the graph is spelled, and in which numbers it computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// f32, opset 17, plain operators: the one spelling that every engine runs.
    #[default]
    Portable,
    /// f32, spelled as ONNX Runtime runs it fastest.
    Ort,
    /// Matrix products in 16-bit floats, the rest in f32.
    Fp16,
    /// Matrix products in bfloat16, the rest in f32.
    Bf16,
    /// Matrix products of the blocks in 8-bit integers, the rest in f32: for CPUs.
    Int8,
}

/// Where the weights of an exported model lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExternalData {
    /// In the file itself, above 1.5 GiB in a second file beside it.
    #[default]
    Auto,
    /// In a second file beside it.
    Always,
    /// In the file itself.
    Never,
}

/// How a network is exported; by default as one portable file for any batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportSettings {
    /// Spelling and precision.
    pub profile: Profile,
    /// The one batch size that the graph is made for; any if none is given.
    pub batch: Option<NonZeroUsize>,
    /// Where the weights lie.
    pub external_data: ExternalData,
}

/// Something that was asked for and cannot be exported, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct SettingsError {
    /// What was asked for.
    pub setting: String,
    /// Why it cannot be had, and what can.
    pub problem: String,
}

impl Profile {
    /// The names that [`Profile::from_str`] knows.
    pub const NAMES: [&'static str; 5] = ["portable", "ort", "fp16", "bf16", "int8"];
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "portable" => Ok(Self::Portable),
            "ort" => Ok(Self::Ort),
            "fp16" => Ok(Self::Fp16),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            _ => Err(format!("no profile is called {name:?}: {} are", Self::NAMES.join(", "))),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES[*self as usize])
    }
}

impl ExternalData {
    /// The names that [`ExternalData::from_str`] knows.
    pub const NAMES: [&'static str; 3] = ["auto", "always", "never"];
}

impl FromStr for ExternalData {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(format!("external data is {}, not {name:?}", Self::NAMES.join(", "))),
        }
    }
}

impl fmt::Display for ExternalData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES[*self as usize])
    }
}

impl ExportSettings {
    /// Refuses what cannot be exported.
    ///
    /// # Errors
    /// Names the setting and what can be had instead.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let Some(batch) = self.batch.filter(|batch| batch.get() > MOST_BATCH) else { return Ok(()) };
        let problem = format!("is too large for one image after another: at most {MOST_BATCH}");
        Err(SettingsError { setting: format!("batch {batch}"), problem })
    }

    /// What a person should know who runs the model on a processor, where the profile is no help.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        match self.profile {
            Profile::Fp16 => Some(
                "fp16 is for TensorRT and CUDA: on a CPU, ONNX Runtime casts every product to f32 and back, which is \
                 slower than the profile portable",
            ),
            Profile::Bf16 => Some("bf16 is for TensorRT and CUDA: no engine on a CPU runs it"),
            Profile::Portable | Profile::Ort | Profile::Int8 => None,
        }
    }
}

/// The largest batch that a graph is made for.
const MOST_BATCH: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_go_by_name() {
        for name in Profile::NAMES {
            assert_eq!(name.parse::<Profile>().unwrap().to_string(), name);
            assert_eq!(serde_json::to_string(&name.parse::<Profile>().unwrap()).unwrap(), format!("\"{name}\""));
        }
        for name in ExternalData::NAMES {
            assert_eq!(name.parse::<ExternalData>().unwrap().to_string(), name);
        }
        assert!("half".parse::<Profile>().unwrap_err().contains("fp16"));
    }

    #[test]
    fn what_cannot_be_exported_is_refused_by_name() {
        ExportSettings::default().validate().unwrap();
        let huge = ExportSettings { batch: NonZeroUsize::new(1 << 20), ..ExportSettings::default() };
        assert!(huge.validate().unwrap_err().to_string().starts_with("batch 1048576: "));
    }
}
