//! `RUN.md`: a run on one page, for whoever finds the folder.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use drifting_models::weights::write_bytes;
use serde_json::{Map, Value};

use super::changes::flat;
use super::chart::{Curve, Panel, svg};
use super::record::{RunJson, Start};
use super::{RunError, RunFolder, lines};
use crate::config::RunSettings;

/// Curves that one panel has room for.
pub(super) const CURVES: usize = 6;
/// Pictures that the page shows: the newest, and others spread over the run.
const PICTURES: usize = 3;
/// Figures that no curve is drawn of.
const NO_CURVE: [&str; 4] = ["step", "images", "seconds_per_step", "data_wait_seconds"];

/// Writes the page and its curves; the path of the page.
pub(super) fn write(folder: &RunFolder, settings: &dyn RunSettings) -> Result<PathBuf, RunError> {
    let (metrics, evaluations) = (lines::read(&folder.metrics())?, lines::read(&folder.evaluations())?);
    let curves = folder.path().join("curves.svg");
    let panels: Vec<_> = panels(&metrics).into_iter().chain(panels_of("held out: ", &evaluations)).collect();
    write_bytes(&curves, svg(&panels).as_bytes())?;

    let mut page = head(settings, folder.record()?.as_ref());
    page += &table("Last figures", "figure", &metrics.last().map(numbers).unwrap_or_default());
    page += &table("On held-out images", "measurement", &evaluations.last().map(numbers).unwrap_or_default());
    page += "## Curves\n\n![curves](curves.svg)\n\n";
    page += &pictures(&folder.pictures()?);
    let toml = settings.to_toml()?;
    let flat = flat(&toml).map_err(|error| RunError::file(folder.path(), error.to_string()))?;
    page += &table("Settings", "setting", &flat.into_iter().collect::<Vec<_>>());
    page += &reproduce(folder.path(), settings);
    let path = folder.path().join("RUN.md");
    write_bytes(&path, page.as_bytes())?;
    Ok(path)
}

fn head(settings: &dyn RunSettings, run: Option<&RunJson>) -> String {
    let mut page = format!("# {} ({})\n\n", settings.name(), settings.kind());
    let Some(RunJson { facts, starts, .. }) = run else { return page };
    if let Some(Start { to_step: Some(step), outcome: Some(outcome), .. }) = starts.last() {
        let _ = writeln!(page, "{step} of {} steps; {outcome}.\n", settings.steps());
    }
    let _ = writeln!(page, "- {} parameters, seed {}", facts.parameters, settings.seed());
    let classes = facts.data_classes.len();
    let _ = writeln!(page, "- {} images of {classes} classes, SHA-256 `{}`", facts.data_images, facts.data_sha256);
    for (file, hash) in &facts.weights {
        let _ = writeln!(page, "- weights `{file}`, SHA-256 `{hash}`");
    }
    page += "\n| from step | to step | started (UTC) | stopped (UTC) | outcome | program | machine |\n|---|---|---|---|---|---|---|\n";
    for start in starts {
        let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "killed".to_owned());
        let to = start.to_step.map_or_else(|| "?".to_owned(), |step| step.to_string());
        let dirty = if start.build.dirty { " with changes" } else { "" };
        let commit = start.build.commit.get(..12).unwrap_or(&start.build.commit);
        let _ = writeln!(
            page,
            "| {} | {to} | {} | {} | {} | {} {commit}{dirty} | {}, {} cores |",
            start.from_step,
            start.started,
            or(&start.stopped),
            cell(&or(&start.outcome)),
            start.build.version,
            start.machine.cpu,
            start.machine.cores,
        );
    }
    page + "\n"
}

