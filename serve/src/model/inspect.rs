//! What no engine should be given: a graph whose tensors claim more than the file holds, or lie elsewhere on the disk.
//!
//! Engines are libraries of others. They check much, but a claim of ten gigabytes may be believed before it is checked, and a
//! path to somewhere else may be followed. So every tensor of a graph is looked at first, by its length alone; numbers are
//! not read. Field numbers are those of onnx.proto3.

use super::metadata::{GRAPH, key_and_value};
use super::nested::{Message, packed};
use super::wire::{Field, Fields, OnnxError};

const GRAPH_NODE: u64 = 1;
const GRAPH_INITIALIZER: u64 = 5;
/// Inputs, outputs and values between.
const GRAPH_VALUES: [u64; 3] = [11, 12, 13];
const GRAPH_SPARSE: u64 = 15;
const NODE_ATTRIBUTE: u64 = 5;
const FUNCTIONS: u64 = 25;
const FUNCTION_NODE: u64 = 7;
const ATTRIBUTE_TENSORS: [u64; 2] = [5, 10];
const ATTRIBUTE_GRAPHS: [u64; 2] = [6, 11];
const ATTRIBUTE_SPARSE: [u64; 2] = [22, 23];
const ATTRIBUTE_INTS: u64 = 8;
const TENSOR_DIMS: u64 = 1;
const TENSOR_TYPE: u64 = 2;
/// Packed whole numbers: of 32 bits, of 64, without a sign.
const TENSOR_INTS: [u64; 3] = [5, 7, 11];
const TENSOR_NAME: u64 = 8;
const TENSOR_RAW: u64 = 9;
const TENSOR_EXTERNAL: u64 = 13;
const TENSOR_LOCATION: u64 = 14;

/// Nodes of all graphs together; the largest network has some thousands.
const MOST_NODES: usize = 200_000;
/// Graphs within graphs; exported ones have none.
const DEEPEST: usize = 4;
/// Elements that one byte of the file can stand for: types of one bit do not exist, but of two.
const ELEMENTS_PER_BYTE: u64 = 4;

/// Numbers that lie in another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct External {
    /// The tensor.
    pub(super) tensor: String,
    /// The file, as the tensor names it.
    pub(super) location: String,
    /// First byte in that file.
    pub(super) offset: u64,
    /// Bytes in that file, as many as the shape needs where the type is known.
    pub(super) length: u64,
}

/// Looks at every tensor of an ONNX file; returns those whose numbers lie in other files.
///
/// # Errors
/// Tensors that claim more numbers than there are, too many nodes, graphs within graphs, bytes that are no message.
pub(super) fn inspect(bytes: &[u8]) -> Result<Vec<External>, OnnxError> {
    let mut inspector = Inspector { nodes: 0, external: Vec::new() };
    each(bytes, &mut |field| match (field.number, field.contents) {
        (GRAPH, Some(graph)) => inspector.graph(graph, 0),
        (FUNCTIONS, Some(function)) => each(function, &mut |field| match (field.number, field.contents) {
            (FUNCTION_NODE, Some(node)) => inspector.node(node, 0),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })?;
    Ok(inspector.external)
}

/// Calls `visit` with every field of a message.
pub(super) fn each<'a>(
    message: &'a [u8],
    visit: &mut dyn FnMut(Field<'a>) -> Result<(), OnnxError>,
) -> Result<(), OnnxError> {
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next_field().map_err(|_| no_message())? {
        visit(field)?;
    }
    Ok(())
}

/// The places that the walk tells count from the start of a part, not of the file.
fn no_message() -> OnnxError {
    OnnxError::Graph("a part of it is no message of ONNX".to_owned())
}

struct Inspector {
    nodes: usize,
    external: Vec<External>,
}

impl Inspector {
    fn graph(&mut self, graph: &[u8], depth: usize) -> Result<(), OnnxError> {
        if depth > DEEPEST {
            return Err(OnnxError::Graph(format!("graphs lie more than {DEEPEST} deep in each other")));
        }
        each(graph, &mut |field| match (field.number, field.contents) {
            (GRAPH_NODE, Some(node)) => self.node(node, depth),
            (GRAPH_INITIALIZER, Some(tensor)) => self.tensor(tensor),
            (GRAPH_SPARSE, Some(_)) => Err(sparse()),
            (number, Some(value)) if GRAPH_VALUES.contains(&number) => Message::ValueInfo.check(value, 0),
            _ => Ok(()),
        })
    }

    fn node(&mut self, node: &[u8], depth: usize) -> Result<(), OnnxError> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err(OnnxError::Graph(format!("it has more than {MOST_NODES} nodes")));
        }
        each(node, &mut |field| match (field.number, field.contents) {
            (NODE_ATTRIBUTE, Some(attribute)) => each(attribute, &mut |field| match (field.number, field.contents) {
                (number, Some(tensor)) if ATTRIBUTE_TENSORS.contains(&number) => self.tensor(tensor),
                (number, Some(graph)) if ATTRIBUTE_GRAPHS.contains(&number) => self.graph(graph, depth + 1),
                (number, Some(_)) if ATTRIBUTE_SPARSE.contains(&number) => Err(sparse()),
                (ATTRIBUTE_INTS, Some(list)) => packed(list, |_| ()),
                _ => Ok(()),
            }),
            _ => Ok(()),
        })
    }

    fn tensor(&mut self, message: &[u8]) -> Result<(), OnnxError> {
        let mut tensor = Tensor::default();
        each(message, &mut |field| tensor.take(&field))?;
        let problem = |problem: String| OnnxError::Graph(format!("tensor {:?}: {problem}", tensor.name));
        let (elements, size) = (tensor.elements, tensor.size);
        let needed = elements.and_then(|elements| elements.checked_mul(size.unwrap_or(1)));
        let Some((elements, needed)) = elements.zip(needed) else {
            return Err(problem("its shape holds more numbers than there can be".to_owned()));
        };
        if tensor.is_external {
            let length = tensor.length.unwrap_or(needed);
            if size.is_some() && length != needed {
                return Err(problem(format!("{length} bytes in another file for a shape of {needed}")));
            }
            let (tensor, location, offset) = (tensor.name, tensor.location, tensor.offset);
            self.external.push(External { tensor, location, offset, length });
            return Ok(());
        }
        match (tensor.raw, size) {
            (Some(raw), Some(_)) if raw != needed => Err(problem(format!("{raw} bytes for a shape of {needed}"))),
            _ if elements > ELEMENTS_PER_BYTE * message.len() as u64 => {
                Err(problem(format!("a shape of {elements} numbers in {} bytes", message.len())))
            }
            _ => Ok(()),
        }
    }
}

