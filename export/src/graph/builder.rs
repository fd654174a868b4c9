//! Inputs, parameters, constants and nodes become a graph.

mod scope;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use super::{DType, Data, Dim, Graph, GraphError, Opset, Result, Shape, Value};
use crate::proto::{self, DimValue, GraphProto, ValueInfoProto};
use crate::settings::{ExportSettings, Profile};

pub use scope::Scope;

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
        Scope::of(self)
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

#[cfg(test)]
mod tests;