fn table(title: &str, column: &str, rows: &[(String, String)]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = format!("## {title}\n\n| {column} | value |\n|---|---|\n");
    for (key, value) in rows {
        let _ = writeln!(text, "| `{key}` | {} |", cell(value));
    }
    text + "\n"
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// The newest picture first, then others spread over the run.
fn pictures(all: &[PathBuf]) -> String {
    let Some(last) = all.len().checked_sub(1) else { return String::new() };
    let mut chosen: Vec<usize> = (0..PICTURES).map(|i| last - i * last / (PICTURES - 1)).collect();
    chosen.dedup();
    let mut text = "## Pictures\n\n".to_owned();
    for name in chosen.into_iter().filter_map(|i| all[i].file_name()?.to_str()) {
        let _ = writeln!(text, "![{name}](samples/{name})\n");
    }
    text
}

fn reproduce(folder: &Path, settings: &dyn RunSettings) -> String {
    let name = folder.file_name().map_or_else(|| settings.name().into(), |name| name.to_string_lossy());
    format!(
        "## To reproduce\n\n`config.toml` holds every setting. A new run from it ends with the same bytes on the same \
         machine and program:\n\n```sh\ndrifting train {name}/config.toml --out {name}-again\n```\n\n\
         `run.json` names data, weights, program and machine; `metrics.jsonl` has the figures of every line.\n"
    )
}

/// The numbers of a line by their dotted names.
fn numbers(line: &Map<String, Value>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    leaves("", line, &mut |name, value| found.push((name.to_owned(), value.to_string())));
    found
}

fn leaves(prefix: &str, map: &Map<String, Value>, tell: &mut dyn FnMut(&str, f64)) {
    for (key, value) in map {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Object(inner) => leaves(&name, inner, tell),
            value => {
                if let Some(number) = value.as_f64() {
                    tell(&name, number);
                }
            }
        }
    }
}

fn panels(lines: &[Map<String, Value>]) -> Vec<Panel> {
    panels_of("", lines)
}

/// One panel for the figures that share their last name, a curve for each.
pub(super) fn panels_of(prefix: &str, lines: &[Map<String, Value>]) -> Vec<Panel> {
    let mut curves: BTreeMap<String, BTreeMap<String, Vec<(f64, f64)>>> = BTreeMap::new();
    for line in lines {
        let step = line.get("step").and_then(Value::as_f64).unwrap_or_default();
        leaves("", line, &mut |name, value| {
            let (group, figure) = name.rsplit_once('.').unwrap_or(("", name));
            if !NO_CURVE.contains(&figure) {
                let panel = curves.entry(figure.to_owned()).or_default();
                panel.entry(group.to_owned()).or_default().push((step, value));
            }
        });
    }
    let panel = |(figure, found): (String, BTreeMap<String, Vec<(f64, f64)>>)| {
        // With many keys: some of each end.
        let stride = found.len().div_ceil(CURVES).max(1);
        let curves = found.into_iter().step_by(stride).map(|(name, points)| Curve { name, points }).collect();
        Panel { title: format!("{prefix}{figure}"), curves }
    };
    curves.into_iter().map(panel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_one_name_share_a_panel() {
        let line = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let lines = [
            line(r#"{"step":1,"lr":0.5,"keys":{"a":{"scale":2,"drift":[1,2]},"b":{"scale":3}}}"#),
            line(r#"{"step":2,"lr":0.6,"keys":{"a":{"scale":1},"b":{"scale":2}}}"#),
        ];
        let found = panels(&lines);
        let titles: Vec<_> = found.iter().map(|panel| (panel.title.as_str(), panel.curves.len())).collect();
        assert_eq!(titles, [("lr", 1), ("scale", 2)]);
        assert_eq!(found[1].curves[1].points, [(1.0, 3.0), (2.0, 2.0)]);
        assert_eq!(numbers(&lines[1])[0], ("keys.a.scale".to_owned(), "1".to_owned()));
    }

    #[test]
    fn the_newest_picture_comes_first() {
        let all: Vec<_> = (1..=9).map(|i| PathBuf::from(format!("step_{i}.png"))).collect();
        let text = pictures(&all);
        let order: Vec<_> = ["step_9", "step_5", "step_1"].iter().map(|name| text.find(name).unwrap()).collect();
        assert!(order.is_sorted(), "{text}");
        assert_eq!(pictures(&all[..1]).matches("![").count(), 1);
    }
}
