//! Curves as SVG.

use std::fmt::Write;

/// Size of one panel and the space that its labels take.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 52.0;
const TOP: f64 = 26.0;
const RIGHT: f64 = 12.0;
const BOTTOM: f64 = 24.0;
const COLUMNS: usize = 2;
/// Points that a curve is drawn with, at most; more are averaged in groups.
const POINTS: usize = 300;
const COLOURS: [&str; 6] = ["#1f6fb2", "#d1622b", "#3a8f4d", "#8a5bb0", "#b23a48", "#6b6b6b"];

/// A named curve: (step, value) in the order of the steps.
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// Curves that share their axes.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) curves: Vec<Curve>,
}

/// The panels side by side, two in a row.
pub(super) fn svg(panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * rows as f64);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"10\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (i, panel) in panels.iter().enumerate() {
        let (x, y) = ((i % COLUMNS) as f64 * WIDTH, (i / COLUMNS) as f64 * HEIGHT);
        let _ = writeln!(text, "<g transform=\"translate({x} {y})\">{}</g>", draw(panel));
    }
    text + "</svg>\n"
}

/// One panel by itself, without a ground; the colours of text without one are the page's.
pub(super) fn single(panel: &Panel) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"10\" role=\"img\" aria-label=\"{}\">{}</svg>",
        escape(&panel.title),
        draw(panel)
    )
}

fn draw(panel: &Panel) -> String {
    let curves: Vec<_> = panel.curves.iter().map(|curve| (curve.name.as_str(), thin(&curve.points))).collect();
    let all = || curves.iter().flat_map(|(_, points)| points);
    let (x, y) = (range(all().map(|point| point.0)), range(all().map(|point| point.1)));
    let place = |point: &(f64, f64)| {
        let across = LEFT + (point.0 - x.0) / (x.1 - x.0) * (WIDTH - LEFT - RIGHT);
        let down = HEIGHT - BOTTOM - (point.1 - y.0) / (y.1 - y.0) * (HEIGHT - TOP - BOTTOM);
        format!("{across:.1},{down:.1}")
    };
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let mut text = format!(
        "<text x=\"{LEFT}\" y=\"14\" font-weight=\"bold\">{}</text>\
         <path d=\"M{LEFT},{TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"#888888\"/>",
        escape(&panel.title)
    );
    for (value, down) in [(y.0, bottom), (y.1, TOP + 4.0)] {
        let _ = write!(text, "<text x=\"{}\" y=\"{down}\" text-anchor=\"end\">{}</text>", LEFT - 4.0, number(value));
    }
    for (value, across, anchor) in [(x.0, LEFT, "start"), (x.1, right, "end")] {
        let below = HEIGHT - 10.0;
        let _ = write!(text, "<text x=\"{across}\" y=\"{below}\" text-anchor=\"{anchor}\">{}</text>", number(value));
    }
    for (i, (name, points)) in curves.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let line: Vec<_> = points.iter().map(place).collect();
        let _ = write!(text, "<polyline fill=\"none\" stroke=\"{colour}\" points=\"{}\"/>", line.join(" "));
        if curves.len() > 1 {
            let down = TOP + 10.0 + 12.0 * i as f64;
            let _ = write!(
                text,
                "<text x=\"{}\" y=\"{down}\" text-anchor=\"end\" fill=\"{colour}\">{}</text>",
                right - 4.0,
                escape(name)
            );
        }
    }
    text
}

/// At most [`POINTS`] points, each the mean of as many neighbours; numbers that are not finite are left out.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<_> = points.iter().copied().filter(|point| point.0.is_finite() && point.1.is_finite()).collect();
    let mean = |group: &[(f64, f64)]| {
        let sum = group.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / group.len() as f64, sum.1 / group.len() as f64)
    };
    finite.chunks(finite.len().div_ceil(POINTS).max(1)).map(mean).collect()
}

/// Least and largest value, apart even where they are equal.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if high > low {
        (low, high)
    } else if low.is_finite() {
        (low - 0.5, low + 0.5)
    } else {
        (0.0, 1.0)
    }
}

/// Three significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.2e}"),
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(points: Vec<(f64, f64)>) -> Panel {
        Panel { title: "a < b".to_owned(), curves: vec![Curve { name: "loss".to_owned(), points }] }
    }

    #[test]
    fn a_curve_runs_from_corner_to_corner() {
        let text = svg(&[panel(vec![(0.0, 1.0), (5.0, 2.0), (10.0, 3.0)])]);
        assert!(text.contains("points=\"52.0,176.0 200.0,101.0 348.0,26.0\""), "{text}");
        assert!(text.contains("a &lt; b") && text.starts_with("<svg") && text.ends_with("</svg>\n"));
    }

    #[test]
    fn long_flat_and_broken_curves_are_drawn() {
        assert_eq!(thin(&(0..3000).map(|i| (f64::from(i), 1.0)).collect::<Vec<_>>()).len(), POINTS);
        let text = svg(&[panel(vec![(1.0, 2.0), (2.0, f64::NAN), (3.0, 2.0)]), panel(Vec::new())]);
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [(0.0, "0"), (1e-4, "1.00e-4"), (0.25, "0.2500"), (2.345, "2.35"), (900.0, "900")] {
            assert_eq!(number(value), expected);
        }
    }
}
