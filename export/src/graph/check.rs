//! The checker: what a finished model must satisfy, whoever wrote it.

use std::collections::{BTreeMap, BTreeSet};

use super::{GraphError, Opset, Result};
use crate::proto::{self, DataType, DimValue, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

/// The operators that every engine runs correctly, with the element types of their inputs.
///
/// `T` is the type of the first input and of all outputs (but for Cast and MatMulInteger), `i` is a 64-bit integer, `f` a
/// 32-bit float, `u` and `s` a byte without and with a sign, `-` an input that must be left out; what follows `|` may be
/// there.
const OPERATORS: [(&str, &str); 30] = [
    ("Abs", "T"),
    ("Add", "TT"),
    ("Cast", "T"),
    ("Clip", "TT|T"),
    ("Concat", "TT"),
    ("Conv", "TT|T"),
    ("Cos", "T"),
    ("Div", "TT"),
    ("Floor", "T"),
    ("Gather", "Ti"),
    ("LayerNormalization", "TTT"),
    ("MatMul", "TT"),
    ("MatMulInteger", "usu"),
    ("Mul", "TT"),
    ("Pow", "TT"),
    ("ReduceMax", "T"),
    ("ReduceMean", "T"),
    ("ReduceSum", "Ti"),
    ("Relu", "T"),
    ("Reshape", "Ti"),
    ("Resize", "T-f"),
    ("Sigmoid", "T"),
    ("Sin", "T"),
    ("Slice", "Tiii"),
    ("Softmax", "T"),
    ("Split", "Ti"),
    ("Sqrt", "T"),
    ("Sub", "TT"),
    ("Tanh", "T"),
    ("Transpose", "T"),
];

/// The operators of the newer operator set, and those that have other inputs there.
const NEWER: [(&str, &str); 5] = [
    ("Attention", "TTT"),
    ("RMSNormalization", "TT"),
    ("ReduceMax", "Ti"),
    ("ReduceMean", "Ti"),
    ("RotaryEmbedding", "TTTi"),
];

/// Checks a model: version and operator set, names used once, every input of a node defined before it, operators and
/// element types, initializers as long as their shape says, nothing unused, inputs and outputs typed.
///
/// # Errors
/// Names the first thing that is wrong.
pub fn check(model: &[u8]) -> Result<()> {
    let found = proto::read(&mut std::io::Cursor::new(model));
    let found = found.map_err(|error| GraphError::new("model", error.to_string()))?;
    let lengths: Vec<_> = found.places.iter().map(|place| place.length).collect();
    check_model(&found.model, &lengths)
}

/// Checks a model whose initializers have so many bytes, wherever they are.
pub(crate) fn check_model(model: &ModelProto, lengths: &[u64]) -> Result<()> {
    let (graph, opset) = header(model)?;
    let mut types = BTreeMap::new();
    for input in &graph.input {
        define(&mut types, &input.name, value_type(input)?)?;
    }
    let batches: BTreeSet<_> = graph.input.iter().chain(&graph.output).map(batch).collect();
    if batches.len() > 1 {
        return Err(GraphError::new(&graph.name, "its inputs and outputs have different batches"));
    }
    for (i, tensor) in graph.initializer.iter().enumerate() {
        define(&mut types, &tensor.name, tensor_type(tensor, lengths.get(i).copied().unwrap_or(0))?)?;
    }
    let mut nodes = BTreeSet::new();
    for node in &graph.node {
        if !nodes.insert(&node.name) {
            return Err(GraphError::new(&node.name, "two nodes bear this name"));
        }
        let result = node_type(node, opset, &types)?;
        for output in &node.output {
            define(&mut types, output, result)?;
        }
    }
    declared(graph, &types)?;
    used(graph, &types)
}

fn header(model: &ModelProto) -> Result<(&GraphProto, Opset)> {
    let opsets: Vec<_> = model.opset_import.iter().map(|set| (set.domain(), set.version)).collect();
    let Some(opset) = Opset::ALL.into_iter().find(|opset| opsets == [("", opset.version())]) else {
        let known = Opset::ALL.map(Opset::version);
        let problem = format!("operator sets {opsets:?}, expected one of {known:?} of ONNX itself");
        return Err(GraphError::new("model", problem));
    };
    if model.ir_version != opset.ir_version() {
        let problem = format!("IR version {}, expected {}", model.ir_version, opset.ir_version());
        return Err(GraphError::new("model", problem));
    }
    let graph = model.graph.as_ref().ok_or_else(|| GraphError::new("model", "holds no graph"))?;
    if graph.output.is_empty() { Err(GraphError::new(&graph.name, "has no output")) } else { Ok((graph, opset)) }
}

fn define<'a>(types: &mut BTreeMap<&'a str, DataType>, name: &'a str, dtype: DataType) -> Result<()> {
    match types.insert(name, dtype) {
        None if !name.is_empty() => Ok(()),
        None => Err(GraphError::new("a value", "has no name")),
        Some(_) => Err(GraphError::new(name, "two values bear this name")),
    }
}

