//! Images to positions of the grid; numbers inside a patch are in the order row, column, channel.

use candle_core::{Result, Tensor, bail};
use drifting_spec::{ImageShape, MaeConfig};

use crate::ops;

/// `[n, c, h, w]` to `[n, h/p, w/p, p p c]`.
pub(super) fn cut(images: &Tensor, config: &MaeConfig) -> Result<Tensor> {
    let ImageShape { channels, height, width } = config.image;
    let (n, (rows, columns), patch) = (images.dim(0)?, config.grid(), config.input_patch);
    if images.dims() != [n, channels, height, width] {
        bail!("images of shape {:?}, expected {:?}", images.dims(), [n, channels, height, width]);
    }
    let parts = images.reshape(&[n, channels, rows, patch, columns, patch][..])?;
    ops::permute(&parts, &[0, 2, 4, 3, 5, 1])?.reshape((n, rows, columns, config.patch_len()))
}

/// 1 where a position is seen, 0 where it is masked: `[n, h, w, 1]` of a mask `[n, h, w]` for patched images.
pub(super) fn seen(mask: &Tensor, patched: &Tensor) -> Result<Tensor> {
    let expected = &patched.dims()[..3];
    if mask.dims() != expected {
        bail!("mask of shape {:?}, expected {expected:?}", mask.dims());
    }
    mask.affine(-1.0, 1.0)?.unsqueeze(3)
}
