//! Inputs, parameters, constants and nodes become a graph.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use super::{DType, Data, Dim, Graph, GraphError, Opset, Result, Shape, Value};
use crate::proto::{self, AttributeProto, DimValue, GraphProto, NodeProto, ValueInfoProto};
use crate::settings::{ExportSettings, Profile};

/// What follows the name of a parameter that is stored with rows and columns exchanged.
pub const TRANSPOSED: &str = ".transposed";

/// What follows the name of a kernel that is stored with its channels first.
pub const CHANNELS_FIRST: &str = ".channels_first";

/// How a parameter is stored in the graph. Its numbers are never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As it is.
    Same,
    /// A matrix `[out, in]` as `[in, out]`, ready for MatMul; its name gets the ending [`TRANSPOSED`].
    Transposed,
    /// All dimensions but the last become one: `[tables, codes, width]` as `[tables * codes, width]`.
    Rows,
    /// A kernel `[height, width, in, out]` as `[out, in, height, width]`, ready for Conv; its name gets the ending
    /// [`CHANNELS_FIRST`].
    ChannelsFirst,
    /// A number for each channel as `[groups, channels / groups, 1]`.
    Groups(usize),
}

/// The weights of a network, and how they are to be exported.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    /// Weights by name.
    pub weights: BTreeMap<String, Data>,
    /// Spelling and numbers of the graph.
    pub profile: Profile,
    /// The one batch size that the graph is made for.
    pub batch: Option<NonZeroUsize>,
}

impl Parameters {
    /// Weights that are exported as `settings` say.
    #[must_use]
    pub fn new(weights: BTreeMap<String, Data>, settings: &ExportSettings) -> Self {
        Self { weights, profile: settings.profile, batch: settings.batch }
    }
}

impl From<BTreeMap<String, Data>> for Parameters {
    fn from(weights: BTreeMap<String, Data>) -> Self {
        Self { weights, ..Self::default() }
    }
}

/// A graph under construction.
#[derive(Debug)]
pub struct Builder {
    state: RefCell<State>,
    batch: DimValue,
    profile: Profile,
}

#[derive(Debug)]
struct State {
    graph: GraphProto,
    initializers: Vec<(String, Data)>,
    parameters: BTreeMap<String, Data>,
    constants: BTreeMap<(DType, Vec<usize>, Vec<u8>), Value>,
    /// What was made of a value before, by its name and what it is.
    made: BTreeMap<(String, String), [Value; 2]>,
    names: BTreeSet<String>,
}

impl Builder {
    /// An empty graph that may use `parameters`; `batch` is the name of the symbolic dimension, if the batch is not fixed.
    #[must_use]
    pub fn new(name: &str, batch: &'static str, parameters: impl Into<Parameters>) -> Self {
        let Parameters { weights, profile, batch: fixed } = parameters.into();
        let state = State {
            graph: GraphProto { name: name.into(), ..Default::default() },
            initializers: Vec::new(),
            parameters: weights,
            constants: BTreeMap::new(),
            made: BTreeMap::new(),
            names: BTreeSet::new(),
        };
        let batch = match fixed {
            Some(size) => DimValue::DimValue(size.get() as i64),
            None => DimValue::DimParam(batch.into()),
        };
        Self { state: RefCell::new(state), batch, profile }
    }

