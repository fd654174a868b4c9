//! Artefacts written by the test in the published layout, whole and damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use drifting_models::weights::{import_generator, read};
use drifting_models::{Generator, nn};
use drifting_spec::{GeneratorConfig, ImageShape, QkNorm};
use rmpv::Value;
use serde_json::json;

fn tiny() -> GeneratorConfig {
    let image = ImageShape { channels: 2, height: 8, width: 8 };
    let config = GeneratorConfig::new(image, 4, 8, 2, 2, 3);
    GeneratorConfig { style_tokens: 2, style_codes: 4, registers: 3, ..config }
}

/// Parameters with a random number in each place, zero-initialised ones too.
fn random_parameters(config: &GeneratorConfig) -> BTreeMap<String, Tensor> {
    let generator = Generator::new(config.clone(), nn::Source::Seed(1), &Device::Cpu).unwrap();
    let random = |name: &str, shape: &[usize]| {
        let values = drifting_spec::Stream::new(2, name, 0).normals(shape.iter().product());
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    };
    generator.params().iter().map(|(name, var)| (name.to_owned(), random(name, var.dims()))).collect()
}

fn metadata(config: &GeneratorConfig) -> serde_json::Value {
    json!({
        "format": "flax.msgpack", "kind": "gen", "ema_decay": 0.9995, "step": 12,
        "model_config": {
            "cond_dim": config.hidden, "num_classes": config.classes, "noise_classes": config.style_codes,
            "noise_coords": config.style_tokens, "input_size": config.image.height,
            "in_channels": config.image.channels, "n_cls_tokens": config.registers, "patch_size": config.patch,
            "hidden_size": config.hidden, "depth": config.depth, "num_heads": config.heads, "mlp_ratio": 4.0,
            "use_qknorm": config.qk_norm == QkNorm::Rms, "use_swiglu": true, "use_rope": true, "use_rmsnorm": true,
        },
    })
}

/// The published path of one of our parameters, and the tensor in the published layout.
fn published(name: &str, tensor: &Tensor) -> (String, Tensor) {
    let (stem, leaf) = name.rsplit_once('.').unwrap_or(("", name));
    let dit = |rest: &str| format!("LightningDiT_0/{rest}");
    let module = match stem {
        "class_embed" => return ("Embed_0/embedding".into(), tensor.clone()),
        "" => return (dit("pos_embed"), tensor.unsqueeze(0).unwrap()),
        "register" => return (dit("cls_embed"), tensor.unsqueeze(0).unwrap()),
        "alpha_embed.in" => "TimestepEmbedder_0/TorchLinear_0".to_owned(),
        "alpha_embed.out" => "TimestepEmbedder_0/TorchLinear_1".to_owned(),
        "alpha_embed.norm" => "RMSNorm_0".to_owned(),
        "patch_embed" => dit("TorchLinear_0"),
        "register.proj" => dit("TorchLinear_1"),
        "final.modulation" => dit("FinalLayer_0/TorchLinear_0"),
        "final.out" => dit("FinalLayer_0/TorchLinear_1"),
        "final.norm" => dit("FinalLayer_0/RMSNorm_0"),
        _ => {
            let (block, part) = stem.strip_prefix("blocks.").unwrap().split_once('.').unwrap();
            let part = match part {
                "modulation" => "TorchLinear_0",
                "attn.qkv" => "Attention_0/TorchLinear_0",
                "attn.out" => "Attention_0/TorchLinear_1",
                "attn.q_norm" => "Attention_0/q_norm",
                "attn.k_norm" => "Attention_0/k_norm",
                "norm1" => "RMSNorm_0",
                "norm2" => "RMSNorm_1",
                "mlp.gate" => "SwiGLUFFN_0/TorchLinear_0",
                "mlp.value" => "SwiGLUFFN_0/TorchLinear_1",
                "mlp.out" => "SwiGLUFFN_0/TorchLinear_2",
                other => panic!("{other}"),
            };
            dit(&format!("blocks_{block}/{part}"))
        }
    };
    match (leaf, tensor.rank()) {
        ("weight", 2) => (format!("{module}/Dense_0/kernel"), tensor.t().unwrap()),
        ("bias", _) => (format!("{module}/Dense_0/bias"), tensor.clone()),
        _ => (format!("{module}/weight"), tensor.clone()),
    }
}

fn array(tensor: &Tensor) -> Value {
    let shape = tensor.dims().iter().map(|&size| Value::from(size)).collect();
    let flat = tensor.flatten_all().unwrap();
    let (name, bytes): (_, Vec<u8>) = match tensor.dtype() {
        DType::F32 => ("float32", flat.to_vec1::<f32>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect()),
        // bfloat16 is the upper half of float32.
        DType::BF16 => {
            let wide = flat.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
            ("bfloat16", wide.iter().flat_map(|v| v.to_le_bytes()[2..].to_vec()).collect())
        }
        other => panic!("{other:?}"),
    };
    ext(&Value::Array(vec![Value::Array(shape), Value::from(name), Value::Binary(bytes)]))
}

