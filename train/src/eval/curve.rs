//! What guidance trades: figures over alpha, as a table and as a picture.

use super::Evaluation;
use super::figure::number;
use crate::canvas::{Canvas, Colour, Place, TEXT_HEIGHT, TEXT_WIDTH};

/// Size of one panel and the space that its labels take.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 32.0;
const BOTTOM: f64 = 30.0;
const COLUMNS: usize = 2;

const LINE: Colour = [31, 111, 178];
const FLOOR: Colour = [209, 98, 43];
const TEXT: Colour = [60, 60, 60];
const AXIS: Colour = [136, 136, 136];

/// One figure over alpha, in the order of alpha.
struct Row<'a> {
    name: &'a str,
    /// (alpha, value)
    points: Vec<(f64, f64)>,
    floor: Option<f64>,
}

/// The figures of evaluations that differ in alpha.
fn rows(evaluations: &[Evaluation]) -> Vec<Row<'_>> {
    let first = evaluations.first().into_iter().flat_map(|first| &first.figures);
    let row = |figure: &'_ super::Figure| {
        let point = |of: &Evaluation| {
            let value = of.figures.iter().find(|other| other.name == figure.name)?.value;
            Some((f64::from(of.provenance.alpha?), value))
        };
        let mut points: Vec<_> = evaluations.iter().filter_map(point).collect();
        points.sort_by(|left, right| left.0.total_cmp(&right.0));
        points
    };
    first.map(|figure| Row { name: &figure.name, points: row(figure), floor: figure.floor }).collect()
}

/// A table with a line for each alpha.
#[must_use]
pub fn sweep(evaluations: &[Evaluation]) -> String {
    let rows = rows(evaluations);
    let width = |row: &Row<'_>| row.name.chars().count().max(9);
    let mut text = format!("{:>7}", "alpha");
    rows.iter().for_each(|row| text += &format!("  {:>1$}", row.name, width(row)));
    for (line, (alpha, _)) in rows.iter().flat_map(|row| &row.points).take(evaluations.len()).enumerate() {
        text += &format!("\n{:>7}", number(*alpha));
        for row in &rows {
            let value = row.points.get(line).map(|(_, value)| number(*value)).unwrap_or_default();
            text += &format!("  {value:>0$}", width(row));
        }
    }
    text
}

/// The figures over alpha as PNG, each with that of real images as a straight line; `None` for fewer than two values of
/// alpha.
#[must_use]
pub fn curve(evaluations: &[Evaluation]) -> Option<Vec<u8>> {
    let rows = rows(evaluations);
    let points = &rows.first()?.points;
    if points.first()?.0 >= points.last()?.0 {
        return None;
    }
    let lines = rows.len().div_ceil(COLUMNS);
    let mut canvas = Canvas::white(WIDTH as usize * COLUMNS, HEIGHT as usize * lines);
    for (number, row) in rows.iter().enumerate() {
        let corner = [(number % COLUMNS) as f64 * WIDTH, (number / COLUMNS) as f64 * HEIGHT];
        draw(&mut canvas, corner, row);
    }
    canvas.png()
}

fn draw(canvas: &mut Canvas, [left, top]: Place, row: &Row<'_>) {
    let values = row.points.iter().map(|point| point.1).chain(row.floor);
    let (low, high) = range(values);
    let (first, last) = (row.points[0].0, row.points[row.points.len() - 1].0);
    let place = |(alpha, value): (f64, f64)| {
        let across = left + LEFT + (alpha - first) / (last - first) * (WIDTH - LEFT - RIGHT);
        [across, top + HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)]
    };
    let corners = [(first, high), (first, low), (last, low)].map(place);
    canvas.line([corners[0], corners[1]], 1.0, AXIS);
    canvas.line([corners[1], corners[2]], 1.0, AXIS);
    let name = format!("{} over alpha", row.name);
    canvas.text([left + LEFT, top + 10.0], &name, TEXT);
    for (value, [_, down]) in [(low, corners[1]), (high, corners[0])] {
        let label = number(value);
        let across = left + LEFT - 8.0 - TEXT_WIDTH * label.chars().count() as f64;
        canvas.text([across, down - TEXT_HEIGHT / 2.0], &label, TEXT);
    }
    for (alpha, [across, down]) in [(first, corners[1]), (last, corners[2])] {
        let label = number(alpha);
        let middle = across - TEXT_WIDTH * label.chars().count() as f64 / 2.0;
        canvas.text([middle.min(left + WIDTH - 40.0), down + 8.0], &label, TEXT);
    }
    if let Some(floor) = row.floor {
        canvas.line([place((first, floor)), place((last, floor))], 2.0, FLOOR);
        let [across, down] = place((last, floor));
        canvas.text([across - 4.0 * TEXT_WIDTH, down - TEXT_HEIGHT - 3.0], "real", FLOOR);
    }
    for pair in row.points.windows(2) {
        canvas.line([place(pair[0]), place(pair[1])], 2.0, LINE);
    }
    row.points.iter().for_each(|point| canvas.disc(place(*point), 3.0, LINE, 1.0));
}

/// Least and largest value, apart even where they are equal.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if high > low { (low, high) } else { (low - 0.5, low + 0.5) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::contract::tests::contract;
    use crate::eval::{Better, Figure, Provenance};

    fn evaluation(alpha: f32, values: [f64; 2]) -> Evaluation {
        let network = crate::eval::contract::tests::Plain { features: 6, classes: 2 };
        let figure = |name: &str, value| Figure::new(&network, (name, value), Better::Lower, 10);
        let figures = vec![Figure { floor: Some(0.5), ..figure("fd-plain", values[0]) }, figure("accuracy", values[1])];
        let provenance = Provenance { alpha: Some(alpha), ..Provenance::default() };
        Evaluation::new(contract(), provenance, figures, Vec::new())
    }

    #[test]
    fn a_sweep_is_told_in_the_order_of_alpha() {
        let table = sweep(&[evaluation(2.0, [3.0, 0.75]), evaluation(1.0, [1.5, 0.5])]);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines,
            [["alpha", "fd-plain", "accuracy"], ["1.000", "1.500", "0.5000"], ["2.000", "3.000", "0.7500"]]
        );
    }

    #[test]
    fn a_curve_needs_two_alphas_and_shows_its_points() {
        assert!(curve(&[]).is_none() && curve(&[evaluation(1.0, [1.0, 1.0])]).is_none());
        let same = evaluation(1.0, [1.0, 1.0]);
        assert!(curve(&[same.clone(), same]).is_none());
        let png = curve(&[evaluation(1.0, [1.5, 0.5]), evaluation(2.0, [3.0, 0.5])]).unwrap();
        let image = image::load_from_memory(&png).unwrap().into_rgb8();
        assert_eq!(image.dimensions(), (2 * WIDTH as u32, HEIGHT as u32));
        // The largest value lies in the upper right corner of the first panel, the floor along its bottom.
        assert_eq!(image.get_pixel((WIDTH - RIGHT) as u32, TOP as u32).0, LINE);
        assert!(image.pixels().filter(|pixel| pixel.0 == FLOOR).count() > 200);
    }
}