    /// The scope of the whole network.
    #[must_use]
    pub fn root(&self) -> Scope<'_> {
        Scope { builder: self, path: String::new() }
    }

    /// Adds an input.
    #[must_use]
    pub fn input(&self, name: &str, dtype: DType, shape: Shape) -> Value {
        let value = self.value(name.into(), dtype, shape);
        let info = self.info(&value);
        self.state.borrow_mut().graph.input.push(info);
        value
    }

    /// Ends the building: the values become the outputs of these names.
    ///
    /// # Errors
    /// A value that no node makes or that is named twice, or a parameter that no node uses.
    pub fn finish(self, outputs: &[(&str, &Value)]) -> Result<Graph> {
        let infos: Vec<_> = outputs
            .iter()
            .map(|(name, value)| self.info(&Value { name: (*name).into(), ..(*value).clone() }))
            .collect();
        let opset = if self.profile == Profile::Ort { Opset::Newer } else { Opset::Portable };
        let State { mut graph, initializers, parameters, .. } = self.state.into_inner();
        if let Some(unused) = parameters.keys().next() {
            let problem = "this weight belongs to no part of the network; do weights and configuration match?";
            return Err(GraphError::new(unused, problem));
        }
        let renamed: BTreeMap<&str, &str> = outputs.iter().map(|(name, value)| (value.name(), *name)).collect();
        if let Some((_, value)) = outputs.iter().find(|(name, value)| renamed.get(value.name()) != Some(name)) {
            return Err(GraphError::new(&value.name, "cannot be two outputs"));
        }
        let mut made = BTreeSet::new();
        for node in &mut graph.node {
            made.extend(node.output.iter().filter(|place| renamed.contains_key(place.as_str())).cloned());
            for place in node.output.iter_mut().chain(&mut node.input) {
                if let Some(name) = renamed.get(place.as_str()) {
                    *place = (*name).to_owned();
                }
            }
        }
        if let Some((_, value)) = outputs.iter().find(|(_, value)| !made.contains(value.name())) {
            return Err(GraphError::new(&value.name, "cannot be the output, since no node makes it"));
        }
        graph.value_info.retain(|info| !renamed.contains_key(info.name.as_str()));
        graph.output.extend(infos);
        Ok(Graph { proto: graph, initializers, opset })
    }

    /// A value under `wish`, or under the first free of `wish_1`, `wish_2`, ...
    fn value(&self, wish: String, dtype: DType, shape: Shape) -> Value {
        let names = &mut self.state.borrow_mut().names;
        let free = |name: &String| !names.contains(name);
        let name = if free(&wish) { Some(wish) } else { (1..).map(|i| format!("{wish}_{i}")).find(free) };
        let name = name.unwrap_or_default();
        names.insert(name.clone());
        Value { name, dtype, shape }
    }

    fn info(&self, value: &Value) -> ValueInfoProto {
        let dims = value.shape.dims().iter().map(|dim| match dim {
            Dim::Batch => self.batch.clone(),
            Dim::Size(size) => DimValue::DimValue(*size as i64),
        });
        proto::value_info(&value.name, value.dtype.proto(), dims)
    }

    fn initializer(&self, name: String, data: Data) -> Value {
        let value = self.value(name, data.dtype, Shape::fixed(&data.dims));
        self.state.borrow_mut().initializers.push((value.name.clone(), data));
        value
    }
}

/// A part of the network: adds nodes and parameters to the graph under the part's name.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    builder: &'a Builder,
    path: String,
}

