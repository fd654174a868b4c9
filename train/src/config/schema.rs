//! The JSON schema of experiment files, made from the types that read them.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Number, Value};

use super::{MaeTrainConfig, TrainConfig};
use crate::toy::ToyConfig;

/// An experiment: a generator, its feature encoder, or points in the plane.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, clippy::large_enum_variant, reason = "only its shape is used")]
enum Experiment {
    Generator(TrainConfig),
    Mae(MaeTrainConfig),
    Toy(ToyConfig),
}

/// The schema (draft 2020-12) of every file that [`ExperimentConfig`](super::ExperimentConfig) reads.
#[must_use]
pub fn schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Experiment>().to_value();
    shorten(&mut schema);
    schema
}

/// Writes defaults that are f32 as they are written in a file: 0.05 and not 0.05000000074505806.
fn shorten(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(shorten),
        Value::Object(entries) => entries.values_mut().for_each(shorten),
        Value::Number(number) if number.is_f64() => {
            let exact = number.as_f64().unwrap_or_default();
            let short = exact as f32;
            let written = format!("{short}").parse().ok().and_then(Number::from_f64);
            if f64::from(short) == exact
                && let Some(written) = written
            {
                *number = written;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_files() {
        let mut value = serde_json::json!([0.05f32, 1e-8, 42, "0.1", { "deep": 4.0f32 / 3.0 }]);
        shorten(&mut value);
        assert_eq!(value, serde_json::json!([0.05, 1e-8, 42, "0.1", { "deep": 1.333_333_4 }]));
    }

    #[test]
    fn the_schema_knows_every_section() {
        let text = schema().to_string();
        for key in ["\"generator\"", "\"mae\"", "\"toy\"", "\"no_cfg_fraction\"", "\"embedded\"", "\"evaluate_every\""]
        {
            assert!(text.contains(key), "{key}");
        }
    }
}
