//! The parameters of a network: named, ordered, initialised as a function of (seed, name).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use candle_core::{DType, Device, Tensor, Var};
use drifting_spec::Stream;

use crate::{Error, Result};

/// Trainable parameters by name, in name order.
#[derive(Clone, Debug, Default)]
pub struct Params {
    vars: BTreeMap<String, Var>,
}

impl Params {
    /// The parameter `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Var> {
        self.vars.get(name)
    }

    /// All parameters in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.vars.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// Number of parameters (tensors).
    #[must_use]
    pub fn len(&self) -> usize {
        self.vars.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vars.is_empty()
    }

    /// Numbers in all parameters together.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.vars.values().map(|var| var.elem_count()).sum()
    }

    /// The parameters as tensors that share their storage.
    #[must_use]
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect()
    }
}

/// Where the values of new parameters come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The initialisation that the network asks for, as a function of (seed, parameter name).
    Seed(u64),
    /// Given tensors; names and shapes must match the network's exactly.
    Tensors(BTreeMap<String, Tensor>),
}

/// How a parameter starts.
#[derive(Clone, Debug)]
pub enum Init {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform with the bound sqrt(6 / (fan in + fan out)) of a `[out, in]` matrix (Xavier).
    Xavier,
    /// Normal with variance 1 / fan in, cut off at two standard deviations of the normal before cutting (LeCun, as flax).
    LeCun {
        /// Inputs of one output.
        fan_in: usize,
    },
    /// These values, row by row.
    Values(Vec<f32>),
}

/// Creates the parameters of a network under dotted names.
#[derive(Clone, Debug)]
pub struct Builder {
    state: Rc<RefCell<State>>,
    prefix: String,
    device: Device,
}

#[derive(Debug)]
struct State {
    /// `None` when the network is only counted.
    source: Option<Source>,
    /// Whether the parameters are constants.
    frozen: bool,
    /// Whether the network computes with its parameters and keeps nothing for gradients.
    inference: bool,
    params: Params,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl Builder {
    /// A builder of f32 parameters on `device`.
    #[must_use]
    pub fn new(source: Source, device: &Device) -> Self {
        Self::with(Some(source), false, device)
    }

    /// A builder of constants: no gradient is computed for them, and [`Builder::finish`] hands out no parameters.
    #[must_use]
    pub fn frozen(source: Source, device: &Device) -> Self {
        Self::with(Some(source), true, device)
    }

    /// A builder of parameters that no gradient is computed for, though [`Builder::finish`] hands them out: a forward pass
    /// keeps nothing but its result.
    #[must_use]
    pub fn inference(source: Source, device: &Device) -> Self {
        let builder = Self::with(Some(source), false, device);
        builder.state.borrow_mut().inference = true;
        builder
    }

    /// A builder that only counts: its parameters have their shapes but take no memory, so that the largest network can be
    /// planned on the smallest machine. What is built cannot be trained.
    pub(crate) fn counting() -> Self {
        Self::with(None, false, &Device::Cpu)
    }

    fn with(source: Option<Source>, frozen: bool, device: &Device) -> Self {
        let state = State { source, frozen, inference: false, params: Params::default(), shapes: BTreeMap::new() };
        Self { state: Rc::new(RefCell::new(state)), prefix: String::new(), device: device.clone() }
    }

    /// Whether the parameters are constants.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.state.borrow().frozen
    }

    /// Numbers in all parameters created so far.
    pub(crate) fn elements(&self) -> usize {
        self.state.borrow().shapes.values().map(|shape| shape.iter().product::<usize>()).sum()
    }

    /// Names and shapes of all parameters created so far.
    pub(crate) fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.state.borrow().shapes.clone()
    }

    /// A builder for the part `name` of this one.
    #[must_use]
    pub fn part(&self, name: &str) -> Self {
        Self { prefix: self.full_name(name), ..self.clone() }
    }

    /// Device of the parameters.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    fn full_name(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// Creates the parameter `name` with `shape`.
    ///
    /// # Errors
    /// Given tensors lack it, hold it in another shape, as integers or with numbers that are not finite.
    pub fn param(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let name = self.full_name(name);
        let mut state = self.state.borrow_mut();
        state.shapes.insert(name.clone(), shape.to_vec());
        let value = match &mut state.source {
            None => return Ok(Tensor::zeros((), DType::F32, &self.device)?.broadcast_as(shape)?),
            Some(Source::Seed(seed)) => initial(*seed, &name, shape, init, &self.device)?,
            Some(Source::Tensors(tensors)) => {
                let expected = shape.to_vec();
                let Some(tensor) = tensors.remove(&name) else { return Err(Error::Missing { name, expected }) };
                if tensor.dims() != shape {
                    return Err(Error::Shape { name, expected, found: tensor.dims().to_vec() });
                }
                if !tensor.dtype().is_float() {
                    return Err(Error::DType { name, found: tensor.dtype() });
                }
                let tensor = tensor.to_dtype(DType::F32)?.to_device(&self.device)?;
                // The sum is finite exactly when no number is NaN or infinite, short of an overflow that no weights reach.
                if !tensor.abs()?.sum_all()?.to_scalar::<f32>()?.is_finite() {
                    return Err(Error::NotFinite { name });
                }
                tensor
            }
        };
        // A copy: given tensors may share their storage with someone else's.
        let value = value.copy()?.detach();
        if state.frozen {
            return Ok(value);
        }
        let var = Var::from_tensor(&value)?;
        let tensor = if state.inference { var.as_tensor().detach() } else { var.as_tensor().clone() };
        state.params.vars.insert(name, var);
        Ok(tensor)
    }

    /// Ends the building.
    ///
    /// # Errors
    /// Given tensors that no parameter took.
    pub fn finish(self) -> Result<Params> {
        let mut state = self.state.borrow_mut();
        if let Some(Source::Tensors(left)) = &state.source
            && let Some(name) = left.keys().next()
        {
            return Err(Error::Unknown { name: name.clone() });
        }
        Ok(std::mem::take(&mut state.params))
    }
}

