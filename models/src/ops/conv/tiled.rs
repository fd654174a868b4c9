//! Dense convolution of stride 1 on AMX.
//!
//! The pixels of a padded image, rounded, lie one after the other, row after row. The sixteen rows of a tile are neighbouring
//! pixels under one tap of the kernel; there are no patches. Where a row of the image ends, the pixels between it and the next are
//! computed like the others, and left out.

mod gradient;

use std::cell::RefCell;
use std::ops::Range;

use super::super::matmul::kernel::Place;
use super::super::matmul::packed::{COLUMNS, LANES, Line, Right, Unit, round};
use super::super::matmul::tiles::{ROWS, Rows, Tiles};
use super::super::matmul::{Matrix, Precision, precision};
use super::geometry::Geometry;
use crate::profile;

/// Numbers in a [`Line`].
const NUMBERS: usize = 2 * LANES;

/// The weights of a convolution: of each block of outputs, those of the first tap, of the second one, ...
#[derive(Clone, Debug)]
pub(in crate::ops) struct Tiled(Right);

thread_local! {
    static MEMORY: RefCell<Vec<Line>> = RefCell::default();
}

impl Tiled {
    /// Packs `[kernel, kernel, channels, outputs]`; nothing where products are not in bfloat16, there are no tiles, channels or
    /// outputs do not fill them, or too many pixels would be left out.
    pub(in crate::ops) fn new(g: &Geometry, weight: &[f32]) -> Option<Self> {
        let half = precision() == Precision::Bf16 && Unit::Tiles.is_best();
        (half && fits(g)).then(|| Self::packed(g, weight))
    }

    fn packed(g: &Geometry, weight: &[f32]) -> Self {
        Self(Right::new(Unit::Tiles, Matrix::new(weight, g.patch(), g.outputs)))
    }
}

fn fits(g: &Geometry) -> bool {
    let whole = g.channels.is_multiple_of(NUMBERS) && g.outputs.is_multiple_of(COLUMNS);
    let (pixels, computed) = (g.out_height * g.out_width, between(g, g.out_height).next_multiple_of(LANES));
    g.conv.stride == 1 && whole && 2 * computed <= 3 * pixels
}

/// Adds the weight gradient of some rows to `dw` as [`gradient::add_weight_gradient`] does, or gives false where products are not
/// in bfloat16, there are no tiles, or it is for others.
pub(super) fn add_weight_gradient(g: &Geometry, x: &[f32], dy: (usize, &[f32]), dw: &mut [f32]) -> bool {
    let ours = precision() == Precision::Bf16 && Unit::Tiles.is_best() && gradient::fits(g);
    if ours {
        gradient::add_weight_gradient(g, x, dy, dw);
    }
    ours
}

/// Pixels in a padded row.
fn width(g: &Geometry) -> usize {
    g.width + g.conv.padding.left + g.conv.padding.right
}

/// Pixels from the first one of the result to the last one, in so many rows of an image, with what is between rows.
fn between(g: &Geometry, rows: usize) -> usize {
    (rows - 1) * width(g) + g.out_width
}

/// Writes the output rows `rows`, counted through all images, to `y`.
pub(super) fn forward(g: &Geometry, (x, Tiled(weights)): (&[f32], &Tiled), rows: Range<usize>, y: &mut [f32]) {
    let _span = profile::span("tiled convolution").flops(2 * rows.len() * g.out_row() * g.patch());
    let (width, pixel) = (width(g), g.channels / NUMBERS);
    let taps = (0..g.kernel * g.kernel).map(|tap| tap / g.kernel * width + tap % g.kernel);
    let chunks: Vec<usize> = taps.flat_map(|tap| tap * pixel..(tap + 1) * pixel).map(|line| NUMBERS * line).collect();
    let tiles = Tiles::new();
    MEMORY.with_borrow_mut(|lines| {
        let mut first = rows.start;
        while first < rows.end {
            // Rows of one image.
            let (image, top) = (first / g.out_height, first % g.out_height);
            let count = (g.out_height - top).min(rows.end - first);
            let of_image = &mut y[(first - rows.start) * g.out_row()..][..count * g.out_row()];
            let needed = (between(g, count).next_multiple_of(ROWS) + (g.kernel - 1) * (width + 1)) * pixel;
            lines.resize(lines.len().max(needed), Line::default());
            pad(g, &x[image * g.image()..][..g.image()], top..top + count + g.kernel - 1, lines);
            Rectangle { g, weights, chunks: &chunks, lines, rows: count }.convolve(&tiles, of_image);
            first += count;
        }
    });
}

/// Rounds the padded rows `rows` of an image.
fn pad(g: &Geometry, image: &[f32], rows: Range<usize>, lines: &mut [Line]) {
    let pixel = g.channels / NUMBERS;
    for (y, to) in rows.zip(lines.chunks_exact_mut(width(g) * pixel)) {
        let Some(y) = y.checked_sub(g.conv.padding.top).filter(|y| *y < g.height) else {
            to.fill(Line::default());
            continue;
        };
        let (left, rest) = to.split_at_mut(g.conv.padding.left * pixel);
        let (pixels, right) = rest.split_at_mut(g.width * pixel);
        left.fill(Line::default());
        round(&image[y * g.row()..][..g.row()], pixels);
        right.fill(Line::default());
    }
}

