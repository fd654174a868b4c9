//! Files that somebody damaged, or made to do harm, given to the built command: each is an error that names the file and what
//! is wrong; nothing panics, and nothing half written is left.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{Workspace, files};
use serde_json::{Value, json};

/// A safetensors file in parts: its header, and the bytes of its tensors.
#[derive(Clone)]
struct Weights {
    header: Value,
    data: Vec<u8>,
}

impl Weights {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        Self { header: serde_json::from_slice(&bytes[8..end]).unwrap(), data: bytes[end..].to_vec() }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut header = serde_json::to_vec(&self.header).unwrap();
        header.resize(header.len().next_multiple_of(8), b' ');
        [&(header.len() as u64).to_le_bytes()[..], &header, &self.data].concat()
    }

    /// Changes the generator's settings, which lie as JSON in JSON in the header.
    fn configure(&mut self, key: &str, value: &Value) {
        let entry = &mut self.header["__metadata__"]["drifting"];
        let mut entries: BTreeMap<String, String> = serde_json::from_str(entry.as_str().unwrap()).unwrap();
        let mut config: Value = serde_json::from_str(&entries["config"]).unwrap();
        config[key] = value.clone();
        entries.insert("config".to_owned(), config.to_string());
        *entry = serde_json::to_string(&entries).unwrap().into();
    }
}

const TENSOR: &str = "patch_embed.weight";

/// Weight files by what is wrong with them, and words of the error.
fn weight_files(good: &Weights) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let with = |change: &dyn Fn(&mut Weights)| {
        let mut weights = good.clone();
        change(&mut weights);
        weights.bytes()
    };
    let entry = |key: &'static str, value: Value| with(&move |w: &mut Weights| w.header[TENSOR][key] = value.clone());
    let setting = |key: &'static str, value: Value| with(&move |w: &mut Weights| w.configure(key, &value));
    let whole = good.bytes();
    let start = good.header[TENSOR]["data_offsets"][0].as_u64().unwrap() as usize;
    vec![
        ("empty", Vec::new(), ""),
        ("cut in its header", whole[..40].to_vec(), ""),
        ("cut in its numbers", whole[..whole.len() - 1].to_vec(), ""),
        ("a header of 2^60 bytes", [&(1u64 << 60).to_le_bytes()[..], b"{}"].concat(), ""),
        ("a header that is no JSON", [&8u64.to_le_bytes()[..], b"{\"a\": [}"].concat(), ""),
        ("a header of brackets", [&90_000u64.to_le_bytes()[..], &[b'['; 90_000]].concat(), ""),
        (
            "no header of ours",
            with(&|w| drop(w.header.as_object_mut().unwrap().remove("__metadata__"))),
            "no header that describes",
        ),
        (
            "an encoder",
            with(&|w| w.header["__metadata__"]["drifting"] = json!("{\"kind\":\"mae\"}")),
            "masked autoencoder",
        ),
        ("10 GB of one tensor", entry("shape", json!([50_000, 50_000])), ""),
        ("10 GB further on", entry("data_offsets", json!([start, start as u64 + 10_000_000_000])), ""),
        ("offsets that run backwards", entry("data_offsets", json!([start + 64, start])), ""),
        ("more numbers than 64 bits count", entry("shape", json!([u64::MAX, u64::MAX])), ""),
        ("integers", entry("dtype", json!("I32")), "patch_embed.weight holds I32 numbers"),
        ("a type that nobody knows", entry("dtype", json!("F31")), ""),
        ("NaN", with(&|w| w.data[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes())), "holds NaN or infinite"),
        (
            "infinity",
            with(&|w| w.data[start..start + 4].copy_from_slice(&f32::INFINITY.to_le_bytes())),
            "holds NaN or infinite",
        ),
        (
            "another name",
            with(&|w| {
                let tensors = w.header.as_object_mut().unwrap();
                let tensor = tensors.remove(TENSOR).unwrap();
                tensors.insert("../../patch".to_owned(), tensor);
            }),
            "tensor patch_embed.weight is missing",
        ),
        ("an unknown setting", setting("steps", json!(9)), "steps"),
        ("a negative depth", setting("depth", json!(-1)), "depth"),
        ("2^40 blocks", setting("depth", json!(1u64 << 40)), "generator.depth"),
        ("2^20 blocks", setting("depth", json!(1 << 20)), "tensor blocks.2."),
        ("a width beyond all", setting("hidden", json!(u64::MAX)), "generator.hidden"),
        (
            "an image of 10 GB",
            setting("image", json!({"channels": 4, "height": 1 << 16, "width": 1 << 16})),
            "generator.image",
        ),
        ("a million registers", setting("registers", json!(1 << 20)), "tokens"),
        ("2^40 classes", setting("classes", json!(1u64 << 40)), "generator.classes"),
        ("no heads", setting("heads", json!(0)), "generator.heads"),
    ]
}

