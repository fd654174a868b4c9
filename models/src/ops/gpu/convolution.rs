//! Which convolutions go through cuDNN.

use candle_core::Device;
use drifting_kernels::{Convolution, Digits};

use super::super::conv::Padding;
use super::super::conv::geometry::Geometry;
use super::super::operations::kernels;
use super::narrow;

/// What cuDNN is told of a convolution of tensors on `device`; nothing where products of patches are in its place.
pub(in super::super) fn by_cudnn(g: &Geometry, device: &Device) -> Option<Convolution> {
    let there = cfg!(feature = "cudnn") && device.is_cuda() && kernels(device);
    there.then(|| told(g)).flatten()
}

/// The same wherever tensors are: nothing if patches are pixels, which is a product already, and if cuDNN cannot pad so.
pub(in super::super) fn told(g: &Geometry) -> Option<Convolution> {
    let Padding { top, left, .. } = g.conv.padding;
    let convolution = Convolution {
        images: g.batch,
        height: g.height,
        width: g.width,
        channels: g.channels,
        outputs: g.outputs,
        side: g.kernel,
        stride: g.conv.stride,
        // Below and to the right as well: where that makes other sizes of results, it does not fit.
        padding: [top, left],
        out: [g.out_height, g.out_width],
    };
    (!g.is_pointwise() && g.conv.groups == 1 && convolution.fits()).then_some(convolution)
}

/// Those that factors keep in the precision of products.
pub(in super::super) fn digits() -> Digits {
    if narrow() { Digits::Tf32 } else { Digits::Single }
}

#[cfg(test)]
mod tests {
    use candle_core::{Result, Tensor};

    use super::super::super::testing::{agrees, random};
    use super::super::super::{Conv, tensors};
    use super::*;

    fn geometry(images: [usize; 4], kernel: [usize; 4], conv: Conv) -> Geometry {
        Geometry::new(images.into(), kernel.into(), conv).unwrap()
    }

    fn uneven(stride: usize, [top, bottom, left, right]: [usize; 4]) -> Conv {
        Conv { padding: Padding { top, bottom, left, right }, ..Conv::new(stride, 0) }
    }

    #[test]
    fn what_cudnn_is_told_is_the_convolution_of_tensors() {
        let cases = [
            ([2, 5, 6, 3], [3, 3, 3, 4], Conv::new(1, 1)),
            ([3, 7, 8, 4], [3, 3, 4, 5], Conv::new(2, 1)),
            ([2, 6, 5, 8], [3, 3, 8, 8], Conv::new(2, 1)),
            ([2, 6, 6, 4], [1, 1, 4, 2], Conv::new(2, 0)),
            ([1, 7, 9, 1], [5, 5, 1, 2], Conv::new(1, 2)),
            ([1, 4, 5, 6], [2, 2, 6, 3], Conv::new(3, 0)),
            // No patch reaches the last row and column, which may be padding.
            ([2, 5, 5, 3], [3, 3, 3, 2], uneven(2, [1, 2, 1, 1])),
            ([2, 6, 6, 3], [3, 3, 3, 2], uneven(2, [1, 0, 1, 0])),
        ];
        for (images, kernel, conv) in cases {
            let g = geometry(images, kernel, conv);
            let convolution = told(&g).unwrap();
            let inputs = [random("x", &images), random("weight", &kernel)];
            let of = |convolution: Option<Convolution>, t: &[Tensor]| -> Result<Tensor> {
                let (y, back) = tensors::conv::through(convolution, g, &t[0], &t[1], [true; 2])?;
                tensors::reversible::reversible([&t[0], &t[1]], y, move |_, dy| back(dy))
            };
            agrees(&inputs, |t| of(Some(convolution), t), |t| of(None, t));
        }
    }

    #[test]
    fn others_are_products_of_patches() {
        let refused = [
            // Pixels.
            ([2, 6, 6, 5], [1, 1, 5, 7], Conv::new(1, 0)),
            // Zeros on one side only, which patches reach.
            ([2, 6, 6, 3], [3, 3, 3, 2], uneven(2, [0, 1, 0, 1])),
            ([2, 7, 7, 3], [3, 3, 3, 2], uneven(1, [1, 1, 1, 0])),
            ([2, 7, 5, 2], [3, 3, 2, 3], uneven(2, [0, 3, 2, 1])),
            // Patches of zeros alone.
            ([2, 5, 9, 4], [3, 3, 4, 4], Conv::new(1, 3)),
            // A channel by itself.
            ([2, 5, 6, 3], [3, 3, 1, 3], Conv::depthwise(3, 1)),
        ];
        for (images, kernel, conv) in refused {
            assert_eq!(told(&geometry(images, kernel, conv)), None, "{images:?} {kernel:?} {conv:?}");
        }
        let g = geometry([2, 5, 6, 3], [3, 3, 3, 4], Conv::new(1, 1));
        assert_eq!(by_cudnn(&g, &Device::Cpu), None);
    }
}
