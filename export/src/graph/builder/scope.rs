//! A part of a graph under construction.

use super::{Builder, CHANNELS_FIRST, Layout, TRANSPOSED};
use crate::graph::{DType, Data, GraphError, Result, Shape, Value};
use crate::proto::{AttributeProto, NodeProto};
use crate::settings::Profile;

/// A part of the network: adds nodes and parameters to the graph under the part's name.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    builder: &'a Builder,
    path: String,
}

impl<'a> Scope<'a> {
    /// The whole network.
    pub(super) fn of(builder: &'a Builder) -> Self {
        Self { builder, path: String::new() }
    }
}

impl Scope<'_> {
    /// The part `name` of this one.
    #[must_use]
    pub fn part(&self, name: &str) -> Self {
        Self { path: self.full_name(name), ..self.clone() }
    }

    pub(in crate::graph) fn full_name(&self, name: &str) -> String {
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
    pub(in crate::graph) fn take(&self, name: &str, dims: &[usize]) -> Result<Data> {
        let Some(data) = self.builder.state.borrow_mut().parameters.remove(name) else {
            return Err(GraphError::new(name, format!("this weight is missing (expected shape {dims:?})")));
        };
        if data.dims == dims {
            return Ok(data);
        }
        Err(GraphError::new(name, format!("this weight has shape {:?}, expected {dims:?}", data.dims)))
    }

    /// Adds numbers under a full name.
    pub(in crate::graph) fn stored(&self, name: String, data: Data) -> Value {
        self.builder.initializer(name, data)
    }

    /// What was made of `x` before.
    pub(in crate::graph) fn known(&self, x: &Value, what: &str) -> Option<[Value; 2]> {
        self.builder.state.borrow().made.get(&(x.name.clone(), what.to_owned())).cloned()
    }

    /// What is made of `x` once only.
    pub(in crate::graph) fn remembered(&self, x: &Value, what: &str, make: impl FnOnce() -> [Value; 2]) -> [Value; 2] {
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
    pub(in crate::graph) fn absent(&self) -> Value {
        Value { name: String::new(), dtype: DType::F32, shape: Shape::fixed(&[]) }
    }

    /// The value with another element type, which the node that makes it says too.
    pub(in crate::graph) fn retyped(&self, value: Value, dtype: DType) -> Value {
        let value = Value { dtype, ..value };
        let info = self.builder.info(&value);
        let infos = &mut self.builder.state.borrow_mut().graph.value_info;
        infos.iter_mut().filter(|old| old.name == info.name).for_each(|old| *old = info.clone());
        value
    }

    /// Adds a node with one result.
    pub(in crate::graph) fn node(
        &self,
        op: &str,
        inputs: &[&Value],
        attributes: Vec<AttributeProto>,
        shape: &Shape,
    ) -> Value {
        let [output] = self.node_with(op, inputs, attributes, shape);
        output
    }

    /// Adds a node with `N` results of one shape. Their element type is that of the first input, for every operator
    /// offered here.
    pub(in crate::graph) fn node_with<const N: usize>(
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
