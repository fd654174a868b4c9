//! README.md claims no figure that the evidence does not hold.
//!
//! A list item, and else a whole section, is held together: each measured figure in it (a number with a decimal point, an exponent or a
//! unit) must be a number of a page in docs/ that it links to, or of a page that this one links to, to the digits that are
//! claimed. What links to no page in docs/evidence/ may name the test that holds its figures instead.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::path::{Path, PathBuf};

/// Sizes in megabytes of what comes with the program, which the files themselves show.
const SIZES: [(&str, &str); 1] = [("6", "assets/fashion.safetensors")];

/// What makes a whole number a measured figure.
const UNITS: [&str; 8] = ["%", "ms", "minutes", "hours", "times", "images/s", "MB", "GB"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// A number as it is written.
#[derive(Clone, Debug, PartialEq)]
struct Figure {
    text: String,
    value: f64,
    /// Half of the last digit's place.
    slack: f64,
}

impl Figure {
    fn new(text: &str) -> Option<Self> {
        let value = text.parse().ok()?;
        let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let decimals = digits.split_once('.').map_or(0, |(_, decimals)| decimals.len()) as i32;
        let slack = 0.5 * 10f64.powi(exponent.parse::<i32>().ok()? - decimals);
        Some(Self { text: text.to_owned(), value, slack })
    }

    /// Whether `found` is this figure with as many digits or more; a share may be a percentage.
    fn is(&self, found: f64) -> bool {
        [found, 100.0 * found].iter().any(|found| (found - self.value).abs() <= self.slack * (1.0 + 1e-6))
    }
}

/// The text without code, the targets of links and the text of links that lead away.
fn prose(text: &str) -> String {
    let outside: String = text.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    let mut prose = String::new();
    let mut rest = outside.as_str();
    while let Some((before, after)) = rest.split_once('[') {
        let Some(((words, target), left)) = after
            .split_once("](")
            .and_then(|(words, after)| Some(((words, after.split_once(')')?.0), after.split_once(')')?.1)))
        else {
            break;
        };
        prose += before;
        prose += if target.contains("://") { " " } else { words };
        rest = left;
    }
    prose + rest
}

/// Words that hold a number, and whether they do.
fn numbers(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let starts = |at: usize| {
        let before = text[..at].chars().next_back();
        text.as_bytes()[at].is_ascii_digit() && !before.is_some_and(|c| c.is_alphanumeric() || "._-".contains(c))
    };
    let mut at = 0;
    while at < text.len() {
        if !text.is_char_boundary(at) || !starts(at) {
            at += 1;
            continue;
        }
        let end =
            text[at..].find(|c: char| !(c.is_alphanumeric() || "._-".contains(c))).map_or(text.len(), |end| at + end);
        let word = text[at..end].trim_end_matches(['.', '-', '_']);
        found.push((word, &text[at + word.len()..]));
        at = end;
    }
    found
}

/// The figures of a text that something must have measured.
fn claims(text: &str) -> Vec<Figure> {
    let prose = prose(text).replace('\n', " ");
    let numbers = numbers(&prose);
    let has_unit = |after: &str| {
        let after = after.trim_start();
        UNITS.iter().any(|unit| after.strip_prefix(unit).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric)))
    };
    let measured = numbers.iter().filter(|(word, after)| word.contains(['.', 'e']) || has_unit(after));
    measured.filter_map(|(word, _)| Figure::new(word)).collect()
}

/// The numbers of a file.
fn evidence(text: &str) -> Vec<f64> {
    let plain = text.replace(['`', '*', '+'], " ");
    let words = plain.split(|c: char| !(c.is_alphanumeric() || "._-,".contains(c)));
    // Thousands may be set apart; a comma may also end a word.
    words
        .map(|word| word.trim_matches([',', '.']).trim_end_matches('s').replace(',', ""))
        .filter_map(|word| word.parse().ok())
        .filter(|value: &f64| value.is_finite())
        .collect()
}

/// Relative links of a Markdown text.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|after| after.split(')').next());
    targets.map(|target| target.split('#').next().unwrap_or(target)).filter(|target| !target.contains("://")).collect()
}

/// What is wrong with a text whose links are relative to `folder`.
fn problems(text: &str, folder: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    for section in text.split("\n## ") {
        let (items, rest): (Vec<&str>, Vec<&str>) =
            section.split("\n\n").flat_map(blocks).partition(|block| block.starts_with("- "));
        for unit in items.into_iter().map(ToOwned::to_owned).chain([rest.join("\n\n")]) {
            check(&unit, folder, &mut problems);
        }
    }
    problems
}

/// A paragraph, or the items of a list.
fn blocks(paragraph: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = paragraph.match_indices("\n- ").map(|(at, _)| at + 1).collect();
    starts.insert(0, 0);
    let ends = starts[1..].iter().copied().chain([paragraph.len()]);
    starts.iter().zip(ends).map(|(start, end)| &paragraph[*start..end]).collect()
}

