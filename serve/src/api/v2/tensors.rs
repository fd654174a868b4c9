//! From tensors in JSON to orders, or to an error that names the tensor.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroUsize;

use axum::http::StatusCode;
use drifting_spec::Manifest;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::api::error::{Allowed, ApiError};
use crate::api::parameters;
use crate::worker::Order;

/// The inputs; all but the first may be left out.
const INPUTS: [&str; 3] = ["class", "alpha", "seed"];

/// What is computed, and how it comes back.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    /// The client's own number, which is told again.
    pub(super) id: Option<String>,
    /// One for each run of equal rows, whose images are numbers 0, 1, ... of their seed.
    pub(super) orders: Vec<Order>,
    /// In this order.
    pub(super) outputs: Vec<Output>,
}

/// What can come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Levels as in a PNG, `[n, channels, height, width]` of UINT8.
    Image,
    /// The seed of each row, `[n]` of UINT64.
    Seed,
    /// The numbers behind the levels, FP32.
    Values,
}

impl Output {
    const ALL: [Self; 3] = [Self::Image, Self::Seed, Self::Values];
    /// Where a request names none.
    const USUAL: [Self; 2] = [Self::Image, Self::Seed];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Seed => "seed",
            Self::Values => "values",
        }
    }

    fn named(name: &str) -> Result<Self, ApiError> {
        let found = Self::ALL.into_iter().find(|output| output.name() == name);
        found.ok_or_else(|| unknown("output", name, Self::ALL.map(Self::name)))
    }
}

/// The body of a request. `parameters` are for extensions, of which there are none.
#[derive(Deserialize)]
struct Body {
    #[serde(default, deserialize_with = "some")]
    id: Option<String>,
    #[serde(default, rename = "parameters")]
    _parameters: Map<String, Value>,
    inputs: Vec<Object<Tensor>>,
    #[serde(default, deserialize_with = "some")]
    outputs: Option<Vec<Object<Wanted>>>,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    datatype: String,
    #[serde(default, rename = "parameters")]
    _parameters: Map<String, Value>,
    data: Vec<Value>,
}

#[derive(Deserialize)]
struct Wanted {
    name: String,
    #[serde(default, rename = "parameters")]
    _parameters: Map<String, Value>,
}

/// What must be an object: serde would take a list of its members' values as well.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// What may be left out and may not be null.
fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads the body of a request.
///
/// # Errors
/// 400 for what is no such body, 422 for values that are out of range.
pub(super) fn read(body: &[u8], manifest: &Manifest, max_images: usize) -> Result<Asked, ApiError> {
    let Object(Body { id, inputs, outputs, .. }) = serde_json::from_slice(body).map_err(|error| {
        let message = format!("the body is no request of the Open Inference Protocol: {error}");
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_body", message)
    })?;
    let inputs: Vec<Tensor> = inputs.into_iter().map(|Object(tensor)| tensor).collect();
    for (position, tensor) in inputs.iter().enumerate() {
        if !INPUTS.contains(&tensor.name.as_str()) {
            return Err(unknown("input", &tensor.name, INPUTS));
        }
        if inputs[..position].iter().any(|earlier| earlier.name == tensor.name) {
            let message = format!("input {} is given more than once", tensor.name);
            return Err(ApiError::syntax(&tensor.name, "repeated_parameter", message));
        }
    }
    let texts = |name: &str, kinds: &[Kind]| {
        inputs.iter().find(|tensor| tensor.name == name).map(|tensor| tensor.texts(kinds)).transpose()
    };
    let classes = texts("class", &[Kind::Integer, Kind::Bytes])?.ok_or_else(|| {
        ApiError::syntax("class", "missing_parameter", "input class is missing: [n] numbers or names of classes")
    })?;
    let count = classes.len();
    if !(1..=max_images).contains(&count) {
        let allowed = Allowed::Range { min: json!(1), max: json!(max_images) };
        return Err(ApiError::range("class", format!("{count} images, not between 1 and {max_images}"), allowed));
    }
    let alphas = fitting("alpha", texts("alpha", &[Kind::Float])?, count)?;
    let seeds = fitting("seed", texts("seed", &[Kind::Integer, Kind::Bytes])?, count)?;
    let drawn = parameters::random_seed();
    let mut orders = Vec::new();
    for (row, class) in classes.iter().enumerate() {
        let seed = seeds.as_ref().map_or(Ok(drawn), |seeds| parameters::seed(&seeds[row]))?;
        let alpha = alphas.as_ref().map_or(Ok(manifest.alpha.default), |all| parameters::alpha(&all[row], manifest))?;
        let class = parameters::class(Some(class), seed, manifest)?;
        push(&mut orders, Order { class, alpha, seed, count: NonZeroUsize::MIN });
    }
    let outputs = match outputs {
        Some(wanted) if !wanted.is_empty() => {
            wanted.iter().map(|Object(wanted)| Output::named(&wanted.name)).collect::<Result<_, _>>()?
        }
        _ => Output::USUAL.into(),
    };
    Ok(Asked { id, orders, outputs })
}