/// The type of an input or output; its first dimension must be the batch.
fn value_type(info: &ValueInfoProto) -> Result<DataType> {
    let (dtype, dims) = proto::tensor_type(info).ok_or_else(|| GraphError::new(&info.name, "has no tensor type"))?;
    match dims.as_slice() {
        [DimValue::DimParam(_) | DimValue::DimValue(1..), sizes @ ..]
            if sizes.iter().all(|size| matches!(size, DimValue::DimValue(1..))) =>
        {
            Ok(dtype)
        }
        _ => Err(GraphError::new(&info.name, "its shape must be a batch, symbolic or not, followed by fixed sizes")),
    }
}

/// The batch of an input or output, as text; empty if it has none.
fn batch(info: &ValueInfoProto) -> String {
    match proto::tensor_type(info).and_then(|(_, dims)| dims.first().copied()) {
        Some(DimValue::DimParam(name)) => name.clone(),
        Some(DimValue::DimValue(size)) => size.to_string(),
        None => String::new(),
    }
}

fn tensor_type(tensor: &TensorProto, length: u64) -> Result<DataType> {
    let dtype = DataType::try_from(tensor.data_type);
    let size = match dtype {
        Ok(DataType::Float) => 4,
        Ok(DataType::Int64) => 8,
        Ok(DataType::Float16 | DataType::Bfloat16) => 2,
        Ok(DataType::Int8 | DataType::Uint8) => 1,
        _ => return Err(GraphError::new(&tensor.name, format!("element type {} is not used here", tensor.data_type))),
    };
    let elements = tensor.dims.iter().try_fold(1u64, |all, &dim| all.checked_mul(u64::try_from(dim).ok()?));
    if elements.and_then(|elements| elements.checked_mul(size)) != Some(length) {
        return Err(GraphError::new(&tensor.name, format!("{length} bytes of data for shape {:?}", tensor.dims)));
    }
    Ok(dtype.unwrap_or(DataType::Undefined))
}

fn node_type(node: &NodeProto, opset: Opset, types: &BTreeMap<&str, DataType>) -> Result<DataType> {
    let error = |problem: String| GraphError::new(&node.name, problem);
    let newer = NEWER.iter().filter(|_| opset == Opset::Newer);
    let known = newer.chain(&OPERATORS).find(|(op, _)| *op == node.op_type && node.domain.is_empty());
    let Some((_, inputs)) = known else {
        return Err(error(format!("operator {}{} is not one that all engines run", node.domain, node.op_type)));
    };
    let (needed, optional) = inputs.split_once('|').unwrap_or((inputs, ""));
    let letters: Vec<char> = needed.chars().chain(optional.chars()).collect();
    let counts = needed.len()..=letters.len();
    if !counts.contains(&node.input.len()) && node.op_type != "Concat" {
        return Err(error(format!("has {} inputs, expected {}", node.input.len(), needed.len())));
    }
    let mut first = if node.op_type == "MatMulInteger" { Some(DataType::Int32) } else { None };
    for (i, input) in node.input.iter().enumerate() {
        let letter = letters.get(i).copied().unwrap_or('T');
        if letter == '-' {
            if input.is_empty() {
                continue;
            }
            return Err(error(format!("has input {i}, which must be left out")));
        }
        let found = types.get(input.as_str()).copied();
        let found = found.ok_or_else(|| error(format!("its input {input:?} is defined by nothing before it")))?;
        let expected = match letter {
            'i' => DataType::Int64,
            'f' => DataType::Float,
            'u' => DataType::Uint8,
            's' => DataType::Int8,
            _ => *first.get_or_insert(found),
        };
        if found != expected {
            return Err(error(format!("input {i} is {found:?}, expected {expected:?}")));
        }
    }
    let Some(first) = first else { return Err(error("has no input".into())) };
    if node.output.is_empty() {
        return Err(error("has no output".into()));
    }
    if node.op_type == "Cast" { cast_type(node) } else { Ok(first) }
}

