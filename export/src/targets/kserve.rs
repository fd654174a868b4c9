//! A KServe `InferenceService` (serving.kserve.io/v1beta1) that runs Triton on the repository beside it.

use super::{Accelerator, Deployment};

/// The repository's folder beside the YAML file.
pub(super) const REPOSITORY: &str = "models";

/// Memory that a server needs beside the weights.
const ROOM: u64 = 2 << 30;

/// The service of a model with this SHA-256 and `length` bytes of weights.
///
/// Texts stand in double quotes with JSON's escapes, which YAML shares.
pub(super) fn service(deployment: &Deployment, sha256: &str, length: u64) -> String {
    let settings = &deployment.settings;
    let name = &deployment.name;
    let storage = match &settings.storage {
        Some(storage) => storage.clone(),
        None => format!("pvc://{name}/{REPOSITORY}"),
    };
    let storage = serde_json::Value::from(storage);
    // The file, the graph made of it, and a copy while it is loaded.
    let memory = (3 * length + ROOM).div_ceil(1 << 20);
    let gpu = match settings.accelerator {
        Accelerator::Cpu => "",
        Accelerator::Cuda | Accelerator::TensorRt => "          nvidia.com/gpu: \"1\"\n",
    };
    format!(
        "# Written by drifting {version}. Copy the folder {REPOSITORY} to storageUri, then: kubectl apply -f inferenceservice.yaml
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: \"{name}\"
  annotations:
    drifting/model-sha256: \"{sha256}\"
spec:
  predictor:
    model:
      modelFormat:
        name: triton
      protocolVersion: v2
      runtime: kserve-tritonserver
      storageUri: {storage}
      resources:
        requests:
          cpu: \"1\"
          memory: \"{memory}Mi\"
        limits:
          cpu: \"4\"
          memory: \"{memory}Mi\"
{gpu}",
        version = env!("CARGO_PKG_VERSION"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::super::{DeploymentSettings, Target};
    use super::*;

    fn text(accelerator: Accelerator, storage: Option<&str>) -> String {
        let settings = DeploymentSettings { accelerator, storage: storage.map(str::to_owned), ..Default::default() };
        service(&plan(Target::Kserve, settings).unwrap(), "abc", 10 << 20)
    }

    #[test]
    fn what_was_asked_for_is_there() {
        let gpu = text(Accelerator::TensorRt, Some("s3://bucket/a: \"b\""));
        assert!(gpu.contains("storageUri: \"s3://bucket/a: \\\"b\\\"\"\n"), "{gpu}");
        assert!(gpu.contains("nvidia.com/gpu: \"1\"") && gpu.contains("memory: \"2078Mi\""), "{gpu}");
        let cpu = text(Accelerator::Cpu, None);
        assert!(cpu.contains("pvc://latent-b-2/models") && !cpu.contains("nvidia"), "{cpu}");
    }
}