/// One more image of the last order if it is of the same kind, else another order.
fn push(orders: &mut Vec<Order>, order: Order) {
    match orders.last_mut() {
        Some(last) if Order { count: order.count, ..*last } == order => last.count = last.count.saturating_add(1),
        _ => orders.push(order),
    }
}

/// As many values as there are images.
fn fitting(name: &str, values: Option<Vec<String>>, count: usize) -> Result<Option<Vec<String>>, ApiError> {
    if let Some(found) = values.as_ref().map(Vec::len).filter(|found| *found != count) {
        let message = format!("input {name} has {found} values, class has {count}");
        return Err(ApiError::syntax(name, "invalid_parameter", message));
    }
    Ok(values)
}

/// What a datatype holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Integer,
    Float,
    Bytes,
}

impl Kind {
    fn of(datatype: &str) -> Option<Self> {
        match datatype {
            "INT8" | "INT16" | "INT32" | "INT64" | "UINT8" | "UINT16" | "UINT32" | "UINT64" => Some(Self::Integer),
            "FP16" | "FP32" | "FP64" | "BF16" => Some(Self::Float),
            "BYTES" => Some(Self::Bytes),
            _ => None,
        }
    }

    /// A value as a query would have it.
    fn text(self, value: &Value) -> Option<String> {
        match (self, value) {
            (Self::Integer, Value::Number(number)) if !number.is_f64() => Some(number.to_string()),
            (Self::Float, Value::Number(number)) => Some(number.to_string()),
            (Self::Bytes, Value::String(text)) => Some(text.clone()),
            _ => None,
        }
    }
}

impl Tensor {
    /// The values of a tensor of one dimension, each as a query would have it.
    fn texts(&self, kinds: &[Kind]) -> Result<Vec<String>, ApiError> {
        let Self { name, shape, datatype, data, .. } = self;
        let wrong = |message: String| ApiError::syntax(name, "invalid_parameter", message);
        let kind = Kind::of(datatype).filter(|kind| kinds.contains(kind));
        let kind = kind.ok_or_else(|| wrong(format!("input {name} cannot be of datatype {datatype:?}")))?;
        if *shape != [data.len()] {
            let message =
                format!("input {name} has the shape {shape:?} and {} values; [n] and n are right", data.len());
            return Err(wrong(message));
        }
        let text =
            |value: &Value| kind.text(value).ok_or_else(|| wrong(format!("input {name}: no value of {datatype}")));
        data.iter().map(text).collect()
    }
}

