//! Where the squares of a tile lie in the images and in the result.

use std::ops::Range;

use super::super::geometry::Geometry;
use super::{MORE, OUT};

/// A square of the result.
#[derive(Clone, Copy)]
pub(super) struct Square {
    /// Where its pixels begin among the padded images.
    pub(super) from: usize,
    /// Its first pixel among those of the result, if all of them were there.
    pub(super) to: isize,
    /// Rows and columns of the result that are there.
    pub(super) rows: (usize, usize),
    pub(super) columns: usize,
}

/// Rows of images with their padding.
pub(super) struct Rows {
    /// Image and padded row of it where each stretch begins, and its rows.
    stretches: Vec<(usize, usize, usize)>,
    pub(super) len: usize,
}

impl Rows {
    /// Writes them, the padding of zeros around them, to `to`, `width` pixels each.
    pub(super) fn copy(&self, g: &Geometry, x: &[f32], width: usize, to: &mut [f32]) {
        let (row, left) = (width * g.channels, g.conv.padding.left.min(width) * g.channels);
        // The padding may be wider than what is looked at.
        let columns = g.row().min(row - left);
        let mut to = to.chunks_exact_mut(row);
        for &(image, first, count) in &self.stretches {
            let image = &x[image * g.image()..][..g.image()];
            for (y, to) in (first..first + count).zip(&mut to) {
                let Some(y) = y.checked_sub(g.conv.padding.top).filter(|y| *y < g.height) else {
                    to.fill(0.0);
                    continue;
                };
                let (before, rest) = to.split_at_mut(left);
                let (pixels, after) = rest.split_at_mut(columns);
                before.fill(0.0);
                pixels.copy_from_slice(&image[y * g.row()..][..columns]);
                after.fill(0.0);
            }
        }
    }
}

/// The squares of output rows, and the rows of the images under them. Squares begin at multiples of their side, so that a
/// pixel's last bits do not depend on the tile.
pub(super) fn squares(g: &Geometry, rows: Range<usize>, width: usize) -> (Vec<Square>, Rows) {
    let (mut squares, mut padded) = (Vec::new(), Rows { stretches: Vec::new(), len: 0 });
    let mut first = rows.start;
    while first < rows.end {
        let (image, top) = (first / g.out_height, first % g.out_height);
        let end = g.out_height.min(top + rows.end - first);
        let begin = top / OUT * OUT;
        for square in (begin..end).step_by(OUT) {
            let here = (top.max(square) - square, OUT.min(end - square));
            for column in (0..g.out_width).step_by(OUT) {
                squares.push(Square {
                    from: ((padded.len + square - begin) * width + column) * g.channels,
                    to: ((first - rows.start) * g.out_width + column) as isize
                        + (square as isize - top as isize) * g.out_width as isize,
                    rows: here,
                    columns: OUT.min(g.out_width - column),
                });
            }
        }
        let count = (end - begin).next_multiple_of(OUT) + MORE;
        padded.stretches.push((image, begin, count));
        padded.len += count;
        first += end - top;
    }
    (squares, padded)
}
