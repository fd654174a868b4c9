//! A published masked autoencoder, whole and damaged: the golden tree's names and description with weights by rule.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test ends there")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use drifting_models::Mae;
use drifting_models::weights::{
    ImportedNetwork, MaeFile, by_rule, import, import_generator, import_mae, mae_from_tree,
};
use rmpv::Value;
use serde_json::json;

/// The folder that DRIFTING_GOLDEN names, else the project's own copy of its small files.
fn golden(name: &str) -> PathBuf {
    let own = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    std::env::var_os("DRIFTING_GOLDEN").map_or_else(own, PathBuf::from).join(name)
}

/// The golden tree by path.
fn tree() -> BTreeMap<String, Tensor> {
    let shapes = fs::read(golden("mae").join("tensors.json")).unwrap();
    let shapes: BTreeMap<String, Vec<usize>> = serde_json::from_slice(&shapes).unwrap();
    shapes.iter().map(|(name, shape)| (name.clone(), by_rule(name, shape).unwrap())).collect()
}

/// Maps of maps around arrays, as flax writes them.
fn nested(tree: &BTreeMap<String, Tensor>, prefix: &str) -> Value {
    let mut entries: Vec<(Value, Value)> = Vec::new();
    for (path, tensor) in tree {
        let Some(rest) = path.strip_prefix(prefix) else { continue };
        let (key, leaf) = rest.split_once('/').map_or((rest, true), |(key, _)| (key, false));
        if entries.iter().any(|(known, _)| known.as_str() == Some(key)) {
            continue;
        }
        let value = if leaf { array(tensor) } else { nested(tree, &format!("{prefix}{key}/")) };
        entries.push((key.into(), value));
    }
    Value::Map(entries)
}

fn array(tensor: &Tensor) -> Value {
    let shape = tensor.dims().iter().map(|&size| Value::from(size)).collect();
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let parts = Value::Array(vec![Value::Array(shape), "float32".into(), Value::Binary(bytes)]);
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &parts).unwrap();
    Value::Ext(1, bytes)
}

/// A published folder with `tree` and the golden description, `change`d.
fn publish(folder: &Path, tree: &BTreeMap<String, Tensor>, change: impl FnOnce(&mut serde_json::Value)) {
    let text = fs::read(golden("mae").join("metadata.json")).unwrap();
    let mut metadata: serde_json::Value = serde_json::from_slice(&text).unwrap();
    change(&mut metadata);
    fs::write(folder.join("metadata.json"), metadata.to_string()).unwrap();
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &nested(tree, "")).unwrap();
    fs::write(folder.join("ema_params.msgpack"), bytes).unwrap();
}

#[test]
fn a_masked_autoencoder_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    publish(folder.path(), &tree(), |_| {});
    let ImportedNetwork::Mae(imported) = import(folder.path()).unwrap() else { panic!("another kind") };
    assert_eq!((imported.step, imported.ema_decay, imported.tensors.len()), (7, Some(0.9995), 95));
    let expected = mae_from_tree(&imported.config, tree()).unwrap();
    assert!(imported.tensors.keys().eq(expected.keys()));
    for (name, tensor) in &expected {
        let difference = (tensor - &imported.tensors[name]).unwrap().abs().unwrap().sum_all().unwrap();
        assert_eq!(difference.to_scalar::<f32>().unwrap(), 0.0, "{name}");
    }
    let path = folder.path().join("mae.safetensors");
    imported.write(&path).unwrap();
    let file = MaeFile::read(&path, &Device::Cpu).unwrap();
    assert_eq!((&file.config, file.metadata["ema_decay"].as_str()), (&imported.config, "0.9995"));
    let mae: Mae = file.frozen(&Device::Cpu).unwrap();
    assert_eq!(mae.config().channels(3), 256);
}

#[test]
fn trees_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = |tree: &BTreeMap<String, Tensor>| {
        publish(folder.path(), tree, |_| {});
        import_mae(folder.path()).unwrap_err().to_string()
    };
    let mut less = tree();
    let fc = less.remove("fc/kernel").unwrap();
    assert!(error(&less).contains("tensor fc/kernel is missing (expected shape [256, 10])"));
    less.insert("fc/kernel".into(), fc.t().unwrap());
    assert!(error(&less).contains("tensor fc/kernel has shape [10, 256]"));
    let mut more = tree();
    more.insert("decoder/up00/kernel".into(), fc);
    assert!(error(&more).contains("tensor decoder/up00/kernel belongs to no parameter"));
}

#[test]
fn other_descriptions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    publish(folder.path(), &tree(), |metadata| metadata["model_config"]["layers"] = json!([1, 2, 3, 1]));
    let error = import_mae(folder.path()).unwrap_err().to_string();
    assert!(error.contains("encoder/stages_2/layers_2/conv1/kernel is missing"), "{error}");
    publish(folder.path(), &tree(), |metadata| metadata["model_config"]["layers"] = json!([1, 2]));
    let error = import_mae(folder.path()).unwrap_err().to_string();
    assert!(error.contains("metadata.json: model_config: "), "{error}");
    publish(folder.path(), &tree(), |_| {});
    let error = import_generator(folder.path()).unwrap_err().to_string();
    assert!(error.contains("kind is mae; a generator's is gen"), "{error}");
}