/// A folder of one artefact's files.
fn artefact(workspace: &Workspace, metadata: &[u8], tree: &[u8]) {
    let folder = workspace.path("artefact");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("metadata.json"), metadata).unwrap();
    fs::write(folder.join("ema_params.msgpack"), tree).unwrap();
}

/// Where a byte sequence begins.
fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).unwrap()
}

/// Trees of parameters by what is wrong with them, and words of the error.
fn trees(good: &[u8]) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let dtype = find(good, b"float32");
    let mut integers = good.to_vec();
    integers[dtype..dtype + 7].copy_from_slice(b"uint32\0");
    let mut renamed = good.to_vec();
    renamed[dtype..dtype + 7].copy_from_slice(b"float64");
    // The numbers of an array follow its type, a marker and a length of one, two or four bytes.
    let mut nan = good.to_vec();
    let numbers = dtype + 7 + 1 + (1 << (good[dtype + 7] - 0xc4));
    nan[numbers..numbers + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let many = [0xdd, 0xff, 0xff, 0xff, 0xff];
    vec![
        ("empty", Vec::new(), "no msgpack"),
        ("cut", good[..good.len() / 2].to_vec(), "no msgpack"),
        ("bytes behind its end", [good, b"\xc0"].concat(), "1 bytes follow"),
        ("another kind", b"\x89PNG\r\n\x1a\n".to_vec(), ""),
        ("a type of integers", integers, "type"),
        ("a type of eight bytes", renamed, "type float64"),
        ("NaN", nan, "holds NaN or infinite"),
        ("four billion entries", [&[0x81, 0xa1, b'a'], &many[..]].concat(), "no msgpack"),
        ("a map of four billion", [0xdf, 0xff, 0xff, 0xff, 0xff].to_vec(), "no msgpack"),
        ("maps in maps", [0x81, 0xa1, b'a'].repeat(200_000), "no msgpack"),
        ("a million empty maps", [&[0xdd, 0, 0x20, 0, 0][..], &[0x80; 1 << 21]].concat(), "more values"),
        (
            "an array of ten gigabytes",
            {
                let shape = [0x92, 0xcd, 0xc3, 0x50, 0xcd, 0xc3, 0x50];
                let array = [&[0x93][..], &shape, b"\xa7float32", b"\xc4\x04\0\0\0\0"].concat();
                [&b"\x81\xa1a\xc7"[..], &[array.len() as u8, 1], &array[..]].concat()
            },
            "for shape [50000, 50000]",
        ),
    ]
}

/// The folder holds what it held.
fn unchanged(workspace: &Workspace, name: &str, before: &[String]) {
    let names = |path: &Path| {
        let mut names: Vec<String> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&workspace.path(".")), before, "{name}");
}

fn golden() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/generator")
}