fn ext(value: &Value) -> Value {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).unwrap();
    Value::Ext(1, bytes)
}

/// As flax writes arrays that are too large for one piece.
fn in_chunks(tensor: &Tensor, len: usize) -> Value {
    let list = |items: Vec<Value>| {
        Value::Map(items.into_iter().enumerate().map(|(i, item)| (Value::from(i.to_string()), item)).collect())
    };
    let flat = tensor.flatten_all().unwrap();
    let count = flat.elem_count();
    let piece = |start: usize| array(&flat.narrow(0, start, len.min(count - start)).unwrap());
    Value::Map(vec![
        (Value::from("__msgpack_chunked_array__"), Value::from(true)),
        (Value::from("shape"), list(tensor.dims().iter().map(|&size| Value::from(size)).collect())),
        (Value::from("chunks"), list((0..count).step_by(len).map(piece).collect())),
    ])
}

/// The leaves of an artefact by path.
type Leaves = BTreeMap<String, Value>;

fn leaves(parameters: &BTreeMap<String, Tensor>) -> Leaves {
    let mut leaves = Leaves::new();
    for (name, tensor) in parameters {
        if name == "style_embed.weight" {
            for j in 0..tensor.dims()[0] {
                leaves.insert(format!("noise_embeds_{j}/embedding"), array(&tensor.get(j).unwrap()));
            }
        } else {
            let (path, tensor) = published(name, tensor);
            leaves.insert(path, array(&tensor));
        }
    }
    leaves
}

fn tree(leaves: &Leaves) -> Vec<u8> {
    fn insert(map: &mut Vec<(Value, Value)>, path: &str, leaf: &Value) {
        let Some((first, rest)) = path.split_once('/') else { return map.push((path.into(), leaf.clone())) };
        let known = map.iter().position(|(key, _)| key.as_str() == Some(first));
        let index = known.unwrap_or_else(|| {
            map.push((first.into(), Value::Map(vec![])));
            map.len() - 1
        });
        let Value::Map(inner) = &mut map[index].1 else { panic!("{path}") };
        insert(inner, rest, leaf);
    }
    let mut map = vec![];
    leaves.iter().for_each(|(path, leaf)| insert(&mut map, path, leaf));
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &Value::Map(map)).unwrap();
    bytes
}

fn write_artefact(folder: &Path, config: &GeneratorConfig, tree: &[u8]) {
    fs::write(folder.join("metadata.json"), metadata(config).to_string()).unwrap();
    fs::write(folder.join("ema_params.msgpack"), tree).unwrap();
}

/// The message that importing `tree` ends with.
#[track_caller]
fn error_of(tree: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    write_artefact(folder.path(), &tiny(), tree);
    let error = import_generator(folder.path()).unwrap_err().to_string();
    assert!(error.contains("ema_params.msgpack: "), "{error}");
    error
}

fn assert_equal(found: &BTreeMap<String, Tensor>, expected: &BTreeMap<String, Tensor>) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, tensor) in expected {
        let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!((found[name].dims(), numbers(&found[name])), (tensor.dims(), numbers(tensor)), "{name}");
    }
}

#[test]
fn a_generator_comes_back_as_it_was() {
    for config in [
        tiny(),
        GeneratorConfig { style_tokens: 0, ..tiny() },
        GeneratorConfig { registers: 0, ..tiny() },
        GeneratorConfig { qk_norm: QkNorm::Off, ..tiny() },
    ] {
        let parameters = random_parameters(&config);
        let folder = tempfile::tempdir().unwrap();
        write_artefact(folder.path(), &config, &tree(&leaves(&parameters)));
        let imported = import_generator(folder.path()).unwrap();
        assert_eq!((&imported.config, imported.step, imported.ema_decay), (&config, 12, Some(0.9995)));
        assert_equal(&imported.tensors, &parameters);
        assert_eq!(imported.elements(), drifting_models::parameter_count(&config).unwrap());

        let path = folder.path().join("generator.safetensors");
        let sha256 = imported.write(&path).unwrap();
        let file = read(&path, &Device::Cpu).unwrap();
        assert_eq!((file.sha256, file.metadata["step"].as_str()), (sha256, "12"));
        assert_eq!(file.metadata["ema_decay"], "0.9995");
        assert_eq!(serde_json::from_str::<GeneratorConfig>(&file.metadata["config"]).unwrap(), config);
        assert_equal(&file.tensors, &parameters);
        Generator::new(config, nn::Source::Tensors(file.tensors), &Device::Cpu).unwrap();
    }
}