/// The type that a Cast makes.
fn cast_type(node: &NodeProto) -> Result<DataType> {
    let to = node.attribute.iter().find(|attribute| attribute.name == "to").and_then(|attribute| attribute.i);
    let to = to.and_then(|to| DataType::try_from(i32::try_from(to).ok()?).ok());
    to.ok_or_else(|| GraphError::new(&node.name, "does not say what type it makes"))
}

/// What the graph says about its values must agree with what the nodes make.
fn declared(graph: &GraphProto, types: &BTreeMap<&str, DataType>) -> Result<()> {
    for output in &graph.output {
        value_type(output)?;
    }
    for info in graph.output.iter().chain(&graph.value_info) {
        let declared = proto::tensor_type(info).map(|(dtype, _)| dtype);
        if declared.is_none() || declared != types.get(info.name.as_str()).copied() {
            return Err(GraphError::new(&info.name, "is declared with a type that no node gives it"));
        }
    }
    Ok(())
}

fn used(graph: &GraphProto, types: &BTreeMap<&str, DataType>) -> Result<()> {
    let inputs = graph.node.iter().flat_map(|node| &node.input).map(String::as_str).filter(|name| !name.is_empty());
    let used: BTreeSet<_> = inputs.chain(graph.output.iter().map(|output| output.name.as_str())).collect();
    match types.keys().find(|name| !used.contains(*name)) {
        Some(unused) => Err(GraphError::new(*unused, "is used by nothing")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Builder, DType, Data, Layout, Shape};
    use super::*;

    /// One linear layer and a sum over a gathered row.
    fn model() -> proto::Skeleton {
        let weight = Data::floats(&[2, 3], &[1.0; 6]).unwrap();
        let builder = Builder::new("test", "batch", BTreeMap::from([("layer.weight".to_owned(), weight)]));
        let g = builder.root().part("layer");
        let x = builder.input("x", DType::F32, Shape::batched(&[3]));
        let row = builder.input("row", DType::I64, Shape::batched(&[]));
        let weight = g.parameter("weight", &[2, 3], Layout::Transposed).unwrap();
        let table = g.constant("table", Data::floats(&[1, 2], &[0.5, 0.25]).unwrap());
        let y = g.matmul(&x, &weight).unwrap();
        let y = g.add(&y, &g.gather(&table, &row).unwrap()).unwrap();
        let y = g.sigmoid(&y);
        let bytes = builder.finish(&[("y", &y)]).unwrap().encode(String::new(), Vec::new()).unwrap();
        check(&bytes).unwrap();
        proto::read(&mut std::io::Cursor::new(bytes)).unwrap()
    }

    fn graph(found: &mut proto::Skeleton) -> &mut GraphProto {
        found.model.graph.as_mut().unwrap()
    }

    #[test]
    fn each_fault_is_found_and_named() {
        type Change = fn(&mut proto::Skeleton);
        let faults: [(Change, &str); 13] = [
            (|m| m.model.ir_version = 10, "model: IR version 10, expected 8"),
            (|m| m.model.opset_import[0].version = 19, "model: operator sets [(\"\", 19)], expected one of [17, 23]"),
            (|m| m.model.graph = None, "model: holds no graph"),
            (|m| graph(m).output.clear(), "test: has no output"),
            (|m| graph(m).node.swap(0, 2), "is defined by nothing before it"),
            (|m| graph(m).node[0].op_type = "Gelu".into(), "operator Gelu is not one that all engines run"),
            (|m| graph(m).node[1].input.swap(0, 1), "layer.Gather: input 1 is Float, expected Int64"),
            (|m| drop(graph(m).node[0].input.pop()), "layer.MatMul: has 1 inputs, expected 2"),
            (|m| graph(m).node[1].output[0] = "x".into(), "x: two values bear this name"),
            (|m| m.places[0].length = 23, "layer.weight.transposed: 23 bytes of data for shape [3, 2]"),
            (|m| graph(m).node[3].input[0] = "x".into(), "layer.Add: is used by nothing"),
            (|m| graph(m).output[0].name = "z".into(), "z: is declared with a type that no node gives it"),
            (|m| graph(m).input[0] = graph(m).output[0].clone(), "its input \"x\" is defined by nothing"),
        ];
        for (change, problem) in faults {
            let mut model = model();
            change(&mut model);
            let lengths: Vec<_> = model.places.iter().map(|place| place.length).collect();
            let found = check_model(&model.model, &lengths).unwrap_err().to_string();
            assert!(found.contains(problem), "{found:?} instead of {problem:?}");
        }
    }

    #[test]
    fn other_bytes_are_no_model() {
        assert!(check(b"\x89PNG").unwrap_err().to_string().starts_with("graph: model: "));
    }
}