#[test]
fn weight_files_that_are_wrong_are_named() {
    let workspace = Workspace::new();
    workspace.succeed(&["import", golden().to_str().unwrap(), "--out", "good.safetensors"]);
    let good = Weights::read(&workspace.path("good.safetensors"));
    fs::write(workspace.path("rewritten.safetensors"), good.bytes()).unwrap();
    workspace.succeed(&["export", "rewritten.safetensors", "--out", "model.onnx", "--engine", "rten"]);
    for name in ["rewritten.safetensors", "model.onnx", "verify.json", "MODEL_CARD.md"] {
        fs::remove_file(workspace.path(name)).unwrap();
    }
    for (name, bytes, words) in weight_files(&good) {
        fs::write(workspace.path("bad.safetensors"), bytes).unwrap();
        for command in ["export", "sample"] {
            let error = workspace.fail(&[command, "bad.safetensors", "--out", "out"]);
            assert!(error.contains("bad.safetensors: "), "{name}: {error}");
            assert!(error.contains(words), "{name}: {error}");
            assert!(error.len() < 2000, "{name}: {} bytes of error", error.len());
        }
        unchanged(&workspace, name, &["bad.safetensors".to_owned(), "good.safetensors".to_owned()]);
    }
}

#[test]
fn artefacts_that_are_wrong_are_named() {
    let workspace = Workspace::new();
    let (metadata, tree) =
        (fs::read(golden().join("metadata.json")).unwrap(), fs::read(golden().join("ema_params.msgpack")).unwrap());
    let refused = |name: &str, file: &str, words: &str| {
        let error = workspace.fail(&["import", "artefact", "--out", "out.safetensors"]);
        assert!(error.contains(file) && error.contains(words) && error.len() < 2000, "{name}: {error}");
        unchanged(&workspace, name, &["artefact".to_owned()]);
    };
    for (name, bytes, words) in trees(&tree) {
        artefact(&workspace, &metadata, &bytes);
        refused(name, "ema_params.msgpack", words);
    }
    let change = |key: &str, value: Value| {
        let mut changed: Value = serde_json::from_slice(&metadata).unwrap();
        changed["model_config"][key] = value;
        changed.to_string().into_bytes()
    };
    for (name, bytes, words) in [
        ("no JSON", metadata[..30].to_vec(), ""),
        ("brackets", vec![b'['; 100_000], ""),
        ("another network", change("hidden_size", json!(96)), "cond_dim"),
        ("2^60 classes", change("num_classes", json!(1u64 << 60)), "classes"),
        ("a vast image", change("input_size", json!(1 << 20)), "image"),
        ("an MLP beyond all", change("mlp_ratio", json!(1e300)), "mlp_ratio"),
        ("a negative patch", change("patch_size", json!(-2)), "patch"),
        ("an unknown option", change("use_moe", json!(true)), "use_moe"),
    ] {
        artefact(&workspace, &bytes, &tree);
        refused(name, "metadata.json", words);
    }
    artefact(&workspace, &metadata, &tree);
    workspace.succeed(&["import", "artefact", "--out", "out.safetensors"]);
}

/// What has no end or no beginning must not be waited for.
#[cfg(unix)]
#[test]
fn devices_folders_and_pipes_are_no_files() {
    let workspace = Workspace::new();
    fs::create_dir(workspace.path("folder.onnx")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(workspace.path("pipe.onnx")).status();
    let pipe = made.is_ok_and(|status| status.success()).then_some("pipe.onnx");
    for path in ["/dev/zero", "folder.onnx", "absent.onnx"].into_iter().chain(pipe) {
        for command in [&["serve", path, "--port", "0"][..], &["bench", path]] {
            let error = workspace.fail(command);
            assert!(error.contains(path), "{command:?}: {error}");
        }
    }
    for path in ["/dev/zero", "absent"].into_iter().chain(pipe) {
        for command in [["export", path, "--out", "out.onnx"], ["sample", path, "--out", "out.png"]] {
            let error = workspace.fail(&command);
            assert!(error.contains(path), "{command:?}: {error}");
        }
    }
    assert!(!files(&workspace.path("folder.onnx")).contains_key("out.onnx") && !workspace.path("out.onnx").exists());
}
