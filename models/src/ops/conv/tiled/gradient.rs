//! The weight gradient of a dense convolution of stride 1 on AMX.
//!
//! It is a product with the pixels for inner dimension: that of the images, turned so that the pixels of a channel lie one after the
//! other, with the gradient of the result, which has zeros where one row of the images goes over to the next. A tap of the
//! kernel is a place at which the tiles of the turned images begin; there are no patches.

use std::cell::RefCell;

use super::super::super::matmul::kernel::Place;
use super::super::super::matmul::packed::{COLUMNS, LANES, Line, Right, some, turn};
use super::super::super::matmul::tiles::{Rows, Tiles};
use super::super::geometry::Geometry;
use super::{NUMBERS, between, width};
use crate::profile;

/// Chunks of [`NUMBERS`] pixels that are worked together: those of a panel and of as many channels stay in the nearest cache.
const CHUNKS: usize = 12;
/// Memory of images that are worked together, in bytes.
const MEMORY: usize = 512 << 10;

thread_local! {
    static SCRATCH: RefCell<(Vec<Line>, Right)> = RefCell::default();
}

/// Some rows of the result for one image.
#[derive(Clone, Copy, Debug)]
struct Part {
    image: usize,
    top: usize,
    rows: usize,
    /// Where its gradient begins.
    gradient: usize,
}

/// Whether [`add_weight_gradient`] is for such a convolution.
pub(in super::super) fn fits(g: &Geometry) -> bool {
    let whole = g.channels.is_multiple_of(LANES) && g.outputs.is_multiple_of(COLUMNS);
    let (pixels, computed) = (g.out_height * g.out_width, between(g, g.out_height).next_multiple_of(NUMBERS));
    g.conv.stride == 1 && whole && computed <= 2 * pixels
}

/// Adds the weight gradient `[kernel, kernel, channels, outputs]` of the output rows from `first` on, whose gradient is `dy`, to
/// `dw`.
pub(in super::super) fn add_weight_gradient(g: &Geometry, x: &[f32], (first, dy): (usize, &[f32]), dw: &mut [f32]) {
    let _span = profile::span("tiled weight gradient").flops(2 * dy.len() * g.patch());
    let end = first + dy.len() / g.out_row();
    let (mut parts, mut row) = (Vec::new(), first);
    while row < end {
        let (image, top) = (row / g.out_height, row % g.out_height);
        let rows = (g.out_height - top).min(end - row);
        parts.push(Part { image, top, rows, gradient: (row - first) * g.out_row() });
        row += rows;
    }
    let tiles = Tiles::new();
    let each = size_of::<Line>() * (lines(g, g.out_height) * g.channels + chunks(g, g.out_height) * g.outputs);
    SCRATCH.with_borrow_mut(|(turned, gradients)| {
        for parts in parts.chunks((MEMORY / each).max(1)) {
            let images = Turned::new(g, x, parts, turned);
            images.pack_gradients(dy, gradients);
            images.multiply(&tiles, gradients, dw);
        }
    });
}

/// Chunks of pixels of so many rows.
fn chunks(g: &Geometry, rows: usize) -> usize {
    between(g, rows).div_ceil(NUMBERS)
}

/// Lines that a channel takes of so many rows, with what is under the last taps of the last chunk.
fn lines(g: &Geometry, rows: usize) -> usize {
    (chunks(g, rows) * NUMBERS + (g.kernel - 1) * (width(g) + 1)).div_ceil(NUMBERS)
}

/// Padded images, rounded: `[channels, parts, lines]`.
struct Turned<'a> {
    g: &'a Geometry,
    parts: &'a [Part],
    lines: &'a [Line],
    /// Lines from a channel to the next.
    channel: usize,
    /// Where the chunks of the first channel begin, under the first tap.
    chunks: Vec<usize>,
}

impl<'a> Turned<'a> {
    fn new(g: &'a Geometry, x: &[f32], parts: &'a [Part], memory: &'a mut Vec<Line>) -> Self {
        // An odd number: the lines of sixteen channels would drive each other out of the cache.
        let channel = parts.iter().map(|part| lines(g, part.rows)).sum::<usize>() | 1;
        let memory = some(memory, channel * g.channels);
        let (mut begin, mut begins) = (0, Vec::new());
        for part in parts {
            let pixels: Vec<_> = (0..lines(g, part.rows) * NUMBERS).map(|pixel| place(g, part, pixel)).collect();
            for (line, pixels) in pixels.chunks_exact(NUMBERS).enumerate() {
                for first in (0..g.channels).step_by(LANES) {
                    let pixel = |pixel: usize| match pixels[pixel] {
                        Some(place) => &x[place + first..][..LANES],
                        None => &[],
                    };
                    turn(pixel, &mut memory[first * channel + begin + line..], channel);
                }
            }
            begins.extend((0..chunks(g, part.rows)).map(|chunk| NUMBERS * (begin + chunk)));
            begin += lines(g, part.rows);
        }
        Self { g, parts, lines: memory, channel, chunks: begins }
    }

