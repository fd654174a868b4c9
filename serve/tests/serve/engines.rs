//! The two engines against each other, and what happens when one is missing.

use drifting_serve::engine::{self, Engine, EngineChoice, EngineSettings};
use drifting_serve::runtime::RuntimeSettings;
use drifting_serve::{Model, Source, doctor};
use drifting_spec::Inputs;

use crate::fixture;

fn open(choice: EngineChoice, runtime: RuntimeSettings) -> Result<Box<dyn Engine>, String> {
    let model = Model::from_bytes(fixture::model()).unwrap();
    let settings = EngineSettings { choice, threads: 2.try_into().ok(), runtime, ..EngineSettings::default() };
    engine::open(&model, &settings, &|message| println!("{message}")).map_err(|error| error.to_string())
}

fn nowhere() -> RuntimeSettings {
    RuntimeSettings { library: Some("/absent/libonnxruntime.so".into()), ..RuntimeSettings::default() }
}

fn conditions(batch: usize) -> Vec<(usize, f32)> {
    (0..batch).map(|image| ((image * 7) % 10, 1.0 + image as f32 * 0.3)).collect()
}

/// Needs the library, a cached one, or a network with pip; fails with a message that says so where there is none.
#[test]
fn onnx_runtime_and_rten_agree() {
    let runtime = RuntimeSettings::from_env();
    let mut onnxruntime = open(EngineChoice::OnnxRuntime, runtime.clone()).unwrap();
    let mut rten = open(EngineChoice::Rten, RuntimeSettings::default()).unwrap();
    let config = fixture::manifest().generator;
    for batch in [1, 2, 7] {
        let inputs = Inputs::seeded(&config, 11, &conditions(batch));
        let (ours, theirs) = (rten.run(&inputs).unwrap(), onnxruntime.run(&inputs).unwrap());
        assert_eq!(ours.len(), batch * config.image.len());
        let difference = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 1e-6, "batch {batch}: {difference}");
    }
    let info = onnxruntime.info().clone();
    assert_eq!((info.name, info.provider, info.fallback), ("onnxruntime", "CPUExecutionProvider", None));
    assert!(info.version.starts_with("1."), "{}", info.version);

    let report = doctor(&runtime);
    assert_eq!((report.engine, report.onnxruntime.version), ("onnxruntime", Some(info.version)));
    assert_eq!(report.onnxruntime.library.map(|library| library.path), info.library);
}

#[test]
fn a_seed_gives_the_same_image_in_every_batch() {
    let mut rten = open(EngineChoice::Rten, RuntimeSettings::default()).unwrap();
    let config = fixture::manifest().generator;
    let many = rten.run(&Inputs::seeded(&config, 3, &conditions(5))).unwrap();
    for (index, &(class, alpha)) in conditions(5).iter().enumerate() {
        let mut inputs = Inputs::default();
        inputs.push_seeded(&config, 3, index as u64, class, alpha);
        let alone = rten.run(&inputs).unwrap();
        let shared = &many[index * config.image.len()..][..config.image.len()];
        assert!(alone.iter().zip(shared).all(|(a, b)| (a - b).abs() < 1e-6), "{index}");
    }
}

#[test]
fn a_missing_library_is_an_error_only_when_it_was_asked_for() {
    let error = open(EngineChoice::OnnxRuntime, nowhere()).err().unwrap();
    assert!(error.contains("ONNX Runtime is not available") && error.contains("/absent/libonnxruntime.so"), "{error}");
    let fallback = open(EngineChoice::Auto, nowhere()).unwrap();
    assert_eq!(fallback.info().name, "rten");
    assert!(fallback.info().fallback.as_ref().unwrap().contains("/absent/libonnxruntime.so"));
    assert_eq!(open(EngineChoice::Rten, nowhere()).unwrap().info().fallback, None);
}

#[test]
fn a_model_that_contradicts_its_manifest_is_refused() {
    let mut model = Model::from_bytes(fixture::model()).unwrap();
    model.manifest.generator.style_tokens = 4;
    let settings = EngineSettings { choice: EngineChoice::Rten, ..EngineSettings::default() };
    let error = engine::open(&model, &settings, &|_| {}).err().unwrap().to_string();
    assert!(error.contains("\"style\"") && error.contains("manifest"), "{error}");
    model.source = Source::Bytes(fixture::model()[..200].to_vec());
    assert!(engine::open(&model, &settings, &|_| {}).err().unwrap().to_string().contains("rten cannot load"));
}