#[test]
fn arrays_in_chunks_and_in_bfloat16_are_read() {
    let mut parameters = random_parameters(&tiny());
    let rounded = parameters["class_embed.weight"].to_dtype(DType::BF16).unwrap();
    let mut leaves = leaves(&parameters);
    leaves.insert("Embed_0/embedding".into(), array(&rounded));
    leaves.insert("LightningDiT_0/pos_embed".into(), in_chunks(&parameters["pos_embed"].unsqueeze(0).unwrap(), 7));
    parameters.insert("class_embed.weight".into(), rounded.to_dtype(DType::F32).unwrap());
    let folder = tempfile::tempdir().unwrap();
    write_artefact(folder.path(), &tiny(), &tree(&leaves));
    assert_equal(&import_generator(folder.path()).unwrap().tensors, &parameters);
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let whole = leaves(&random_parameters(&tiny()));
    let path = "LightningDiT_0/blocks_1/SwiGLUFFN_0/TorchLinear_2/Dense_0/kernel";
    let with = |value: Value| tree(&Leaves::from_iter(whole.clone().into_iter().chain([(path.to_owned(), value)])));
    let raw = |name: &str, bytes: usize| {
        let shape = Value::Array(vec![Value::from(32), Value::from(8)]);
        ext(&Value::Array(vec![shape, Value::from(name), Value::Binary(vec![0xff; bytes])]))
    };
    let huge = Value::Array(vec![Value::from(u64::MAX), Value::from(u64::MAX)]);
    let huge = ext(&Value::Array(vec![huge, Value::from("float32"), Value::Binary(vec![0; 4])]));
    for (value, problem) in [
        (array(&Tensor::zeros((8, 32), DType::F32, &Device::Cpu).unwrap()), "has shape [8, 32], expected [32, 8]"),
        (raw("float32", 1024), "holds NaN or infinite numbers"),
        (raw("float32", 1023), "1023 bytes for shape [32, 8]"),
        (raw("float64", 2048), "type float64"),
        (huge, "4 bytes for shape"),
        (Value::Ext(3, vec![0]), "neither an array nor a map"),
        (Value::Ext(1, vec![]), "no msgpack at byte 0"),
        (ext(&Value::Array(vec![])), "not [shape, type, bytes]"),
        (Value::Nil, "neither an array nor a map"),
        (Value::Map(vec![("__msgpack_chunked_array__".into(), true.into())]), "without shape"),
    ] {
        let error = error_of(&with(value));
        assert!(error.contains(path) && error.contains(problem), "{error}");
    }
    let mut less = whole.clone();
    less.remove(path);
    assert!(error_of(&tree(&less)).contains(&format!("tensor {path} is missing (expected shape [32, 8])")));
    let mut more = whole.clone();
    more.insert("LightningDiT_0/blocks_2/RMSNorm_0/weight".into(), whole["RMSNorm_0/weight"].clone());
    assert!(error_of(&tree(&more)).contains("tensor LightningDiT_0/blocks_2/RMSNorm_0/weight belongs to no parameter"));
}

#[test]
fn damaged_files_are_errors_wherever_they_end() {
    let whole = tree(&leaves(&random_parameters(&tiny())));
    for len in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
        error_of(&whole[..len]);
    }
    assert!(error_of(&[whole.clone(), vec![0]].concat()).contains("1 bytes follow the end"));
    assert!(error_of(&[0xc0]).contains("holds no tree"));
    // Maps in maps without end, and more values than bytes of memory should be spent on.
    assert!(error_of(&[0x81, 0xa1, b'a'].repeat(100_000)).contains("no msgpack"));
    let nothing = [vec![0xdd, 0x7f, 0xff, 0xff, 0xff], vec![0xc0; 4 << 20]].concat();
    assert!(error_of(&nothing).contains("more values than a tree of parameters can have"));
}

#[test]
fn flipped_bytes_never_panic() {
    let whole = tree(&leaves(&random_parameters(&tiny())));
    let folder = tempfile::tempdir().unwrap();
    for index in (0..whole.len()).step_by(61) {
        let mut damaged = whole.clone();
        damaged[index] ^= 0xff;
        write_artefact(folder.path(), &tiny(), &damaged);
        if let Ok(imported) = import_generator(folder.path()) {
            assert_eq!(imported.config, tiny());
        }
    }
}

#[test]
fn folders_that_lack_a_file_name_it() {
    let folder = tempfile::tempdir().unwrap();
    assert!(import_generator(folder.path()).unwrap_err().to_string().contains("metadata.json"));
    fs::write(folder.path().join("metadata.json"), metadata(&tiny()).to_string()).unwrap();
    assert!(import_generator(folder.path()).unwrap_err().to_string().contains("ema_params.msgpack"));
    fs::write(folder.path().join("metadata.json"), "{}").unwrap();
    assert!(import_generator(folder.path()).unwrap_err().to_string().contains("metadata.json: missing field"));
}