    /// Packs the gradients of the parts, pixel by pixel as the images lie.
    fn pack_gradients(&self, dy: &[f32], to: &mut Right) {
        let Self { g, parts, .. } = self;
        let places = parts.iter().flat_map(|part| {
            (0..chunks(g, part.rows) * NUMBERS).map(|pixel| {
                let (row, column) = (pixel / width(g), pixel % width(g));
                let there = row < part.rows && column < g.out_width;
                there.then_some(part.gradient + row * g.out_row() + column * g.outputs)
            })
        });
        let places: Vec<Option<usize>> = places.collect();
        to.pack_rows(places.len(), g.outputs, |pixel| match places[pixel] {
            Some(place) => &dy[place..][..g.outputs],
            None => &[],
        });
    }

    fn multiply(&self, tiles: &Tiles, gradients: &Right, dw: &mut [f32]) {
        let Self { g, lines, channel, chunks, .. } = self;
        for (group, chunks) in chunks.chunks(CHUNKS).enumerate() {
            let pairs = group * CHUNKS * LANES..(group * CHUNKS + chunks.len()) * LANES;
            let taps = (0..g.kernel * g.kernel).map(|tap| tap / g.kernel * width(g) + tap % g.kernel);
            let taps: Vec<Vec<usize>> = taps.map(|tap| chunks.iter().map(|chunk| chunk + tap).collect()).collect();
            for output in (0..g.outputs).step_by(COLUMNS) {
                let columns = gradients.panel(output, 0, pairs.clone());
                for first in (0..g.channels).step_by(2 * LANES) {
                    let lower = (first + LANES < g.channels).then_some(LANES * channel);
                    for (tap, chunks) in taps.iter().enumerate() {
                        let rows = Rows { lines: &lines[first * channel..], row: *channel, lower, chunks };
                        let values = &mut dw[(tap * g.channels + first) * g.outputs + output..];
                        let mut to = Place { values, stride: g.outputs, add: true, scale: 1.0 };
                        tiles.multiply(&rows, columns, &mut to);
                    }
                }
            }
        }
    }
}

/// Where a pixel of the padded rows of a part is; nothing in the padding and beyond.
fn place(g: &Geometry, part: &Part, pixel: usize) -> Option<usize> {
    let (row, column) = (part.top + pixel / width(g), pixel % width(g));
    let row = row.checked_sub(g.conv.padding.top).filter(|row| *row < g.height)?;
    let column = column.checked_sub(g.conv.padding.left).filter(|column| *column < g.width)?;
    Some(part.image * g.image() + row * g.row() + column * g.channels)
}

#[cfg(test)]
mod tests {
    use super::super::super::super::matmul::packed::Unit;
    use super::super::super::{Conv, Padding};
    use super::super::tests::numbers;
    use super::*;

    /// By the definition.
    fn expected(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f64> {
        let mut patches = vec![0.0; g.out_rows() * g.out_width * g.patch()];
        g.gather(x, 0, &mut patches);
        let mut dw = vec![0.0; g.patch() * g.outputs];
        for (patch, dy) in patches.chunks_exact(g.patch()).zip(dy.chunks_exact(g.outputs)) {
            for (x, dw) in patch.iter().zip(dw.chunks_exact_mut(g.outputs)) {
                dw.iter_mut().zip(dy).for_each(|(dw, dy)| *dw += f64::from(*x) * f64::from(*dy));
            }
        }
        dw
    }

    #[test]
    fn every_weight_has_the_sum_over_its_pixels() {
        if !Unit::Tiles.is_best() {
            return;
        }
        let uneven = Padding { top: 0, bottom: 2, left: 1, right: 0 };
        for (size, (kernel, outputs), padding) in [
            ((1, 1, 1, 32), (1, 32), 0.into()),
            ((2, 5, 33, 16), (3, 32), 1.into()),
            ((3, 8, 8, 64), (3, 64), 1.into()),
            ((9, 4, 4, 48), (3, 32), 1.into()),
            ((1, 7, 16, 32), (5, 32), 2.into()),
            ((2, 9, 6, 32), (3, 96), uneven),
            ((1, 30, 40, 64), (1, 32), 0.into()),
        ] {
            let conv = Conv { padding, ..Conv::new(1, 0) };
            let g = Geometry::new(size, (kernel, kernel, size.3, outputs), conv).unwrap();
            let (x, dy) = (numbers(g.batch * g.image(), 1), numbers(g.out_rows() * g.out_row(), 2));
            let expected = expected(&g, &x, &dy);
            // As many rows at a time as make tasks begin and end within images.
            for together in [1, 4, g.out_rows()] {
                let mut found = vec![1.0; g.patch() * outputs];
                for (number, dy) in dy.chunks(together * g.out_row()).enumerate() {
                    add_weight_gradient(&g, &x, (number * together, dy), &mut found);
                }
                for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let difference = (f64::from(*found) - 1.0 - expected).abs();
                    assert!(difference < 2e-4, "{size:?} {together} {i}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn the_smallest_images_and_strides_are_left_to_others() {
        let geometry = |side, conv| Geometry::new((1, side, side, 32), (3, 3, 32, 32), conv).unwrap();
        assert!(fits(&geometry(4, Conv::new(1, 1))) && fits(&geometry(28, Conv::new(1, 1))));
        assert!(!fits(&geometry(2, Conv::new(1, 1))) && !fits(&geometry(28, Conv::new(2, 1))));
    }
}
