//! TensorRT's parser and builder, which need no GPU. Skipped where the kit is not installed.

use drifting_serve::engine::{self, EngineChoice, EngineSettings, Plan};
use drifting_serve::runtime::{self, Kit, RuntimeSettings};
use drifting_serve::{Model, Source};

use crate::fixture;

fn settings() -> Option<EngineSettings> {
    let runtime = RuntimeSettings::from_env();
    let installed = runtime.kit_folder(Kit::TensorRt).is_some_and(|folder| Kit::TensorRt.is_complete(&folder));
    if !installed {
        println!("skipped: {} is not installed (`{}`)", Kit::TensorRt, Kit::TensorRt.command());
        return None;
    }
    Some(EngineSettings { choice: EngineChoice::TensorRt, runtime, ..EngineSettings::default() })
}

#[test]
fn a_plan_is_built_without_a_gpu_and_fits_its_model() {
    let Some(settings) = settings() else { return };
    let model = Model::from_bytes(fixture::model()).unwrap();
    let plan = engine::build_plan(&model, &[1, 2, 4], &settings).unwrap();
    assert!(plan.bytes.len() > 10_000, "{} bytes", plan.bytes.len());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.plan");
    plan.write(&path).unwrap();
    assert!(Plan::read(&path, &model.sha256, runtime::TENSORRT_RTX_VERSION).unwrap() == plan);
    assert_eq!(plan.card.batches, [1, 2, 4]);
    assert!(engine::build_plan(&model, &[0], &settings).err().unwrap().to_string().contains("batch sizes"));
}

#[test]
fn what_tensorrt_refuses_is_told_in_its_words() {
    let Some(settings) = settings() else { return };
    let mut model = Model::from_bytes(fixture::model()).unwrap();
    let mut bytes = fixture::model();
    let at = bytes.windows(4).position(|bytes| bytes == b"Tanh").unwrap();
    bytes[at..at + 4].copy_from_slice(b"Tonh");
    model.source = Source::Bytes(bytes);
    let error = engine::build_plan(&model, &[1], &settings).err().unwrap().to_string();
    assert!(error.contains("tensorrt cannot load the model") && error.contains("Plugin not found"), "{error}");
    let mut model = Model::from_bytes(fixture::model()).unwrap();
    model.manifest.generator.style_tokens = 4;
    assert!(engine::build_plan(&model, &[1], &settings).is_err());
}

/// Where there is no GPU, that is the error, before anything is built.
#[test]
fn running_needs_a_gpu() {
    let Some(settings) = settings().filter(|_| runtime::gpus().is_empty()) else { return };
    let model = Model::from_bytes(fixture::model()).unwrap();
    let error = engine::open(&model, &settings, &|message| panic!("{message}")).err().unwrap().to_string();
    assert!(error.contains("TensorRT is not available") && error.contains("driver"), "{error}");
}