fn sparse() -> OnnxError {
    OnnxError::Graph("it has sparse tensors, which no export has".to_owned())
}

/// What a tensor says about itself.
struct Tensor {
    name: String,
    /// The product of its dimensions; none if it is no number.
    elements: Option<u64>,
    /// Bytes of an element, where they are whole.
    size: Option<u64>,
    raw: Option<u64>,
    is_external: bool,
    location: String,
    offset: u64,
    length: Option<u64>,
}

impl Default for Tensor {
    fn default() -> Self {
        let (name, location) = (String::new(), String::new());
        Self { name, elements: Some(1), size: None, raw: None, is_external: false, location, offset: 0, length: None }
    }
}

impl Tensor {
    fn take(&mut self, field: &Field<'_>) -> Result<(), OnnxError> {
        match (field.number, field.contents) {
            (TENSOR_DIMS, None) => self.dimension(field.value),
            (TENSOR_DIMS, Some(list)) => packed(list, |size| self.dimension(size))?,
            (number, Some(list)) if TENSOR_INTS.contains(&number) => packed(list, |_| ())?,
            (TENSOR_TYPE, None) => self.size = size(field.value),
            (TENSOR_NAME, Some(name)) => self.name = String::from_utf8_lossy(name).into_owned(),
            (TENSOR_RAW, Some(raw)) => self.raw = Some(raw.len() as u64),
            (TENSOR_LOCATION, None) => self.is_external = field.value != 0,
            (TENSOR_EXTERNAL, Some(entry)) => {
                let (key, value) = key_and_value(entry).map_err(|_| no_message())?;
                let value = String::from_utf8_lossy(value).into_owned();
                let number = || value.parse().map_err(|_| OnnxError::Graph(format!("{value:?} is no place in a file")));
                match key {
                    b"location" => self.location = value,
                    b"offset" => self.offset = number()?,
                    b"length" => self.length = Some(number()?),
                    _ => {}
                }
                // Numbers that are named elsewhere count as such, whatever the other field says.
                self.is_external = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn dimension(&mut self, size: u64) {
        // A negative size is a large number here, and above all that can be multiplied.
        self.elements = self.elements.and_then(|elements| elements.checked_mul(size)).filter(|&all| all < 1 << 62);
    }
}

/// Bytes of an element of TensorProto.DataType; none for texts, and for types that share a byte.
fn size(data_type: u64) -> Option<u64> {
    match data_type {
        2 | 3 | 9 | 17..=20 => Some(1),
        4 | 5 | 10 | 16 => Some(2),
        1 | 6 | 12 => Some(4),
        7 | 11 | 13 | 14 => Some(8),
        15 => Some(16),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    fn int(number: u64, value: u64) -> Vec<u8> {
        [varint(number << 3), varint(value)].concat()
    }

    fn field(number: u64, contents: &[u8]) -> Vec<u8> {
        [varint(number << 3 | 2), varint(contents.len() as u64), contents.to_vec()].concat()
    }

    fn external(key: &str, value: &str) -> Vec<u8> {
        field(13, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
    }

    /// A model with this tensor as its only initializer.
    fn model(tensor: &[Vec<u8>]) -> Vec<u8> {
        field(7, &field(5, &[&[field(8, b"w")], tensor].concat().concat()))
    }

    /// A model with this attribute on its only node.
    fn with_attribute(attribute: &[u8]) -> Vec<u8> {
        field(7, &field(1, &field(5, attribute)))
    }

    fn problem(model: &[u8]) -> String {
        inspect(model).unwrap_err().to_string()
    }

    #[test]
    fn honest_tensors_pass() {
        for tensor in [
            vec![int(1, 2), int(1, 3), int(2, 1), field(9, &[0; 24])],
            vec![field(1, &[2, 3]), int(2, 7), field(9, &[0; 48])],
            // A scalar, an empty one, numbers one by one, packed numbers, texts, four bits each.
            vec![int(2, 1), field(9, &[0; 4])],
            vec![int(1, 0), int(2, 1)],
            vec![int(1, 2), int(2, 7), int(7, 1), int(7, 2)],
            vec![int(1, 3), int(2, 7), field(7, &[1, 2, 3])],
            vec![int(1, 1), int(2, 8), field(6, b"x")],
            vec![int(1, 8), int(2, 22), field(9, &[0; 4])],
        ] {
            assert_eq!(inspect(&model(&tensor)), Ok(vec![]));
        }
        assert_eq!(inspect(&[int(1, 8), model(&[]), field(14, b"\x0a\x01a")].concat()), Ok(vec![]));
    }

    #[test]
    fn claims_that_the_file_does_not_hold_are_refused() {
        let ten_gigabytes = [int(1, 50_000), int(1, 50_000), int(2, 1)];
        let with = |more: Vec<u8>| [&ten_gigabytes[..], &[more]].concat();
        assert!(problem(&model(&with(field(9, &[0; 8])))).contains("tensor \"w\": 8 bytes for a shape of 10000000000"));
        assert!(problem(&model(&with(Vec::new()))).contains("a shape of 2500000000 numbers in"));
        assert!(problem(&model(&[int(1, u64::MAX), int(2, 1)])).contains("more numbers than there can be"));
        assert!(problem(&model(&vec![int(1, 1 << 31); 3])).contains("more numbers than there can be"));
        assert!(problem(&with_attribute(&field(5, &ten_gigabytes.concat()))).contains("numbers in"));
        let packed_sizes = field(1, &varint(1 << 40));
        assert!(problem(&model(&[packed_sizes, int(2, 1), field(9, &[0; 4])])).contains("4 bytes for a shape"));
    }

    #[test]
    fn numbers_elsewhere_are_listed() {
        let shape = [int(1, 2), int(2, 1), int(14, 1)];
        let with = |entries: &[Vec<u8>]| inspect(&model(&[&shape[..], entries].concat()));
        let found = with(&[external("location", "../x"), external("offset", "4096")]).unwrap();
        let expected = External { tensor: "w".into(), location: "../x".into(), offset: 4096, length: 8 };
        assert_eq!(found, [expected]);
        // Whether or not the tensor says so.
        assert_eq!(inspect(&model(&[int(2, 1), external("location", "x")])).unwrap().len(), 1);
        let wrong = with(&[external("location", "x"), external("length", "9")]).unwrap_err().to_string();
        assert!(wrong.contains("9 bytes in another file for a shape of 8"), "{wrong}");
        assert!(with(&[external("offset", "-1")]).unwrap_err().to_string().contains("\"-1\" is no place"));
    }

    #[test]
    fn too_much_structure_is_refused() {
        let nest = |levels: usize| (0..levels).fold(field(2, b"g"), |graph, _| field(1, &field(5, &field(6, &graph))));
        assert_eq!(inspect(&field(7, &nest(DEEPEST))), Ok(vec![]));
        assert!(problem(&field(7, &nest(DEEPEST + 1))).contains("deep in each other"));
        assert!(problem(&field(7, &nest(5000))).contains("deep in each other"));
        let nodes = field(1, b"").repeat(MOST_NODES + 1);
        assert!(problem(&field(7, &nodes)).contains("more than 200000 nodes"));
        assert!(problem(&field(7, &field(15, b""))).contains("sparse tensors"));
        assert!(problem(&with_attribute(b"\x32\x09")).contains("no message of ONNX"));
        // What follows would be read as the rest of the number, and everything behind it from a wrong place.
        assert!(problem(&with_attribute(&field(8, &[1, 0x80]))).contains("ends within a number"));
        assert!(problem(&model(&[int(1, 1), int(2, 7), field(7, &[0xff])])).contains("ends within a number"));
        assert!(problem(&field(7, &field(11, b"\x12\x09"))).contains("no message of ONNX"));
        assert_eq!(inspect(&[field(7, b""), field(25, &field(7, b""))].concat()), Ok(vec![]));
    }
}
