//! Model files that somebody damaged, or made to do harm: each is an error that says what is wrong, from whichever engine.

use std::fs;
use std::path::Path;

use drifting_serve::bench::{BenchSettings, Windows, bench};
use drifting_serve::engine::{self, EngineChoice, EngineSettings};
use drifting_serve::runtime::RuntimeSettings;
use drifting_serve::{Limits, Model, Models, Part};
use drifting_spec::MANIFEST_KEY;

use crate::fixture::{FLOAT, INT64, Parts, field, int, model, model_with, node, tensor, value};

/// What becomes of a file in the server: the first error on the way to its first images.
fn served(path: &Path, choice: EngineChoice) -> Result<(), String> {
    let model = Model::open(path).map_err(|error| error.to_string())?;
    let settings = EngineSettings {
        choice,
        threads: 1.try_into().ok(),
        runtime: RuntimeSettings::from_env(),
        ..Default::default()
    };
    let engine = engine::open(&model, &settings, &|_| {}).map_err(|error| error.to_string())?;
    let part = Part { name: "hostile".to_owned(), model, engines: vec![engine] };
    Models::start(vec![part], Limits::default()).map(drop).map_err(|error| error.to_string())
}

/// A graph of the fixture's inputs whose image is one constant's.
fn change(name: &'static str, what: impl FnOnce(&mut Parts)) -> (&'static str, Vec<u8>) {
    (name, model_with(what))
}

