//! A tiny ONNX file, written field by field (onnx.proto3), so that these tests need neither Python nor the exporter.

use std::path::{Path, PathBuf};

use drifting_spec::{AlphaRange, GeneratorConfig, ImageShape, MANIFEST_KEY, Manifest, Provenance, Stream};

pub(crate) const FLOAT: u64 = 1;
pub(crate) const INT64: u64 = 7;

/// Ten classes of 8 x 8 grey images.
pub(crate) fn manifest() -> Manifest {
    let image = ImageShape { channels: 1, height: 8, width: 8 };
    let generator = GeneratorConfig { style_tokens: 3, ..GeneratorConfig::new(image, 4, 8, 1, 1, 10) };
    let alpha = AlphaRange { min: 1.0, max: 4.0, default: 1.5 };
    let names = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot"];
    let provenance = Provenance { step: 7, tool_version: "test".to_owned(), ..Provenance::default() };
    let classes = names.map(str::to_owned).into();
    Manifest { classes, provenance, ..Manifest::new("fixture".to_owned(), generator, alpha) }
}

/// The messages that a model is made of, for tests that damage one of them.
pub(crate) struct Parts {
    pub(crate) nodes: Vec<Vec<u8>>,
    pub(crate) constants: Vec<Vec<u8>>,
    pub(crate) inputs: Vec<Vec<u8>>,
    pub(crate) output: Vec<u8>,
    pub(crate) manifest: String,
}

/// image = tanh(alpha * (noise mixed by a matrix) / 4 + table[class] + mean(style) / 100).
pub(crate) fn model() -> Vec<u8> {
    model_with(|_| {})
}

/// The model after a change.
pub(crate) fn model_with(change: impl FnOnce(&mut Parts)) -> Vec<u8> {
    let mut parts = parts();
    change(&mut parts);
    let Parts { nodes, constants, inputs, output, manifest } = parts;
    let graph = [many(1, &nodes), field(2, b"fixture"), many(5, &constants), many(11, &inputs), field(12, &output)];
    let opset = [field(1, b""), int(2, 17)].concat();
    let entry = [field(1, MANIFEST_KEY.as_bytes()), field(2, manifest.as_bytes())].concat();
    [int(1, 8), field(7, &graph.concat()), field(8, &opset), field(14, &entry)].concat()
}

fn parts() -> Parts {
    let manifest = manifest();
    let (image, classes) = (manifest.generator.image, manifest.generator.classes as u64);
    let (height, width) = (image.height as u64, image.width as u64);
    let random = |name: &str, count: u64, scale: f32| {
        let values = Stream::new(1, name, 0).normals(count as usize);
        values.into_iter().map(|value| value * scale).collect::<Vec<f32>>()
    };
    let nodes = [
        node("Unsqueeze", &["alpha", "axes"], "alpha4", &[]),
        node("MatMul", &["noise", "mixer"], "mixed", &[]),
        node("Mul", &["mixed", "alpha4"], "guided", &[]),
        node("Gather", &["table", "class"], "content", &[]),
        node("Cast", &["style"], "style_f32", &[field(1, b"to"), int(3, FLOAT), int(20, 2)]),
        node("ReduceMean", &["style_f32"], "style_mean", &[field(1, b"axes"), int(8, 1), int(20, 7)]),
        node("Unsqueeze", &["style_mean", "last_axes"], "style4", &[]),
        node("Mul", &["style4", "hundredth"], "style_shift", &[]),
        node("Add", &["guided", "content"], "sum", &[]),
        node("Add", &["sum", "style_shift"], "shifted", &[]),
        node("Tanh", &["shifted"], "image", &[]),
    ];
    let long = |values: &[i64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    let float = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    let constants = [
        tensor("axes", INT64, &[3], &long(&[1, 2, 3])),
        tensor("last_axes", INT64, &[2], &long(&[2, 3])),
        tensor("hundredth", FLOAT, &[], &float(&[0.01])),
        tensor("mixer", FLOAT, &[width, width], &float(&random("mixer", width * width, 0.1))),
        tensor("table", FLOAT, &[classes, 1, height, width], &float(&random("table", classes * height * width, 0.5))),
    ];
    let pixels = [1, height, width];
    let inputs = [
        value("noise", FLOAT, &pixels),
        value("style", INT64, &[manifest.generator.style_tokens as u64]),
        value("class", INT64, &[]),
        value("alpha", FLOAT, &[]),
    ];
    let output = value("image", FLOAT, &pixels);
    let manifest = manifest.to_json().unwrap();
    Parts { nodes: nodes.into(), constants: constants.into(), inputs: inputs.into(), output, manifest }
}

/// Writes the model into `folder`.
pub(crate) fn model_file(folder: &Path) -> PathBuf {
    let path = folder.join("model.onnx");
    std::fs::write(&path, model()).unwrap();
    path
}

pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

pub(crate) fn int(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

pub(crate) fn field(number: u64, contents: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(contents.len() as u64), contents.to_vec()].concat()
}

pub(crate) fn many(number: u64, messages: &[Vec<u8>]) -> Vec<u8> {
    messages.iter().flat_map(|message| field(number, message)).collect()
}

/// A NodeProto with at most one attribute, given by its fields.
pub(crate) fn node(operator: &str, inputs: &[&str], output: &str, attribute: &[Vec<u8>]) -> Vec<u8> {
    let inputs: Vec<_> = inputs.iter().map(|name| name.as_bytes().to_vec()).collect();
    let attribute = if attribute.is_empty() { Vec::new() } else { field(5, &attribute.concat()) };
    [
        many(1, &inputs),
        field(2, output.as_bytes()),
        field(3, output.as_bytes()),
        field(4, operator.as_bytes()),
        attribute,
    ]
    .concat()
}

pub(crate) fn tensor(name: &str, kind: u64, dimensions: &[u64], raw: &[u8]) -> Vec<u8> {
    let dimensions: Vec<u8> = dimensions.iter().flat_map(|&size| int(1, size)).collect();
    [dimensions, int(2, kind), field(8, name.as_bytes()), field(9, raw)].concat()
}

/// A ValueInfoProto whose first dimension is the symbolic batch.
pub(crate) fn value(name: &str, kind: u64, behind_batch: &[u64]) -> Vec<u8> {
    let sizes = behind_batch.iter().map(|&size| int(1, size));
    let dimensions: Vec<_> = std::iter::once(field(2, b"batch")).chain(sizes).collect();
    let tensor = [int(1, kind), field(2, &many(1, &dimensions))].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}
