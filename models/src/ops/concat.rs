//! Channels one after the other, where no gradient is asked for.
//!
//! candle's concatenation along the last axis leaves a transposed view, which the next operation copies number by number.

use candle_core::{DType, Result, Tensor, bail};

use super::operations::fused;
use super::storage::{PIECE, Values, written};

/// Tensors `[.., c_i]` one after the other in the last axis, contiguous.
///
/// # Errors
/// No tensors, or tensors that differ in more than the last axis.
pub fn concat_channels(tensors: &[Tensor]) -> Result<Tensor> {
    let Some(first) = tensors.first() else { bail!("concat: no tensors") };
    let (last, before) = split(first)?;
    for tensor in tensors {
        if split(tensor)?.1 != before {
            bail!("concat: {:?} and {:?}", first.dims(), tensor.dims());
        }
    }
    if !tensors.iter().all(is_plain) {
        return Tensor::cat(tensors, last);
    }
    let tensors = tensors.iter().map(Tensor::contiguous).collect::<Result<Vec<_>>>()?;
    let values = tensors.iter().map(Values::of).collect::<Result<Vec<_>>>()?;
    let parts: Vec<&[f32]> = values.iter().map(|values| &**values).collect();
    let lengths: Vec<usize> = tensors.iter().map(|tensor| tensor.dims()[last]).collect();
    let (width, rows) = (lengths.iter().sum::<usize>(), before.iter().product::<usize>());
    let [out] = written(rows * width, PIECE.div_ceil(width.max(1)) * width, |start, [out]| {
        for (row, mut out) in (start / width..).zip(out.chunks_exact_mut(width)) {
            for (part, &length) in parts.iter().zip(&lengths) {
                let (here, rest) = out.split_at_mut(length);
                here.copy_from_slice(&part[row * length..][..length]);
                out = rest;
            }
        }
    });
    Tensor::from_vec(out, [before, &[width]].concat(), first.device())
}

/// The channels of `length` pixels around each of `[n, height, width, channels]` along `axis` (1 or 2), the first pixel's first, zeros
/// outside: `[n, height, width, length * channels]`. `length` is odd.
///
/// # Errors
/// An axis that is none of the two.
pub fn line_channels(x: &Tensor, axis: usize, length: usize) -> Result<Tensor> {
    let (batch, height, width, channels) = x.dims4()?;
    if !matches!(axis, 1 | 2) {
        bail!("line_channels: axis {axis}, expected 1 (rows) or 2 (columns)");
    }
    let (count, half) = (x.dim(axis)?, length / 2);
    if !is_plain(x) {
        let padded = x.pad_with_zeros(axis, half, half)?;
        let shifted = (0..length).map(|shift| padded.narrow(axis, shift, count));
        return Tensor::cat(&shifted.collect::<Result<Vec<_>>>()?, 3);
    }
    let x = x.contiguous()?;
    let values = Values::of(&x)?;
    let values: &[f32] = &values;
    // Pixels from one to the next along the axis.
    let step = if axis == 1 { width } else { 1 };
    let wide = length * channels;
    let [out] = written(batch * height * width * wide, PIECE.div_ceil(wide.max(1)) * wide, |start, [out]| {
        for (pixel, out) in (start / wide..).zip(out.chunks_exact_mut(wide)) {
            let at = pixel / step % count;
            for (shift, out) in out.chunks_exact_mut(channels).enumerate() {
                if (half..half + count).contains(&(at + shift)) {
                    let from = pixel + shift * step - half * step;
                    out.copy_from_slice(&values[from * channels..][..channels]);
                }
            }
        }
    });
    Tensor::from_vec(out, (batch, height, width, wide), x.device())
}

/// The last axis, and the lengths of those before it.
fn split(tensor: &Tensor) -> Result<(usize, &[usize])> {
    match tensor.dims().split_last() {
        Some((_, before)) => Ok((before.len(), before)),
        None => bail!("concat: a number has no channels"),
    }
}

/// Whether its numbers can be read here, and nobody asks for its gradient.
fn is_plain(tensor: &Tensor) -> bool {
    fused(tensor.device()) && tensor.dtype() == DType::F32 && !tensor.track_op()
}

#[cfg(test)]
mod tests {
    use super::super::testing::random;
    use super::*;

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn channels_come_one_after_the_other() {
        for lengths in [[3, 1, 5], [1, 1, 1], [70, 0, 9]] {
            let tracked: Vec<Tensor> =
                lengths.iter().map(|&length| random("x", &[2, 33, 20, length]).as_tensor().clone()).collect();
            let plain: Vec<Tensor> = tracked.iter().map(Tensor::detach).collect();
            let (found, expected) = (concat_channels(&plain).unwrap(), concat_channels(&tracked).unwrap());
            assert_eq!((found.dims(), flat(&found)), (expected.dims(), flat(&expected)));
            assert!(found.is_contiguous() && expected.track_op());
        }
        let x = random("x", &[2, 3]).detach();
        assert!(concat_channels(&[x.clone(), random("y", &[3, 3]).detach()]).is_err());
        assert!(concat_channels(&[]).is_err());
        assert_eq!(flat(&concat_channels(std::slice::from_ref(&x)).unwrap()), flat(&x));
    }

    #[test]
    fn lines_have_the_channels_of_their_pixels() {
        for (axis, length, shape) in
            [(1, 3, [2, 5, 4, 3]), (2, 7, [1, 6, 9, 2]), (1, 7, [3, 2, 3, 40]), (2, 1, [1, 2, 2, 1])]
        {
            let x = random("x", &shape);
            let (found, expected) = (
                line_channels(&x.detach(), axis, length).unwrap(),
                line_channels(x.as_tensor(), axis, length).unwrap(),
            );
            assert_eq!((found.dims(), flat(&found)), (expected.dims(), flat(&expected)));
        }
        assert!(line_channels(&random("x", &[1, 2, 2, 1]).detach(), 3, 3).is_err());
    }
}
