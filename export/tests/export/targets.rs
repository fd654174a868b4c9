//! Folders for other servers, held against Triton's own messages by Python.

use std::fs;
use std::path::Path;

use drifting_export::targets::{Accelerator, Deployment, DeploymentSettings, Target};
use drifting_export::{CARD_FILE, REPORT_FILE, SAMPLES_FILE, export};
use drifting_spec::GeneratorConfig;

use crate::python;
use crate::settings::{generator, manifest, tiny};

/// Exports a tiny generator into `folder`; returns the server's files.
fn deploy(target: Target, folder: &Path, settings: DeploymentSettings, config: GeneratorConfig) -> Deployment {
    let (generator, manifest) = (generator(config.clone()), manifest(config));
    let graph = settings.graph;
    let deployment = Deployment::plan(target, folder, &manifest, settings).unwrap();
    let report = export(&deployment.make_folder().unwrap(), generator, &manifest, &graph, Vec::new()).unwrap();
    deployment.write(&manifest, &report.model_sha256).unwrap();
    deployment
}

#[test]
fn a_model_card_and_samples_lie_beside_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let deployment = deploy(Target::Triton, folder.path(), DeploymentSettings::default(), tiny());
    let beside = |name: &str| fs::read(deployment.model_path().with_file_name(name)).unwrap();
    let card = String::from_utf8(beside(CARD_FILE)).unwrap();
    assert!(card.contains("3x12x8 colour images of 7 classes") && card.contains("candle-onnx"), "{card}");
    assert!(beside(SAMPLES_FILE).starts_with(b"\x89PNG") && beside(REPORT_FILE).starts_with(b"{"));
}

#[test]
fn a_model_that_fails_leaves_no_settings_behind() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = manifest(tiny());
    let settings = DeploymentSettings::default();
    let deployment = Deployment::plan(Target::Kserve, folder.path(), &manifest, settings).unwrap();
    let error = deployment.write(&manifest, "").unwrap_err().to_string();
    assert!(error.contains("model.onnx"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn triton_and_kserve_read_what_is_written() {
    if python::offline() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let with = |accelerator, batches: &[usize], version| DeploymentSettings {
        accelerator,
        batches: batches.to_vec(),
        version,
        ..Default::default()
    };
    // Two versions of one model, then other devices and networks.
    deploy(Target::Triton, &place("gpu"), with(Accelerator::TensorRt, &[1, 2, 8], 1), tiny());
    deploy(Target::Triton, &place("gpu"), with(Accelerator::TensorRt, &[1, 2, 8], 2), tiny());
    let plain = GeneratorConfig { style_tokens: 0, ..tiny() };
    deploy(Target::Triton, &place("cpu"), with(Accelerator::Cpu, &[3], 7), plain.clone());
    let named =
        DeploymentSettings { name: Some("b2".into()), storage: Some("s3://a/b: #c".into()), ..Default::default() };
    deploy(Target::Kserve, &place("cluster"), named, tiny());
    deploy(Target::Kserve, &place("cluster-cpu"), with(Accelerator::Cpu, &[1, 4], 1), plain);
    let said = python::run("check_targets.py", &[folder.path()]);
    for part in [
        "gpu/tiny/config.pbtxt: passed, 2 versions, batches [1, 2, 8]",
        "cpu/tiny/config.pbtxt: passed, 1 versions, batches [3]",
        "cluster/models/b2/config.pbtxt: passed",
        "cluster/inferenceservice.yaml: passed, s3://a/b: #c, gpu 1",
        "cluster-cpu/inferenceservice.yaml: passed, pvc://tiny/models, gpu None",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }

    // And the check can fail.
    let config = place("gpu/tiny/config.pbtxt");
    let text = fs::read_to_string(&config).unwrap().replace("dims: [3, 12, 8]", "dims: [3, 8, 12]");
    fs::write(&config, text).unwrap();
    assert!(python::try_run("check_targets.py", &[folder.path()]).is_err());
}
