//! Copies with the axes in another order.

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};

use super::operations::fused;
use super::simd::{self, Kernel};
use super::storage::{PIECE, written};
use crate::profile;

/// Side of the squares that are turned at once.
const TILE: usize = 16;
/// Numbers of short rows that are written together.
const GROUP: usize = 1024;

/// `x` with its axes in the order `axes`, contiguous.
///
/// # Errors
/// Axes that are no order of those of `x`.
pub fn permute(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let view = x.permute(axes)?;
    if !fused(x.device()) || x.dtype() != DType::F32 || view.is_contiguous() {
        return view.contiguous();
    }
    x.apply_op1(Permute { axes: axes.to_vec() })
}

struct Permute {
    axes: Vec<usize>,
}

impl CustomOp1 for Permute {
    fn name(&self) -> &'static str {
        "permute"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let _span = profile::span("transposing copy").numbers(2 * layout.shape().elem_count());
        let values = &x.as_slice::<f32>()?[layout.start_offset()..];
        let moved = |of: &[usize]| self.axes.iter().map(|&axis| of[axis]).collect::<Vec<_>>();
        let (dims, strides) = (moved(layout.dims()), moved(layout.stride()));
        Ok((CpuStorage::F32(gather(values, &dims, &strides)), dims.into()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut back = vec![0; self.axes.len()];
        for (to, &from) in self.axes.iter().enumerate() {
            back[from] = to;
        }
        permute(grad, &back).map(Some)
    }
}

/// The elements of a strided view, row by row.
pub(super) fn gather(values: &[f32], dims: &[usize], strides: &[usize]) -> Vec<f32> {
    let len: usize = dims.iter().product();
    if len == 0 {
        return Vec::new();
    }
    let mut outer = merged(dims, strides);
    let (width, stride) = outer.pop().unwrap_or((1, 1));
    let order = match outer.last() {
        _ if stride == 1 => Order::Rows,
        Some((_, 1)) => Order::Columns,
        _ => Order::Strided,
    };
    let rows = match outer.last() {
        Some(&(length, _)) if width >= PIECE => length.min(TILE),
        _ => (PIECE / width).next_multiple_of(TILE),
    };
    let [out] = written(len, rows * width, |start, [out]| {
        let place = Place::of(start / width, &outer);
        simd::dispatch_kernel(Copy { values, place, width, stride, order, out });
    });
    out
}

/// Axes of a length and a stride each, without those of length 1 and with those as one that lie one in the other.
fn merged(dims: &[usize], strides: &[usize]) -> Vec<(usize, usize)> {
    let mut axes: Vec<(usize, usize)> = Vec::new();
    for (&length, &stride) in dims.iter().zip(strides).filter(|(length, _)| **length != 1) {
        match axes.last_mut() {
            Some(last) if last.1 == length * stride => *last = (last.0 * length, stride),
            _ => axes.push((length, stride)),
        }
    }
    axes
}

/// How the numbers of a row lie.
#[derive(Clone, Copy)]
enum Order {
    /// One behind the other.
    Rows,
    /// Each is followed by its neighbour in the next row.
    Columns,
    Strided,
}

/// A row of the view.
struct Place<'a> {
    /// Length and stride of the axes but the last.
    axes: &'a [(usize, usize)],
    index: Vec<usize>,
    /// Of the first number.
    offset: usize,
}

impl<'a> Place<'a> {
    fn of(mut row: usize, axes: &'a [(usize, usize)]) -> Self {
        let mut index = vec![0; axes.len()];
        let mut offset = 0;
        for (index, (length, stride)) in index.iter_mut().zip(axes).rev() {
            *index = row % length;
            row /= length;
            offset += *index * stride;
        }
        Self { axes, index, offset }
    }

    /// Rows from here to the end of the last of the axes.
    #[inline(always)]
    fn left(&self) -> usize {
        match (self.axes.last(), self.index.last()) {
            (Some((length, _)), Some(index)) => length - index,
            _ => 1,
        }
    }