/// Some rows of the result for one image.
struct Rectangle<'a> {
    g: &'a Geometry,
    weights: &'a Right,
    /// Where the numbers under the taps of the first pixel are.
    chunks: &'a [usize],
    /// Padded pixels.
    lines: &'a [Line],
    rows: usize,
}

impl Rectangle<'_> {
    fn convolve(&self, tiles: &Tiles, y: &mut [f32]) {
        let Self { g, weights, chunks, lines, rows } = *self;
        let (pixel, end) = (g.channels / NUMBERS, between(g, rows));
        for output in (0..g.outputs).step_by(COLUMNS) {
            let columns = weights.panel(output, 0, 0..chunks.len() * LANES);
            for first in (0..end).step_by(ROWS) {
                let lower = (first + LANES < end).then_some(LANES * pixel);
                let rows = Rows { lines: &lines[first * pixel..], row: pixel, lower, chunks };
                let mut sums = [0.0; ROWS * COLUMNS];
                tiles.multiply(
                    &rows,
                    columns,
                    &mut Place { values: &mut sums, stride: COLUMNS, add: false, scale: 1.0 },
                );
                self.write(&sums, first..end.min(first + ROWS), output, y);
            }
        }
    }

    /// Writes those of some pixels that are in the result.
    fn write(&self, sums: &[f32], pixels: Range<usize>, output: usize, y: &mut [f32]) {
        let (width, out_width, outputs) = (width(self.g), self.g.out_width, self.g.outputs);
        let (mut row, mut column) = (pixels.start / width, pixels.start % width);
        for sums in sums.chunks_exact(COLUMNS).take(pixels.len()) {
            if column < out_width {
                y[(row * out_width + column) * outputs + output..][..COLUMNS].copy_from_slice(sums);
            }
            column += 1;
            if column == width {
                (row, column) = (row + 1, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::matmul::bf16;
    use super::super::{Conv, Padding};
    use super::*;

    pub(super) fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let mut values: Vec<f32> =
            (0..count).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect();
        bf16::round(&mut values);
        values
    }

    /// By the definition.
    fn expected(g: &Geometry, x: &[f32], weight: &[f32]) -> Vec<f32> {
        let mut patches = vec![0.0; g.out_rows() * g.out_width * g.patch()];
        g.gather(x, 0, &mut patches);
        let products = patches.chunks_exact(g.patch()).flat_map(|patch| {
            (0..g.outputs).map(move |output| {
                let weights = weight[output..].iter().step_by(g.outputs);
                patch.iter().zip(weights).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>() as f32
            })
        });
        products.collect()
    }

    #[test]
    fn every_pixel_is_the_sum_of_its_patch() {
        if !Unit::Tiles.is_best() {
            return;
        }
        let uneven = Padding { top: 0, bottom: 2, left: 1, right: 0 };
        for (size, (kernel, outputs), padding) in [
            ((1, 1, 1, 32), (1, 32), 0.into()),
            ((2, 5, 33, 32), (3, 32), 1.into()),
            ((3, 8, 8, 64), (3, 64), 1.into()),
            ((1, 7, 16, 32), (5, 32), 2.into()),
            ((2, 9, 6, 32), (3, 96), uneven),
            ((1, 3, 40, 64), (1, 32), 0.into()),
        ] {
            let conv = Conv { padding, ..Conv::new(1, 0) };
            let g = Geometry::new(size, (kernel, kernel, size.3, outputs), conv).unwrap();
            let (x, weight) = (numbers(g.batch * g.image(), 1), numbers(g.patch() * outputs, 2));
            let (tiled, expected) = (Tiled::packed(&g, &weight), expected(&g, &x, &weight));
            // As many rows at a time as make tasks begin and end within images.
            for together in [1, 4, g.out_rows()] {
                for first in (0..g.out_rows()).step_by(together) {
                    let rows = first..g.out_rows().min(first + together);
                    let mut found = vec![f32::NAN; rows.len() * g.out_row()];
                    forward(&g, (&x, &tiled), rows.clone(), &mut found);
                    for (i, (found, expected)) in found.iter().zip(&expected[first * g.out_row()..]).enumerate() {
                        assert!((found - expected).abs() < 1e-4, "{size:?} {rows:?} {i}: {found} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn small_images_and_strides_are_left_to_others() {
        let geometry = |side, conv| Geometry::new((1, side, side, 32), (3, 3, 32, 32), conv).unwrap();
        assert!(fits(&geometry(8, Conv::new(1, 1))) && fits(&geometry(28, Conv::new(1, 1))));
        assert!(!fits(&geometry(4, Conv::new(1, 1))) && !fits(&geometry(28, Conv::new(2, 1))));
        let few = Geometry::new((1, 8, 8, 16), (3, 3, 16, 32), Conv::new(1, 1)).unwrap();
        assert!(!fits(&few));
    }
}