fn initial(seed: u64, name: &str, shape: &[usize], init: Init, device: &Device) -> Result<Tensor> {
    let count = shape.iter().product();
    let mut stream = Stream::new(seed, name, 0);
    let values = match init {
        Init::Zeros => vec![0.0; count],
        Init::Ones => vec![1.0; count],
        Init::Normal(deviation) => (0..count).map(|_| (deviation * stream.normal()) as f32).collect(),
        Init::Xavier => {
            let fans: usize = shape.iter().sum();
            let bound = (6.0 / fans as f64).sqrt();
            (0..count).map(|_| (bound * (2.0 * stream.uniform() - 1.0)) as f32).collect()
        }
        Init::LeCun { fan_in } => {
            let deviation = (1.0 / fan_in as f64).sqrt() / TRUNCATED_DEVIATION;
            (0..count).map(|_| (deviation * truncated(&mut stream)) as f32).collect()
        }
        Init::Values(values) => values,
    };
    Ok(Tensor::from_vec(values, shape, device)?)
}

/// Standard deviation of a standard normal number that is redrawn until it lies within +-2.
const TRUNCATED_DEVIATION: f64 = 0.879_625_661_034_239_8;

fn truncated(stream: &mut Stream) -> f64 {
    loop {
        let value = stream.normal();
        if value.abs() <= 2.0 {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(source: Source) -> Result<Params> {
        let builder = Builder::new(source, &Device::Cpu);
        builder.part("a").param("weight", &[2, 3], Init::Xavier)?;
        builder.part("b").part("0").param("bias", &[2], Init::Ones)?;
        builder.finish()
    }

    #[test]
    fn values_depend_on_seed_and_name_only() {
        let params = two(Source::Seed(1)).unwrap();
        let again = two(Source::Seed(1)).unwrap();
        let names: Vec<_> = params.iter().map(|(name, _)| name).collect();
        assert_eq!((names, params.elements()), (vec!["a.weight", "b.0.bias"], 8));
        let values = |params: &Params| params.get("a.weight").unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(&params), values(&again));
        assert_ne!(values(&params), values(&two(Source::Seed(2)).unwrap()));
    }

    #[test]
    fn given_tensors_must_match_exactly() {
        let good = two(Source::Seed(1)).unwrap().tensors();
        two(Source::Tensors(good.clone())).unwrap();
        let mut less = good.clone();
        less.remove("b.0.bias");
        assert!(matches!(two(Source::Tensors(less)), Err(Error::Missing { name, .. }) if name == "b.0.bias"));
        let mut more = good.clone();
        more.insert("c".into(), good["a.weight"].clone());
        assert!(matches!(two(Source::Tensors(more)), Err(Error::Unknown { name }) if name == "c"));
        let mut other = good.clone();
        other.insert("a.weight".into(), good["a.weight"].t().unwrap());
        assert!(matches!(two(Source::Tensors(other)), Err(Error::Shape { .. })));
        let mut nan = good;
        nan.insert("b.0.bias".into(), Tensor::new(&[1.0f32, f32::NAN], &Device::Cpu).unwrap());
        assert!(matches!(two(Source::Tensors(nan)), Err(Error::NotFinite { .. })));
    }

    #[test]
    fn lecun_numbers_have_the_variance_of_their_fan_in_and_no_tail() {
        let values = initial(1, "w", &[40_000], Init::LeCun { fan_in: 4 }, &Device::Cpu).unwrap();
        let values = values.to_vec1::<f32>().unwrap();
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / 4e4;
        let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / 4e4;
        assert!(mean.abs() < 0.01 && (variance / 0.25 - 1.0).abs() < 0.02, "{mean} {variance}");
        assert!(values.iter().all(|value| f64::from(value.abs()) <= 1.0 / TRUNCATED_DEVIATION + 1e-6));
    }

    #[test]
    fn parameters_of_inference_are_handed_out_and_keep_nothing() {
        let source = two(Source::Seed(1)).unwrap().tensors();
        let builder = Builder::inference(Source::Tensors(source.clone()), &Device::Cpu);
        let weight = builder.part("a").param("weight", &[2, 3], Init::Zeros).unwrap();
        builder.part("b").part("0").param("bias", &[2], Init::Zeros).unwrap();
        assert!(!weight.track_op() && !(&weight * 2.0).unwrap().track_op());
        let params = builder.finish().unwrap();
        let values = |tensor: &Tensor| tensor.to_vec2::<f32>().unwrap();
        assert_eq!(values(params.get("a.weight").unwrap()), values(&source["a.weight"]));
        assert_eq!(values(&weight), values(&source["a.weight"]));
    }

    #[test]
    fn frozen_parameters_are_constants() {
        let source = two(Source::Seed(1)).unwrap().tensors();
        let builder = Builder::frozen(Source::Tensors(source), &Device::Cpu);
        let weight = builder.part("a").param("weight", &[2, 3], Init::Zeros).unwrap();
        builder.part("b").part("0").param("bias", &[2], Init::Zeros).unwrap();
        assert!(!weight.track_op());
        assert_eq!(builder.shapes()["a.weight"], [2, 3]);
        assert!(builder.finish().unwrap().is_empty());
    }
}
