//! The part of `drifting export` that puts a model where another server looks for it.

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use drifting_export::ExportSettings;
use drifting_export::targets::{Accelerator, Deployment, DeploymentSettings, Target};
use drifting_spec::Manifest;

/// What an export is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TargetName {
    /// The ONNX file alone; --out names it.
    #[default]
    Onnx,
    /// The ONNX file and a plan of TensorRT beside it, for `drifting serve --engine tensorrt`; needs no GPU.
    Tensorrt,
    /// A model repository of NVIDIA Triton; --out names its folder.
    Triton,
    /// Such a repository and a KServe InferenceService; --out names the folder of both.
    Kserve,
}

/// Settings of other servers.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// What is written.
    #[arg(long, value_enum, default_value_t, hide_possible_values = false)]
    target: TargetName,
    /// The model's name on the server [default: made of the model's own].
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    name: Option<String>,
    /// Version of the model on the server; other versions in the folder stay.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = HEADING)]
    model_version: u32,
    /// Batch sizes that the server prefers, the largest being the most it takes at once; of a plan, all that it takes.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "1,2,4,8", help_heading = HEADING)]
    batches: Vec<usize>,
    /// What computes on the server: tensorrt, cuda, cpu.
    #[arg(long, value_name = "NAME", default_value_t, help_heading = HEADING)]
    accelerator: Accelerator,
    /// Copies of the model on each device.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = HEADING)]
    instances: u32,
    /// Where the cluster finds the repository, such as s3://bucket/models [default: pvc://NAME/models].
    #[arg(long, value_name = "ADDRESS", help_heading = HEADING)]
    storage: Option<String>,
}

const HEADING: &str = "With --target triton, kserve or tensorrt";

impl Args {
    /// Whether more than a file is asked for.
    pub(crate) fn is_server(&self) -> bool {
        self.target != TargetName::Onnx
    }

    /// The batch sizes of the plan that was asked for; none without one. A graph for one batch size has a plan for it.
    pub(crate) fn plan_batches(&self, graph: ExportSettings) -> Option<Vec<usize>> {
        let only = graph.batch.map(|batch| vec![batch.get()]);
        (self.target == TargetName::Tensorrt).then(|| only.unwrap_or_else(|| self.batches.clone()))
    }

    /// The deployment that was asked for; none for the file alone.
    pub(crate) fn plan(&self, out: &Path, manifest: &Manifest, graph: ExportSettings) -> Result<Option<Deployment>> {
        let target = match self.target {
            TargetName::Onnx | TargetName::Tensorrt => return Ok(None),
            TargetName::Triton => Target::Triton,
            TargetName::Kserve => Target::Kserve,
        };
        let settings = DeploymentSettings {
            name: self.name.clone(),
            version: self.model_version,
            batches: self.batches.clone(),
            accelerator: self.accelerator,
            instances: self.instances,
            storage: self.storage.clone(),
            graph,
        };
        Ok(Some(Deployment::plan(target, out, manifest, settings)?))
    }
}
