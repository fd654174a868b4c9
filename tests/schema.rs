//! configs/schema.json is what the program reads, and every experiment file is what it says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::path::{Path, PathBuf};

use drifting_train::config::schema;
use serde_json::Value;

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

#[test]
fn the_schema_is_that_of_the_types() {
    let path = configs().join("schema.json");
    let wanted = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("DRIFTING_UPDATE").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{} is stale: DRIFTING_UPDATE=1 cargo test --release --test schema", path.display());
}

#[test]
fn every_configuration_is_what_the_schema_says() {
    let schema = schema();
    let mut folders = vec![configs()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let of_train = !text.lines().any(|line| line.starts_with("base = ")) && !path.ends_with("serve.toml");
            if path.extension().is_some_and(|extension| extension == "toml") && of_train {
                let value = serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap();
                check(&schema, &schema, &value).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
                seen += 1;
            }
        }
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn what_is_wrong_does_not_pass() {
    let schema = schema();
    let text = std::fs::read_to_string(configs().join("fashion-demo.toml")).unwrap();
    let good: toml::Table = text.parse().unwrap();
    let passes = |change: &dyn Fn(&mut toml::Table)| {
        let mut table = good.clone();
        change(&mut table);
        check(&schema, &schema, &serde_json::to_value(table).unwrap()).is_ok()
    };
    assert!(passes(&|_| ()));
    assert!(!passes(&|table| drop(table.insert("stpes".into(), 3.into()))), "a key that does not exist");
    assert!(!passes(&|table| drop(table.remove("generator"))), "a section that is missing");
    assert!(!passes(&|table| drop(table.insert("steps".into(), "many".into()))), "another type");
    assert!(!passes(&|table| drop(table.insert("steps".into(), (-1).into()))), "a number below 0");
    let rope = |value: &str| {
        passes(&|table| {
            let generator = table.get_mut("generator").and_then(toml::Value::as_table_mut).unwrap();
            generator.insert("rope".into(), value.into());
        })
    };
    assert!(rope("2d") && !rope("3d"), "a word that is not one of the list");
}

/// Holds a value against the part of JSON Schema that our schema uses.
fn check(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let part = root.pointer(reference.trim_start_matches('#')).ok_or_else(|| format!("no {reference}"))?;
        check(root, part, value)?;
    }
    check_kind(schema, value)?;
    for word in ["anyOf", "oneOf"] {
        if let Some(choices) = schema.get(word).and_then(Value::as_array) {
            let problems: Vec<_> = choices.iter().map(|choice| check(root, choice, value)).collect();
            if !problems.iter().any(Result::is_ok) {
                return Err(format!("{value} is none of {problems:?}"));
            }
        }
    }
    for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        check(root, part, value)?;
    }
    if let (Some(items), Some(values)) = (schema.get("items").filter(|items| items.is_object()), value.as_array()) {
        values.iter().try_for_each(|value| check(root, items, value))?;
    }
    value.as_object().map_or(Ok(()), |object| check_object(root, schema, object))
}

/// Type, range and list of values.
fn check_kind(schema: &Value, value: &Value) -> Result<(), String> {
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    let fits = match schema.get("type") {
        Some(Value::String(kind)) => is(kind),
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).any(is),
        _ => true,
    };
    let listed = schema.get("enum").and_then(Value::as_array).is_none_or(|values| values.contains(value));
    let same = schema.get("const").is_none_or(|wanted| wanted == value);
    let least = schema.get("minimum").and_then(Value::as_f64).zip(value.as_f64());
    if fits && listed && same && least.is_none_or(|(least, value)| value >= least) {
        return Ok(());
    }
    Err(format!("{value} is not {}", schema.get("type").or(schema.get("const")).unwrap_or(schema)))
}

fn check_object(root: &Value, schema: &Value, object: &serde_json::Map<String, Value>) -> Result<(), String> {
    for key in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(key) {
            return Err(format!("{key} is missing"));
        }
    }
    let properties = schema.get("properties");
    for (key, value) in object {
        match properties.and_then(|properties| properties.get(key)) {
            Some(property) => check(root, property, value).map_err(|problem| format!("{key}: {problem}"))?,
            None if schema.get("additionalProperties") == Some(&Value::Bool(false)) => {
                return Err(format!("there is no key {key}"));
            }
            None => {}
        }
    }
    Ok(())
}