fn unknown<const N: usize>(what: &str, name: &str, known: [&str; N]) -> ApiError {
    let message = format!("there is no {what} {name:?}; there are {}", known.join(", "));
    let allowed = Allowed::OneOf(known.map(str::to_owned).into());
    ApiError::syntax(name, "unknown_parameter", message).with_allowed(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::manifest;

    fn asked(body: &Value) -> Result<Asked, ApiError> {
        read(body.to_string().as_bytes(), &manifest(), 4)
    }

    fn input(name: &str, datatype: &str, data: &Value) -> Value {
        json!({ "name": name, "datatype": datatype, "shape": [data.as_array().unwrap().len()], "data": data })
    }

    #[test]
    fn equal_rows_are_images_of_one_order() {
        let inputs = [
            input("seed", "BYTES", &json!(["18446744073709551615", "18446744073709551615", "7", "7"])),
            input("class", "BYTES", &json!(["bag", "2", "bag", "Été"])),
            input("alpha", "FP32", &json!([1, 1.0, 2.5, 2.5])),
        ];
        let found = asked(&json!({ "id": "a", "inputs": inputs, "outputs": [{ "name": "values" }] })).unwrap();
        let order = |class, alpha, seed, count| Order { class, alpha, seed, count: NonZeroUsize::new(count).unwrap() };
        assert_eq!(found.orders, [order(2, 1.0, u64::MAX, 2), order(2, 2.5, 7, 1), order(4, 2.5, 7, 1)]);
        assert_eq!((found.id.as_deref(), &found.outputs[..]), (Some("a"), &[Output::Values][..]));
        let drawn = asked(&json!({ "inputs": [input("class", "INT64", &json!([1, 1, 1]))] })).unwrap();
        assert_eq!((drawn.orders.len(), drawn.orders[0].count.get(), drawn.orders[0].alpha), (1, 3, 1.5));
        assert_eq!(drawn.outputs, Output::USUAL);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let class = || input("class", "INT64", &json!([1, 2]));
        let shaped = |shape: Value| json!({ "name": "class", "datatype": "INT64", "shape": shape, "data": [1, 2] });
        let cases = [
            (json!([]), 400, "an object"),
            (json!({ "inputs": [["class", [1], "INT64", {}, [1]]] }), 400, "an object"),
            (json!({ "inputs": [], "id": null }), 400, "null"),
            (json!({ "inputs": [] }), 400, "class is missing"),
            (json!({ "inputs": [class(), class()] }), 400, "more than once"),
            (json!({ "inputs": [class(), input("noise", "FP32", &json!([1.0]))] }), 400, "class, alpha, seed"),
            (json!({ "inputs": [class(), input("alpha", "FP32", &json!([1.0]))] }), 400, "1 values, class has 2"),
            (json!({ "inputs": [class(), input("alpha", "INT64", &json!([1, 1]))] }), 400, "datatype \"INT64\""),
            (json!({ "inputs": [class(), input("alpha", "FP32", &json!([1.0, "2"]))] }), 400, "no value of FP32"),
            (json!({ "inputs": [class(), input("alpha", "FP32", &json!([1.0, 1e39]))] }), 422, "outside"),
            (json!({ "inputs": [class(), input("seed", "INT64", &json!([1, -1]))] }), 400, "seed"),
            (json!({ "inputs": [input("class", "INT64", &json!([5]))] }), 422, "5 classes"),
            (json!({ "inputs": [input("class", "INT64", &json!([1, 1, 1, 1, 1]))] }), 422, "between 1 and 4"),
            (json!({ "inputs": [input("class", "INT64", &json!([]))] }), 422, "between 1 and 4"),
            (json!({ "inputs": [shaped(json!([2, 1]))] }), 400, "shape [2, 1]"),
            (json!({ "inputs": [shaped(json!([3]))] }), 400, "shape [3]"),
            (json!({ "inputs": [shaped(json!([-2]))] }), 400, "-2"),
            (json!({ "inputs": [class()], "outputs": [{ "name": "noise" }] }), 400, "image, seed, values"),
        ];
        for (body, status, words) in cases {
            let error = asked(&body).unwrap_err();
            assert_eq!(error.status.as_u16(), status, "{body}");
            assert!(error.details.message.contains(words), "{body}: {}", error.details.message);
        }
    }
}