fn check(unit: &str, folder: &Path, problems: &mut Vec<String>) {
    let is_page = |path: &Path| path.extension().is_some_and(|extension| extension == "md");
    let (mut found, mut linked, mut measured) = (Vec::new(), false, false);
    for link in links(unit).into_iter().filter(|link| link.starts_with("docs/")) {
        let path = folder.join(link);
        if !path.exists() {
            problems.push(format!("{link} is not there"));
        }
        if is_page(&path) {
            linked = true;
            measured |= link.starts_with("docs/evidence/");
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            found.extend(evidence(&text));
            // Raw results hold so many numbers that every claim would be among them.
            let beside = links(&text).into_iter().map(|link| path.with_file_name(link)).filter(|path| is_page(path));
            found.extend(beside.filter_map(|path| std::fs::read_to_string(path).ok()).flat_map(|text| evidence(&text)));
        }
    }
    if unit.contains("`cargo test") && !measured {
        return;
    }
    let weighed = |claim: &Figure| {
        let size = SIZES.iter().find(|(size, _)| *size == claim.text && unit.contains(&format!("{size} MB")))?;
        Some(claim.is(std::fs::metadata(folder.join(size.1)).ok()?.len() as f64 / 1e6))
    };
    for claim in claims(unit).into_iter().filter(|claim| !found.iter().any(|found| claim.is(*found))) {
        let line = unit.lines().find(|line| line.contains(&claim.text)).unwrap_or_default();
        if weighed(&claim) == Some(true) {
            continue;
        }
        let problem = if linked { "is in no page that is linked to" } else { "has no link to its evidence" };
        problems.push(format!("{} {problem}: {line}", claim.text));
    }
}

#[test]
fn every_figure_of_the_readme_is_in_the_evidence() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let problems = problems(&readme, &root());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn figures_are_numbers_with_a_point_an_exponent_or_a_unit() {
    let texts = |text: &str| claims(text).into_iter().map(|claim| claim.text).collect::<Vec<_>>();
    assert_eq!(
        texts("2.4, 3.8 and 20 times as fast, 86.4 %, 7 ms; to 2e-5."),
        ["2.4", "3.8", "20", "86.4", "7", "2e-5"]
    );
    assert_eq!(
        texts("5,000 pictures, version 1.7.1, `0.5`, eq. 3, latent-B/2, [arXiv 2602.04770](https://x/1.5)"),
        [""; 0]
    );
}

#[test]
fn a_claim_is_found_to_the_digits_that_it_has() {
    let figure = |text| Figure::new(text).unwrap();
    assert!(figure("1.7").is(1.74) && figure("1.7").is(1.65) && !figure("1.7").is(1.76) && figure("94.5").is(0.945));
    assert!(figure("2.3e-3").is(0.00229) && !figure("2.3e-3").is(0.0024) && !figure("110").is(111.0));
    assert_eq!(evidence("1,234.5 images; +0.34 ms, `7e-2`, 12s"), [1234.5, 0.34, 0.07, 12.0]);
}

#[test]
fn what_is_not_held_by_its_evidence_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("docs")).unwrap();
    std::fs::create_dir(folder.path().join("docs/evidence")).unwrap();
    let write = |file: &str, text: &str| std::fs::write(folder.path().join("docs").join(file), text).unwrap();
    write("a.md", "took 4.62 minutes ([more](b.md), [raw](a.json))");
    write("b.md", "| 0.8641 |");
    write("a.json", "[5.5]");
    write("evidence/c.md", "7.0 ms");
    let told = |text: &str| problems(text, folder.path());
    assert!(told("4.6 minutes, 86.4 % ([all](docs/a.md))").is_empty());
    assert!(told("Words.\n\n| 4.6 minutes |\n\n([all](docs/a.md))").is_empty());
    assert!(told("- to 1e-4: `cargo test --release`").is_empty());
    assert_eq!(told("4.7 minutes ([all](docs/a.md))").len(), 1);
    assert_eq!(told("4.6 minutes\n\n## Next\n\n([all](docs/a.md))").len(), 1);
    assert_eq!(told("- 4.6 minutes\n- ([all](docs/a.md))").len(), 1);
    assert_eq!(told("5.5 ms ([all](docs/a.md))").len(), 1, "raw results do not count");
    assert!(told("- to 1e-4 ([why](docs/a.md)): `cargo test --release`").is_empty());
    assert!(told("- 7 ms ([how](docs/evidence/c.md)): `cargo test --release`").is_empty());
    assert_eq!(told("- 8 ms ([how](docs/evidence/c.md)): `cargo test --release`").len(), 1);
    assert_eq!(told("[gone](docs/d.md)"), ["docs/d.md is not there"]);
}