/// Files by what is wrong with them, and words of the error.
fn files() -> Vec<((&'static str, Vec<u8>), &'static str)> {
    let external = |location: &str| {
        let entry = field(13, &[field(1, b"location"), field(2, location.as_bytes())].concat());
        [tensor("mixer", FLOAT, &[8, 8], b""), int(14, 1), entry].concat()
    };
    let (up, absolute, absent) = (external("../../../etc/passwd"), external("/etc/passwd"), external("absent.data"));
    let nested = (0..1000).fold(field(2, b"g"), |graph, _| field(1, &field(5, &field(6, &graph))));
    let nested = field(5, &field(6, &nested));
    let four_times = [field(1, b"perm"), int(8, 0).repeat(4), int(20, 7)];
    let nan = f32::NAN.to_le_bytes().repeat(64);
    let cut = |manifest: &str| manifest[..manifest.len() / 2].to_owned();
    vec![
        (("empty", Vec::new()), "not an ONNX file"),
        (("another kind", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec()), "not an ONNX file"),
        (("cut short", model()[..model().len() / 2].to_vec()), "cut short"),
        (("no manifest", field(7, b"")), "carries no drifting.manifest"),
        (change("a manifest cut short", |p| p.manifest = cut(&p.manifest)), MANIFEST_KEY),
        (change("a manifest of nothing", |p| p.manifest = "[".repeat(100_000)), MANIFEST_KEY),
        (change("another layout", |p| p.manifest = p.manifest.replace("\"format\":1", "\"format\":2")), "layout 2"),
        (
            change("10 GB of image", |p| {
                p.manifest =
                    p.manifest.replace("\"height\":8", "\"height\":1000000").replace("\"width\":8", "\"width\":1000000")
            }),
            "are the most",
        ),
        (
            change("a negative size", |p| p.manifest = p.manifest.replace("\"depth\":1", "\"depth\":-1")),
            "expected usize",
        ),
        (change("too few names", |p| p.manifest = p.manifest.replace("\"Boot\"", "\"Bag\",\"Boot\"")), "class names"),
        (change("another input", |p| p.inputs[0] = value("noise", FLOAT, &[1, 8, 50_000])), ""),
        (change("no input", |p| drop(p.inputs.remove(1))), "style"),
        (change("another output", |p| p.output = value("picture", FLOAT, &[1, 8, 8])), "picture"),
        (change("noise of integers", |p| p.inputs[0] = value("noise", INT64, &[1, 8, 8])), ""),
        (change("classes of floats", |p| p.inputs[2] = value("class", FLOAT, &[])), ""),
        (change("weights of integers", |p| p.constants[3] = tensor("mixer", INT64, &[8, 8], &[0; 512])), ""),
        (
            change("weights that are not finite", |p| p.constants[3] = tensor("mixer", FLOAT, &[8, 8], &nan)),
            "not finite",
        ),
        (
            change("10 GB of weights", |p| p.constants[3] = tensor("mixer", FLOAT, &[50_000, 50_000], &[0; 64])),
            "64 bytes for a shape of 10000000000",
        ),
        (
            change("a shape without numbers", |p| p.constants[3] = tensor("mixer", FLOAT, &[50_000, 50_000], b"")),
            "for a shape",
        ),
        (change("weights above", |p| p.constants[3] = up), "only a file beside the model"),
        (change("weights at the root", |p| p.constants[3] = absolute), "only a file beside the model"),
        (change("weights nowhere", |p| p.constants[3] = absent), "\"absent.data\""),
        (change("a cycle", |p| p.nodes[1] = node("MatMul", &["shifted", "mixer"], "mixed", &[])), ""),
        (change("a node twice", |p| p.nodes.push(p.nodes[10].clone())), ""),
        (change("a name twice", |p| p.nodes[9] = node("Add", &["sum", "style_shift"], "sum", &[])), ""),
        (change("a constant twice", |p| p.constants.push(p.constants[3].clone())), ""),
        (change("an unknown operator", |p| p.nodes[10] = node("Explode", &["shifted"], "image", &[])), "Explode"),
        (change("nothing made", |p| p.nodes.clear()), ""),
        // Found by the fuzzer: rten stops with a panic, which must stay an error.
        (change("an axis four times", |p| p.nodes[1] = node("Transpose", &["noise"], "mixed", &four_times)), ""),
        (change("graphs in graphs", |p| p.nodes.push(nested)), "deep in each other"),
        (change("a million nodes", |p| p.nodes.extend(vec![Vec::new(); 1_000_000])), "more than 200000 nodes"),
    ]
}

/// Damage that an engine may mend or not see: it must not panic, nor give images without an error from the other.
const BENIGN: [&str; 2] = ["a constant twice", "a node twice"];

fn refuses(choice: EngineChoice) {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for ((name, bytes), words) in files() {
        let path = folder.path().join("model.onnx");
        fs::write(&path, &bytes).unwrap();
        match served(&path, choice) {
            Ok(()) if BENIGN.contains(&name) => {}
            Err(error) if error.contains(words) && !error.contains("panic") && error.len() < 1000 => {}
            other => wrong.push((name, other)),
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{name}: nothing is written");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    fs::write(folder.path().join("model.onnx"), model()).unwrap();
    served(&folder.path().join("model.onnx"), choice).unwrap();
}

#[test]
fn rten_is_given_no_hostile_file() {
    refuses(EngineChoice::Rten);
}

/// Needs the library, a cached one, or a network with pip; fails with a message that says so where there is none.
#[test]
fn onnx_runtime_is_given_no_hostile_file() {
    refuses(EngineChoice::OnnxRuntime);
}

#[test]
fn every_cut_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (path, whole) = (folder.path().join("model.onnx"), model());
    for length in (0..whole.len()).step_by(97) {
        fs::write(&path, &whole[..length]).unwrap();
        let error = served(&path, EngineChoice::Rten).unwrap_err();
        assert!(error.contains("model.onnx"), "{length}: {error}");
    }
}

#[test]
fn what_is_measured_is_a_model_that_works() {
    let settings = |threads: usize| BenchSettings {
        batches: vec![1, 3],
        threads: vec![threads.try_into().unwrap()],
        windows: Windows {
            warm_up: std::time::Duration::ZERO,
            length: std::time::Duration::ZERO,
            most: 3,
            tolerance: 9.0,
        },
        peak: |threads| Ok(1e9 * threads as f64),
    };
    let engine = EngineSettings { choice: EngineChoice::Rten, ..EngineSettings::default() };
    let good = Model::from_bytes(model()).unwrap();
    let mut told = Vec::new();
    let report = bench(&good, &engine, &settings(1), &|_| {}, &mut |now| told.push((now.batch, now.window))).unwrap();
    assert_eq!(told.first(), Some(&(None, 0)));
    assert_eq!(told.last(), Some(&(Some(3), 3)));
    assert_eq!(report.points.iter().map(|point| point.batch).collect::<Vec<_>>(), [1, 3]);
    for point in &report.points {
        // Three windows of three runs.
        assert_eq!((point.threads, point.latency.runs), (1, 9));
        let rate = 1e3 * point.batch as f64 / point.latency.mean;
        assert!((point.images_per_second / rate - 1.0).abs() < 1e-9);
        assert!(point.share_of_peak.unwrap() > 0.0, "{point:?}");
    }
    assert_eq!((report.peaks.len(), report.engine.threads), (1, 1));

    let nan = f32::NAN.to_le_bytes().repeat(64);
    let broken = Model::from_bytes(model_with(|p| p.constants[3] = tensor("mixer", FLOAT, &[8, 8], &nan))).unwrap();
    let error = bench(&broken, &engine, &settings(1), &|_| {}, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("not finite"), "{error}");
}
