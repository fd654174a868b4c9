//! A run, or several side by side, as one page of HTML that needs no other file, no network and no scripts.

mod contents;
mod html;
mod sections;
mod tables;
#[cfg(test)]
mod tests;

use super::{RunError, RunFolder};
use contents::Contents;
use html::Html;

/// The page about `runs`, in their order.
///
/// # Errors
/// No runs; files of a folder that cannot be read or are not what their names say.
pub fn report(runs: &[RunFolder]) -> Result<String, RunError> {
    let mut contents: Vec<Contents> = Vec::new();
    for run in runs {
        // The names of folders, and whole paths where these are the same.
        let base = |run: &RunFolder| run.path().file_name().map(|name| name.to_string_lossy().into_owned());
        let alone = runs.iter().filter(|other| base(other) == base(run)).count() == 1;
        let path = || run.path().display().to_string();
        let name = base(run).filter(|_| alone).unwrap_or_else(path);
        contents.push(Contents::read(run, name)?);
    }
    if contents.is_empty() {
        return Err(RunError::file("report".as_ref(), "no run to report on".to_owned()));
    }
    let title = contents.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut page = Html::default();
    page.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>").text(&title);
    page.raw("</title>\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>\n");
    page.raw(include_str!("report.css")).raw("</style>\n</head>\n<body>\n<main>\n<h1>").text(&title).raw("</h1>\n");
    sections::overview(&mut page, &contents);
    sections::measurements(&mut page, &contents);
    sections::pictures(&mut page, &contents)?;
    sections::curves(&mut page, &contents);
    sections::settings(&mut page, &contents);
    sections::origin(&mut page, &contents);
    page.raw("</main>\n</body>\n</html>\n");
    Ok(page.finish())
}
