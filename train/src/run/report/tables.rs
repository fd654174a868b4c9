//! Tables of any JSON: objects are rows, and what is within them has dotted names.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Depth to which tables within tables are looked for.
const DEPTH: usize = 4;

/// Rows of names and values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    /// Where in the file it is.
    pub(super) title: String,
    /// Each row's cells, in the order of their first appearance.
    rows: Vec<Vec<(String, Value)>>,
}

impl Table {
    /// All tables of a file: an object or an array of objects, and the arrays of objects within.
    pub(super) fn all(title: &str, value: &Value) -> Vec<Self> {
        let mut tables = Vec::new();
        find(title, value, DEPTH, &mut tables);
        tables
    }

    fn columns(&self) -> Vec<&str> {
        let mut columns: Vec<&str> = Vec::new();
        for (name, _) in self.rows.iter().flatten() {
            if !columns.contains(&name.as_str()) {
                columns.push(name);
            }
        }
        columns
    }

    fn cell(row: &[(String, Value)], column: &str) -> Option<Value> {
        row.iter().find(|(name, _)| name == column).map(|(_, value)| value.clone())
    }

    /// The tables of several runs as one, with their names before each row.
    pub(super) fn together(tables: &[(&str, &Self)]) -> Vec<Vec<String>> {
        let mut columns: Vec<&str> = Vec::new();
        for column in tables.iter().flat_map(|(_, table)| table.columns()) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        let line = |run: &str, cell: &dyn Fn(&str) -> String| {
            std::iter::once(run.to_owned()).chain(columns.iter().map(|column| cell(column))).collect()
        };
        let mut text = vec![line("run", &|column| column.to_owned())];
        for (run, table) in tables {
            let cell =
                |row: &Vec<_>, column: &str| Self::cell(row, column).as_ref().map(self::text).unwrap_or_default();
            text.extend(table.rows.iter().map(|row| line(run, &|column| cell(row, column))));
        }
        text
    }

    /// Head and body as text; a single row is turned on its side.
    pub(super) fn text(&self) -> Vec<Vec<String>> {
        let columns = self.columns();
        let cell = |row, column: &str| Self::cell(row, column).as_ref().map(text).unwrap_or_default();
        if let [row] = self.rows.as_slice() {
            let head = vec!["measurement".to_owned(), "value".to_owned()];
            let body = columns.iter().map(|column| vec![(*column).to_owned(), cell(row, column)]);
            return std::iter::once(head).chain(body).collect();
        }
        let head = columns.iter().map(|column| (*column).to_owned()).collect();
        let body = self.rows.iter().map(|row| columns.iter().map(|column| cell(row, column)).collect());
        std::iter::once(head).chain(body).collect()
    }

    /// Every column that changes with `axis`, as points in its order; rows of the same place are averaged.
    pub(super) fn curves(&self, axis: &str) -> BTreeMap<String, Vec<(f64, f64)>> {
        let number = |row: &Vec<_>, column: &str| Self::cell(row, column)?.as_f64();
        let mut curves = BTreeMap::new();
        for column in self.columns().into_iter().filter(|column| *column != axis) {
            let mut points: Vec<(f64, Vec<f64>)> = Vec::new();
            for row in &self.rows {
                let Some((at, value)) = number(row, axis).zip(number(row, column)) else { continue };
                match points.iter_mut().find(|point| point.0 == at) {
                    Some((_, values)) => values.push(value),
                    None => points.push((at, vec![value])),
                }
            }
            let mean = |(at, values): (f64, Vec<f64>)| (at, values.iter().sum::<f64>() / values.len() as f64);
            let mut points: Vec<(f64, f64)> = points.into_iter().map(mean).collect();
            points.sort_by(|left, right| left.0.total_cmp(&right.0));
            if points.windows(2).any(|pair| pair[0].1 != pair[1].1) {
                curves.insert(column.to_owned(), points);
            }
        }
        curves
    }
}