impl Scope<'_> {
    /// The part `name` of this one.
    #[must_use]
    pub fn part(&self, name: &str) -> Self {
        Self { path: self.full_name(name), ..self.clone() }
    }

    pub(super) fn full_name(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// An error of this part.
    pub(crate) fn error(&self, problem: impl Into<String>) -> GraphError {
        GraphError::new(&self.path, problem)
    }

    /// For whom the graph is spelled, and in which numbers it computes.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.builder.profile
    }

    /// The parameter `name` of shape `dims`, stored in `layout`. Each parameter is taken once.
    ///
    /// # Errors
    /// It is not there, or has another shape.
    pub fn parameter(&self, name: &str, dims: &[usize], layout: Layout) -> Result<Value> {
        self.parameter_as(name, dims, layout, DType::F32)
    }

    /// As [`Scope::parameter`], each number rounded to `dtype`.
    ///
    /// # Errors
    /// As [`Scope::parameter`].
    pub fn parameter_as(&self, name: &str, dims: &[usize], layout: Layout, dtype: DType) -> Result<Value> {
        let mut name = self.full_name(name);
        let mut data = self.take(&name, dims)?.rounded(dtype);
        match layout {
            Layout::Same => {}
            Layout::Transposed => {
                data = data.transposed();
                name.push_str(TRANSPOSED);
            }
            Layout::Rows => {
                let width = dims.last().copied().unwrap_or(1);
                data.dims = vec![dims.iter().rev().skip(1).product(), width];
            }
            Layout::ChannelsFirst => {
                data = data.channels_first();
                name.push_str(CHANNELS_FIRST);
            }
            Layout::Groups(groups) => {
                let channels: usize = dims.iter().product();
                if groups == 0 || !channels.is_multiple_of(groups) {
                    return Err(GraphError::new(name, format!("{channels} channels cannot make {groups} groups")));
                }
                data.dims = vec![groups, channels / groups, 1];
            }
        }
        Ok(self.stored(name, data))
    }

    /// The numbers of the parameter with this full name, which is not there any more then.
    pub(super) fn take(&self, name: &str, dims: &[usize]) -> Result<Data> {
        let Some(data) = self.builder.state.borrow_mut().parameters.remove(name) else {
            return Err(GraphError::new(name, format!("this weight is missing (expected shape {dims:?})")));
        };
        if data.dims == dims {
            return Ok(data);
        }
        Err(GraphError::new(name, format!("this weight has shape {:?}, expected {dims:?}", data.dims)))
    }

    /// Adds numbers under a full name.
    pub(super) fn stored(&self, name: String, data: Data) -> Value {
        self.builder.initializer(name, data)
    }

    /// What was made of `x` before.
    pub(super) fn known(&self, x: &Value, what: &str) -> Option<[Value; 2]> {
        self.builder.state.borrow().made.get(&(x.name.clone(), what.to_owned())).cloned()
    }

    /// What is made of `x` once only.
    pub(super) fn remembered(&self, x: &Value, what: &str, make: impl FnOnce() -> [Value; 2]) -> [Value; 2] {
        self.known(x, what).unwrap_or_else(|| {
            let made = make();
            self.builder.state.borrow_mut().made.insert((x.name.clone(), what.to_owned()), made.clone());
            made
        })
    }

    /// A constant that is no parameter; equal constants are stored once, under the name of the first.
    #[must_use]
    pub fn constant(&self, name: &str, data: Data) -> Value {
        let Some(key) = data.key() else { return self.stored(name.into(), data) };
        let known = self.builder.state.borrow().constants.get(&key).cloned();
        known.unwrap_or_else(|| {
            let value = self.stored(name.into(), data);
            self.builder.state.borrow_mut().constants.insert(key, value.clone());
            value
        })
    }

    /// A number.
    #[must_use]
    pub fn scalar(&self, value: f32) -> Value {
        self.constant(&format!("constant.{value:e}"), Data::scalar(value))
    }

    /// A list of integers: a shape, axes, offsets.
    #[must_use]
    pub fn integers(&self, values: &[i64]) -> Value {
        let text: Vec<_> = values.iter().map(ToString::to_string).collect();
        self.constant(&format!("constant.{}", text.join(",")), Data::integers(values))
    }

    /// An input that a node does not have.
    pub(super) fn absent(&self) -> Value {
        Value { name: String::new(), dtype: DType::F32, shape: Shape::fixed(&[]) }
    }

    /// The value with another element type, which the node that makes it says too.
    pub(super) fn retyped(&self, value: Value, dtype: DType) -> Value {
        let value = Value { dtype, ..value };
        let info = self.builder.info(&value);
        let infos = &mut self.builder.state.borrow_mut().graph.value_info;
        infos.iter_mut().filter(|old| old.name == info.name).for_each(|old| *old = info.clone());
        value
    }

    /// Adds a node with one result.
    pub(super) fn node(&self, op: &str, inputs: &[&Value], attributes: Vec<AttributeProto>, shape: &Shape) -> Value {
        let [output] = self.node_with(op, inputs, attributes, shape);
        output
    }

    /// Adds a node with `N` results of one shape. Their element type is that of the first input, for every operator
    /// offered here.
    pub(super) fn node_with<const N: usize>(
        &self,
        op: &str,
        inputs: &[&Value],
        attributes: Vec<AttributeProto>,
        shape: &Shape,
    ) -> [Value; N] {
        let dtype = inputs.first().map_or(DType::F32, |input| input.dtype);
        let outputs = std::array::from_fn(|_| self.builder.value(self.full_name(op), dtype, shape.clone()));
        self.push(op, inputs, attributes, &outputs);
        outputs
    }

    /// The node bears the name of its first output.
    fn push(&self, op: &str, inputs: &[&Value], attribute: Vec<AttributeProto>, outputs: &[Value]) {
        let node = NodeProto {
            name: outputs.first().map(|value| value.name.clone()).unwrap_or_default(),
            op_type: op.into(),
            input: inputs.iter().map(|value| value.name.clone()).collect(),
            output: outputs.iter().map(|value| value.name.clone()).collect(),
            attribute,
            domain: String::new(),
        };
        let infos = outputs.iter().map(|value| self.builder.info(value));
        let graph = &mut self.builder.state.borrow_mut().graph;
        graph.node.push(node);
        graph.value_info.extend(infos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> Builder {
        let bias = Data::floats(&[2], &[1.0, 2.0]).unwrap();
        Builder::new("test", "batch", BTreeMap::from([("a.bias".to_owned(), bias)]))
    }

    #[test]
    fn names_follow_the_modules_and_are_used_once() {
        let builder = builder();
        let x = builder.input("x", DType::F32, Shape::batched(&[2]));
        let a = builder.root().part("a");
        let names: Vec<_> = (0..3).map(|_| a.sqrt(&x).name().to_owned()).collect();
        assert_eq!(names, ["a.Sqrt", "a.Sqrt_1", "a.Sqrt_2"]);
        assert_eq!(a.part("b").sqrt(&x).name(), "a.b.Sqrt");
        let [first, second] = a.split(&x).unwrap();
        assert_eq!((first.name(), second.name(), first.shape()), ("a.Split", "a.Split_1", &Shape::batched(&[1])));
    }

    #[test]
    fn equal_constants_are_stored_once() {
        let builder = builder();
        let g = builder.root();
        assert_eq!(g.scalar(0.5), g.part("a").scalar(0.5));
        assert_ne!(g.scalar(0.5), g.scalar(0.25));
        // A list of one number is no number.
        assert_ne!(g.filled(1, 0.5).shape(), g.scalar(0.5).shape());
        assert_eq!(builder.state.borrow().initializers.len(), 3);
    }

    #[test]
    fn parameters_must_be_taken_once_and_whole() {
        let builder = builder();
        let a = builder.root().part("a");
        let problem = |found: Result<Value>| found.unwrap_err().to_string();
        let wrong = problem(a.parameter("weight", &[2], Layout::Same));
        assert_eq!(wrong, "graph: a.weight: this weight is missing (expected shape [2])");
        let x = builder.input("x", DType::F32, Shape::batched(&[2]));
        let y = a.sqrt(&x);
        let unused = builder.finish(&[("y", &y)]).unwrap_err().to_string();
        assert!(unused.starts_with("graph: a.bias: this weight belongs to no part of the network"), "{unused}");
    }

    #[test]
    fn an_input_cannot_be_the_output() {
        let builder = Builder::new("test", "batch", BTreeMap::new());
        let x = builder.input("x", DType::F32, Shape::batched(&[2]));
        assert!(builder.finish(&[("y", &x)]).unwrap_err().to_string().contains("no node makes it"));
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        let builder = builder();
        let g = builder.root();
        let x = builder.input("x", DType::F32, Shape::batched(&[4, 6]));
        let class = builder.input("class", DType::I64, Shape::batched(&[]));
        let wrong = [
            g.add(&x, &g.filled(5, 0.0)),
            g.add(&x, &class),
            g.matmul(&x, &x),
            g.reshape(&x, &[4, 5]),
            g.transpose(&x, &[0, 1, 1]),
            g.concat(&x, &x, 0),
            g.split::<4>(&x).map(|[first, ..]| first),
            g.skip(&x, 1, 4),
            g.gather(&x, &class),
            g.sum(&x, 0, true),
            g.mean(&g.scalar(1.0)),
        ];
        for result in wrong {
            result.unwrap_err();
        }
        assert_eq!(
            g.add(&x, &class).unwrap_err().to_string(),
            "graph: Add: F32 [batch, 4, 6] and I64 [batch] do not go together"
        );
        assert_eq!(g.concat(&x, &x, 1).unwrap().shape(), &Shape::batched(&[8, 6]));
        assert_eq!(g.skip(&x, 1, 3).unwrap().shape(), &Shape::batched(&[1, 6]));
        assert_eq!(g.sum(&x, 1, false).unwrap().shape(), &Shape::batched(&[6]));
    }
}