    /// Goes on by so many rows, at most [`left`](Self::left).
    #[inline(always)]
    fn advance(&mut self, rows: usize) {
        let mut step = rows;
        for (index, (length, stride)) in self.index.iter_mut().zip(self.axes).rev() {
            *index += step;
            self.offset += step * stride;
            if *index < *length {
                return;
            }
            self.offset -= *index * stride;
            *index = 0;
            step = 1;
        }
    }
}

struct Copy<'a> {
    values: &'a [f32],
    /// The first row of `out`.
    place: Place<'a>,
    width: usize,
    stride: usize,
    order: Order,
    out: &'a mut [f32],
}

impl Kernel for Copy<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { values, mut place, width, stride, order, out } = self;
        let most = match order {
            Order::Columns => (GROUP / width).next_multiple_of(TILE).max(TILE),
            Order::Rows | Order::Strided => 1,
        };
        let mut rest = out;
        while !rest.is_empty() {
            let rows = most.min(place.left()).min(rest.len() / width);
            let (out, behind) = rest.split_at_mut(rows * width);
            let from = &values[place.offset..];
            match order {
                Order::Rows => out.copy_from_slice(&from[..width]),
                Order::Strided => {
                    out.iter_mut().zip(from.iter().step_by(stride)).for_each(|(out, value)| *out = *value)
                }
                Order::Columns => turn(from, (rows, width, stride), out),
            }
            place.advance(rows);
            rest = behind;
        }
    }
}

/// Writes `rows` rows of `width` numbers, which lie in `width` columns `stride` apart.
#[inline(always)]
fn turn(from: &[f32], (rows, width, stride): (usize, usize, usize), out: &mut [f32]) {
    match width {
        1 => out.copy_from_slice(&from[..rows]),
        2 => interleave::<2>(from, stride, out),
        3 => interleave::<3>(from, stride, out),
        4 => interleave::<4>(from, stride, out),
        _ if rows == stride && rows == 2 => split::<2>(from, width, out),
        _ if rows == stride && rows == 3 => split::<3>(from, width, out),
        _ if rows == stride && rows == 4 => split::<4>(from, width, out),
        _ => tiles(from, (rows, width, stride), out),
    }
}

/// Rows of `N` numbers out of as many columns.
#[inline(always)]
fn interleave<const N: usize>(from: &[f32], stride: usize, out: &mut [f32]) {
    let (rows, _) = out.as_chunks_mut::<N>();
    let mut columns = [&from[..0]; N];
    for (i, column) in columns.iter_mut().enumerate() {
        *column = &from[i * stride..][..rows.len()];
    }
    for (r, row) in rows.iter_mut().enumerate() {
        for i in 0..N {
            row[i] = columns[i][r];
        }
    }
}

/// `N` long rows that lie interleaved.
#[inline(always)]
fn split<const N: usize>(from: &[f32], width: usize, out: &mut [f32]) {
    let (columns, _) = from[..width * N].as_chunks::<N>();
    for (i, row) in out.chunks_exact_mut(width).enumerate() {
        for (out, column) in row.iter_mut().zip(columns) {
            *out = column[i];
        }
    }
}

/// Square by square; at the end of a row or column with squares that are not full.
#[inline(always)]
fn tiles(from: &[f32], (rows, width, stride): (usize, usize, usize), out: &mut [f32]) {
    for row in (0..rows).step_by(TILE) {
        let height = TILE.min(rows - row);
        for first in (0..width).step_by(TILE) {
            let columns = TILE.min(width - first);
            let mut tile = [[0.0f32; TILE]; TILE];
            for (i, column) in tile[..columns].iter_mut().enumerate() {
                let from = &from[(first + i) * stride + row..];
                match from.first_chunk::<TILE>() {
                    Some(chunk) => *column = *chunk,
                    None => column[..height].copy_from_slice(&from[..height]),
                }
            }
            let out = &mut out[row * width + first..];
            if height == TILE && columns == TILE {
                turned(&tile, width, out);
            } else {
                let mut whole = [0.0; TILE * TILE];
                turned(&tile, TILE, &mut whole);
                for (out, turned) in out.chunks_mut(width).zip(whole.chunks_exact(TILE)).take(height) {
                    out[..columns].copy_from_slice(&turned[..columns]);
                }
            }
        }
    }
}