fn find(title: &str, value: &Value, depth: usize, tables: &mut Vec<Table>) {
    let objects: Vec<&Map<String, Value>> = match value {
        Value::Object(object) => vec![object],
        Value::Array(values) => values.iter().filter_map(Value::as_object).collect(),
        _ => return,
    };
    let (mut rows, mut inner) = (Vec::new(), Vec::new());
    for (i, object) in objects.iter().enumerate() {
        let mut row = Vec::new();
        flatten("", object, &mut row, &mut |name, value| {
            let which =
                if objects.len() > 1 { format!("{title}, row {}: {name}", i + 1) } else { format!("{title}: {name}") };
            inner.push((which, value.clone()));
        });
        rows.push(row);
    }
    rows.retain(|row| !row.is_empty());
    if !rows.is_empty() {
        tables.push(Table { title: title.to_owned(), rows });
    }
    if depth > 0 {
        inner.iter().for_each(|(title, value)| find(title, value, depth - 1, tables));
    }
}

fn flatten(
    prefix: &str,
    object: &Map<String, Value>,
    row: &mut Vec<(String, Value)>,
    inner: &mut dyn FnMut(&str, &Value),
) {
    for (key, value) in object {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Object(object) => flatten(&name, object, row, inner),
            Value::Array(values) if values.iter().any(Value::is_object) => inner(&name, value),
            Value::Null => {}
            value => row.push((name, value.clone())),
        }
    }
}

/// A value in a cell.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => number.as_f64().map(rounded).unwrap_or_default(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Four significant digits, or fewer where those are all.
fn rounded(value: f64) -> String {
    let all = value.to_string();
    let significant = all.bytes().filter(u8::is_ascii_digit).skip_while(|digit| *digit == b'0').count();
    if significant <= 4 && (1e-4..1e6).contains(&value.abs()) {
        return all;
    }
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-4..1e6).contains(&size) => format!("{value:.3e}"),
        size => format!("{value:.*}", (3.0 - size.log10().floor()).clamp(0.0, 8.0) as usize),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_have_dotted_names_and_arrays_are_tables_of_their_own() {
        let value = json!([
            { "alpha": 1.0, "q": { "distance": 2.34567, "per": [{ "class": "a", "n": 1 }, { "class": "b", "n": 2 }] } },
            { "alpha": 2.0, "q": { "distance": 1.5 }, "note": "x", "seeds": [1, 2], "none": null },
        ]);
        let tables = Table::all("eval.json", &value);
        assert_eq!(tables.len(), 2);
        assert_eq!(tables[0].text()[0], ["alpha", "q.distance", "note", "seeds"]);
        assert_eq!(tables[0].text()[1], ["1", "2.346", "", ""]);
        assert_eq!(tables[0].text()[2], ["2", "1.5", "x", "1, 2"]);
        assert_eq!(tables[1].title, "eval.json, row 1: q.per");
        let both = Table::together(&[("first", &tables[0]), ("second", &tables[1])]);
        assert_eq!(both[0], ["run", "alpha", "q.distance", "note", "seeds", "class", "n"]);
        assert_eq!(both[4], ["second", "", "", "", "", "b", "2"]);
        assert_eq!(Table::all("one", &json!({ "a": { "b": 7 } }))[0].text()[1], ["a.b", "7"]);
        assert!(Table::all("none", &json!([1, 2])).is_empty() && Table::all("none", &json!("x")).is_empty());
    }

    #[test]
    fn curves_are_what_changes_and_means_of_the_same_place() {
        let value = json!([
            { "alpha": 2.0, "d": 3.0, "n": 5 },
            { "alpha": 1.0, "d": 1.0, "n": 5 },
            { "alpha": 2.0, "d": 5.0, "n": 5 },
        ]);
        let curves = Table::all("t", &value)[0].curves("alpha");
        assert_eq!(curves, BTreeMap::from([("d".to_owned(), vec![(1.0, 1.0), (2.0, 4.0)])]));
    }

    #[test]
    fn numbers_keep_four_digits() {
        for (value, expected) in
            [(0.0, "0"), (0.25, "0.25"), (0.86412, "0.8641"), (7.6312, "7.631"), (12345.6, "12346"), (1e-9, "1.000e-9")]
        {
            assert_eq!(rounded(value), expected);
        }
    }
}
