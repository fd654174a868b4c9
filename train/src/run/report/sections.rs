//! The parts of the page.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::super::RunError;
use super::super::chart::{Curve, Panel};
use super::super::summary::{CURVES, panels_of};
use super::contents::{Contents, png};
use super::html::Html;
use super::tables::Table;

/// Sample grids of each run: the newest, and others spread over it.
const PICTURES: usize = 6;
/// Tables that are open; others are folded.
const OPEN: usize = 1;

fn named(name: &str, cells: impl IntoIterator<Item = String>) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(cells).collect()
}

fn short(hash: &str) -> String {
    hash.get(..12).unwrap_or(hash).to_owned()
}

/// What each run is and where it stands.
pub(super) fn overview(page: &mut Html, runs: &[Contents]) {
    let head = ["kind", "step", "of", "outcome", "parameters", "seed", "images"];
    let mut rows = vec![named("run", head.map(ToOwned::to_owned))];
    for run in runs {
        let record = run.record.as_ref();
        let last = record.and_then(|record| record.starts.last());
        let step = run.metrics.last().and_then(|line| line.get("step")).map(ToString::to_string);
        let cells = [
            record.map(|record| record.kind.clone()),
            step,
            run.settings.get("steps").cloned(),
            last.map(|start| start.outcome.clone().unwrap_or_else(|| "under way or killed".to_owned())),
            record.map(|record| record.facts.parameters.to_string()),
            record.map(|record| record.seed.to_string()),
            record.map(|record| record.facts.data_images.to_string()),
        ];
        rows.push(named(&run.name, cells.map(Option::unwrap_or_default)));
    }
    page.table(&rows);
}

/// Tables of the files `eval*.json`, and what changes with alpha.
pub(super) fn measurements<'a>(page: &mut Html, runs: &'a [Contents]) {
    if runs.iter().all(|run| run.tables.is_empty()) {
        return;
    }
    page.raw("<section><h2>Measurements</h2>\n");
    let mut curves: BTreeMap<String, Vec<Curve>> = BTreeMap::new();
    for run in runs {
        for table in &run.tables {
            for (title, points) in table.curves("alpha") {
                let name = if runs.len() > 1 { run.name.clone() } else { table.title.clone() };
                curves.entry(title).or_default().push(Curve { name, points });
            }
        }
    }
    let panels: Vec<Panel> =
        curves.into_iter().map(|(title, curves)| Panel { title: format!("{title} by alpha"), curves }).collect();
    plots(page, &panels);
    let mut titles: Vec<&str> = Vec::new();
    for table in runs.iter().flat_map(|run| &run.tables) {
        if !titles.contains(&table.title.as_str()) {
            titles.push(&table.title);
        }
    }
    for (i, title) in titles.into_iter().enumerate() {
        page.raw(if i < OPEN { "<details open><summary>" } else { "<details><summary>" })
            .text(title)
            .raw("</summary>\n");
        let of = |run: &'a Contents| Some((run.name.as_str(), run.tables.iter().find(|table| table.title == title)?));
        match runs.iter().filter_map(of).collect::<Vec<_>>().as_slice() {
            [(_, table)] if runs.len() == 1 => page.table(&table.text()),
            tables => page.table(&Table::together(tables)),
        };
        page.raw("</details>\n");
    }
    page.raw("</section>\n");
}

fn plots(page: &mut Html, panels: &[Panel]) {
    if panels.is_empty() {
        return;
    }
    page.raw("<div class=\"plots\">\n");
    for panel in panels {
        page.plot(panel).raw("\n");
    }
    page.raw("</div>\n");
}

/// Sample grids over time, and the other pictures of the folders.
pub(super) fn pictures(page: &mut Html, runs: &[Contents]) -> Result<(), RunError> {
    if runs.iter().all(|run| run.samples.is_empty() && run.pictures.is_empty()) {
        return Ok(());
    }
    page.raw("<section><h2>Pictures</h2>\n");
    let name = |path: &Path| path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if runs.len() > 1 {
        page.raw("<div class=\"beside\">\n");
        for run in runs {
            if let Some(newest) = run.samples.last() {
                page.picture(&png(newest)?, &format!("{}, {}", run.name, name(newest)));
            }
        }
        page.raw("</div>\n");
    }
    for run in runs {
        if runs.len() > 1 {
            page.raw("<details><summary>").text(&run.name).raw("</summary>\n");
        }
        page.raw("<div class=\"strip\">\n");
        for i in spread(run.samples.len()) {
            page.picture(&png(&run.samples[i])?, &name(&run.samples[i]));
        }
        page.raw("</div>\n");
        for path in &run.pictures {
            page.picture(&png(path)?, &name(path));
        }
        if runs.len() > 1 {
            page.raw("</details>\n");
        }
    }
    page.raw("</section>\n");
    Ok(())
}

