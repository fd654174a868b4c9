//! The exported generator against the network, in every setting, and what verification finds.

use std::path::Path;

use crate::settings::{generator, manifest, settings, tiny};
use drifting_export::{
    BoxError, CARD_FILE, Error, ExportSettings, Open, REPORT_FILE, Report, Runner, SAMPLES_FILE, export, model,
    reference, verify,
};
use drifting_models::Generator;
use drifting_spec::{GeneratorConfig, Inputs, Norm};

#[test]
fn every_setting_gives_the_networks_images() {
    for (name, config) in settings() {
        let generator = generator(config.clone());
        let bytes = model(&manifest(config), &generator.params().tensors(), &ExportSettings::default()).unwrap();
        let report = verify(&bytes, &generator, &mut []).unwrap();
        assert!(report.passed(), "{name}: {:?}", report.failures);
        assert!(report.output.std > 0.01, "{name}: the image is nearly constant: {:?}", report.output);
        assert_eq!(report.parameters, generator.params().len());
        let differences = report.runners[0].batches.iter().map(|batch| batch.max_abs_diff.unwrap());
        // Far below the tolerance: a lowering that is nearly right would stay under it as well.
        assert!(differences.fold(0.0, f32::max) < 2e-5, "{name}: {:?}", report.runners);
    }
}

/// Else the test above could not tell a setting that the lowering forgot.
#[test]
fn every_setting_is_seen_in_the_image() {
    let images: Vec<_> = settings()
        .into_iter()
        .filter(|(_, config)| config.image == tiny().image)
        .map(|(name, config)| {
            let tensors = reference(&generator(config.clone()), &manifest(config)).unwrap();
            (name, tensors["image"].flatten_all().unwrap())
        })
        .collect();
    for (i, (name, image)) in images.iter().enumerate() {
        for (other, different) in &images[..i] {
            let difference = (image - different).unwrap().abs().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(difference > 1e-3, "{name} and {other} differ by {difference}");
        }
    }
}

#[test]
fn equal_arguments_give_equal_bytes_and_the_manifest_comes_back() {
    let (manifest, weights) = (manifest(tiny()), generator(tiny()).params().tensors());
    let bytes = model(&manifest, &weights, &ExportSettings::default()).unwrap();
    assert_eq!(bytes, model(&manifest, &weights, &ExportSettings::default()).unwrap());
    assert_eq!(drifting_export::manifest(&bytes).unwrap(), manifest);
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let (manifest, good) = (manifest(tiny()), generator(tiny()).params().tensors());
    let problem = |weights| model(&manifest, &weights, &ExportSettings::default()).unwrap_err().to_string();
    let mut less = good.clone();
    less.remove("blocks.1.attn.qkv.bias");
    assert!(problem(less).contains("blocks.1.attn.qkv.bias: this weight is missing (expected shape [144])"));
    let mut more = good.clone();
    more.insert("blocks.2.norm1.weight".into(), good["blocks.1.norm1.weight"].clone());
    assert!(problem(more).contains("blocks.2.norm1.weight: this weight belongs to no part of the network"));
    let mut other = good.clone();
    other.insert("pos_embed".into(), good["pos_embed"].t().unwrap());
    assert!(problem(other).contains("pos_embed: this weight has shape [48, 24], expected [24, 48]"));
    let mut nan = good.clone();
    nan.insert("patch_embed.bias".into(), (&good["patch_embed.bias"] * f64::NAN).unwrap());
    assert!(problem(nan).contains("patch_embed.bias holds NaN"));
}

#[test]
fn a_changed_weight_and_another_generator_are_found() {
    let (generator, manifest) = (generator(tiny()), manifest(tiny()));
    let mut weights = generator.params().tensors();
    weights.insert("final.out.bias".into(), (&weights["final.out.bias"] + 0.5).unwrap());
    let report = verify(&model(&manifest, &weights, &ExportSettings::default()).unwrap(), &generator, &mut []).unwrap();
    let failed = report.failures.join("\n");
    assert!(failed.contains("weights: final.out.bias has 12 other numbers in the model"), "{failed}");
    assert!(failed.contains("candle-onnx: batch of 2: largest difference from candle 5"), "{failed}");

    let layer = crate::settings::generator(GeneratorConfig { norm: Norm::Layer, ..tiny() });
    let bytes = model(&manifest, &generator.params().tensors(), &ExportSettings::default()).unwrap();
    assert!(matches!(verify(&bytes, &layer, &mut []), Err(Error::OtherNetwork { .. })));
}

/// Answers as candle does, plus an error.
struct Wrong(Generator, f32);

impl Runner for Wrong {
    fn name(&self) -> &str {
        "wrong 1.0"
    }

    fn run(&mut self, inputs: &Inputs) -> Result<Vec<f32>, BoxError> {
        let image = self.0.run(inputs)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(image.into_iter().map(|value| value + self.1).collect())
    }
}

fn export_with(path: &Path, error: f32) -> drifting_export::Result<Report> {
    let open = move |unverified: &Path| {
        assert!(unverified.extension().is_some_and(|extension| extension == "onnx"));
        assert!(drifting_export::manifest(&std::fs::read(unverified)?).is_ok());
        Ok(Box::new(Wrong(generator(tiny()), error)) as Box<dyn Runner>)
    };
    export(path, generator(tiny()), &manifest(tiny()), &ExportSettings::default(), vec![Box::new(open)])
}

#[test]
fn only_a_verified_model_takes_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let files = || {
        let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let error = export_with(&path, 0.01).unwrap_err().to_string();
    assert!(
        error.starts_with("the export failed its verification: wrong 1.0: batch of 5: largest difference"),
        "{error}"
    );
    assert!(error.contains("allowed"), "{error}");
    assert!(files().is_empty(), "{:?}", files());

    let report = export_with(&path, 0.0).unwrap();
    assert_eq!(files(), [CARD_FILE, "model.onnx", SAMPLES_FILE, REPORT_FILE]);
    let written: Report = serde_json::from_slice(&std::fs::read(path.with_file_name(REPORT_FILE)).unwrap()).unwrap();
    assert_eq!(written, report);
    assert_eq!(
        report.runners.iter().map(|runner| runner.name.as_str()).collect::<Vec<_>>(),
        ["candle-onnx", "wrong 1.0"]
    );

    let missing: Open = Box::new(|_| Err("libonnxruntime.so not found".into()));
    let no_engine = export(&path, generator(tiny()), &manifest(tiny()), &ExportSettings::default(), vec![missing]);
    assert!(matches!(no_engine, Err(Error::Engine(_))));
    assert_eq!(files(), [CARD_FILE, "model.onnx", SAMPLES_FILE, REPORT_FILE], "an older export stays");
}