/// Writes the transposed square, its rows `width` apart, by squares of four, which processors turn in a few instructions.
#[inline(always)]
fn turned(tile: &[[f32; TILE]; TILE], width: usize, out: &mut [f32]) {
    const SIDE: usize = 4;
    for row in (0..TILE).step_by(SIDE) {
        for first in (0..TILE).step_by(SIDE) {
            let mut square = [[0.0f32; SIDE]; SIDE];
            for i in 0..SIDE {
                for k in 0..SIDE {
                    square[i][k] = tile[first + i][row + k];
                }
            }
            let [a, b, c, d] = square;
            for k in 0..SIDE {
                out[(row + k) * width + first..][..SIDE].copy_from_slice(&[a[k], b[k], c[k], d[k]]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, random};
    use super::*;

    #[test]
    fn agrees_with_plain_operations() {
        let cases: [(&[usize], &[usize]); 13] = [
            (&[2, 3, 5], &[0, 2, 1]),
            (&[3, 40, 53], &[0, 2, 1]),
            (&[2, 3, 700], &[0, 2, 1]),
            (&[2, 700, 3], &[2, 0, 1]),
            (&[17, 16, 32], &[1, 0, 2]),
            (&[48, 33], &[1, 0]),
            (&[2, 4, 300], &[0, 2, 1]),
            (&[2, 300, 2], &[0, 2, 1]),
            (&[2, 9000, 3], &[0, 2, 1]),
            (&[5, 9000], &[1, 0]),
            (&[2, 3, 4, 5, 6, 7], &[0, 2, 4, 3, 5, 1]),
            (&[2, 3, 4, 5, 6, 7], &[0, 5, 1, 3, 2, 4]),
            (&[1, 9, 1, 2], &[3, 2, 1, 0]),
        ];
        for (shape, axes) in cases {
            agrees(&[random("x", shape)], |t| permute(&t[0], axes), |t| t[0].permute(axes)?.contiguous());
        }
    }

    #[test]
    fn views_empty_and_single_tensors_are_copied() {
        let x = random("x", &[6, 7, 20]);
        let view = x.narrow(1, 2, 4).unwrap().transpose(0, 2).unwrap();
        let found = permute(&view, &[1, 0, 2]).unwrap();
        let expected = view.permute([1, 0, 2]).unwrap().contiguous().unwrap();
        let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(found.is_contiguous() && flat(&found) == flat(&expected));
        let empty = x.narrow(0, 0, 0).unwrap();
        assert_eq!(permute(&empty, &[2, 1, 0]).unwrap().dims(), [20, 7, 0]);
        let bytes = Tensor::new(&[[1u8, 2], [3, 4]], x.device()).unwrap();
        assert_eq!(permute(&bytes, &[1, 0]).unwrap().to_vec2::<u8>().unwrap(), [[1, 3], [2, 4]]);
        assert!(permute(&x, &[0, 0, 1]).is_err());
    }

    #[test]
    fn squares_are_transposed() {
        let mut tile = [[0.0; TILE]; TILE];
        for (i, value) in tile.iter_mut().flatten().enumerate() {
            *value = i as f32;
        }
        let mut found = [0.0; TILE * TILE];
        turned(&tile, TILE, &mut found);
        for (i, row) in found.chunks_exact(TILE).enumerate() {
            assert!((0..TILE).all(|k| row[k] == tile[k][i]));
        }
    }
}