/// The last of `count` things, and others down to the first.
fn spread(count: usize) -> Vec<usize> {
    let Some(last) = count.checked_sub(1) else { return Vec::new() };
    let mut chosen: Vec<usize> = (0..PICTURES).map(|i| last - i * last / (PICTURES - 1)).collect();
    chosen.dedup();
    chosen
}

/// Metrics and measurements on held-out images by step, those of all runs in one panel.
pub(super) fn curves(page: &mut Html, runs: &[Contents]) {
    let mut panels: BTreeMap<String, Vec<Curve>> = BTreeMap::new();
    // Some curves of each run where there are many.
    let most = (CURVES / runs.len()).max(1);
    for run in runs {
        let found = panels_of("", &run.metrics).into_iter().chain(panels_of("held out: ", &run.evaluations));
        for panel in found {
            let stride = panel.curves.len().div_ceil(most).max(1);
            for curve in panel.curves.into_iter().step_by(stride) {
                let name = match (runs.len(), curve.name.is_empty()) {
                    (1, _) => curve.name,
                    (_, true) => run.name.clone(),
                    (_, false) => format!("{}: {}", run.name, curve.name),
                };
                panels.entry(panel.title.clone()).or_default().push(Curve { name, ..curve });
            }
        }
    }
    let panels: Vec<Panel> = panels.into_iter().map(|(title, curves)| Panel { title, curves }).collect();
    if !panels.is_empty() {
        page.raw("<section><h2>Curves by step</h2>\n");
        plots(page, &panels);
        page.raw("</section>\n");
    }
}

/// The settings that differ between the runs, and all of them.
pub(super) fn settings(page: &mut Html, runs: &[Contents]) {
    page.raw("<section><h2>Settings</h2>\n");
    let keys: BTreeSet<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
    let value = |run: &Contents, key: &String| run.settings.get(key).cloned().unwrap_or_else(|| "default".to_owned());
    let head = named("setting", runs.iter().map(|run| run.name.clone()));
    let row = |key: &&String| named(key, runs.iter().map(|run| value(run, key)));
    let all: Vec<Vec<String>> = keys.iter().map(row).collect();
    if runs.len() > 1 {
        let differ: Vec<Vec<String>> =
            all.iter().filter(|row| row[2..].iter().any(|v| *v != row[1])).cloned().collect();
        if differ.is_empty() {
            page.raw("<p>No setting differs.</p>\n");
        } else {
            page.raw("<h3>Those that differ</h3>\n").table(&[vec![head.clone()], differ].concat());
        }
    }
    page.raw("<details><summary>All settings</summary>\n")
        .table(&[vec![head], all].concat())
        .raw("</details></section>\n");
}

/// Programs, machines, data and hashes.
pub(super) fn origin(page: &mut Html, runs: &[Contents]) {
    page.raw("<section><h2>Where it comes from</h2>\n");
    let head = ["steps", "started (UTC)", "outcome", "program", "compiler", "candle", "machine", "system", "command"];
    let mut starts = vec![named("run", head.map(ToOwned::to_owned))];
    let mut hashes = vec![named("run", ["what", "SHA-256"].map(ToOwned::to_owned))];
    for run in runs {
        if let Some(record) = &run.record {
            for start in &record.starts {
                let to = start.to_step.map_or_else(|| "?".to_owned(), |step| step.to_string());
                let dirty = if start.build.dirty { " with changes" } else { "" };
                let cells = [
                    format!("{} to {to}", start.from_step),
                    start.started.clone(),
                    start.outcome.clone().unwrap_or_else(|| "under way or killed".to_owned()),
                    format!("{} {}{dirty}", start.build.version, short(&start.build.commit)),
                    start.build.rustc.clone(),
                    start.build.candle.clone(),
                    format!("{}, {} cores", start.machine.cpu, start.machine.cores),
                    start.machine.os.clone(),
                    start.command.join(" "),
                ];
                starts.push(named(&run.name, cells));
            }
            let data = ("training images".to_owned(), record.facts.data_sha256.clone());
            let read = record.facts.weights.iter().map(|(file, hash)| (format!("{file} (read)"), hash.clone()));
            hashes.extend(std::iter::once(data).chain(read).map(|(what, hash)| named(&run.name, [what, hash])));
        }
        hashes.extend(run.weights.iter().map(|(file, hash)| named(&run.name, [file.clone(), hash.clone()])));
    }
    page.table(&starts).table(&hashes).raw("</section>\n");
}
