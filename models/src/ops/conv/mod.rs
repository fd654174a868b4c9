//! Convolution of images whose channels come last.
//!
//! A dense convolution is computed tile by tile, in one of four ways: 3 x 3 kernels of stride 1 in fewer products (`winograd`), others
//! where they lie (`direct`), where channels do not fill vectors as a matrix product of patches (`dense`), and in bfloat16 on a
//! processor with AMX without patches (`tiled`). Tiles do not
//! depend on the number of threads, and sums over them are taken in their order, so the results do not depend on it either.

pub(super) mod dense;
mod depthwise;
mod direct;
pub(super) mod geometry;
mod kernel;
#[cfg(target_arch = "x86_64")]
mod tiled;
mod winograd;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

use self::dense::Weights;
use self::geometry::Geometry;
use super::linear::column_sums;
use super::operations::{fused, kernels};
use super::storage::{Values, slice};
use crate::profile;

/// Zeros added around an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl From<usize> for Padding {
    /// The same on every side.
    fn from(side: usize) -> Self {
        Self { top: side, bottom: side, left: side, right: side }
    }
}

/// How a kernel moves over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Pixels between neighbouring patches, in both directions.
    pub stride: usize,
    /// Zeros around the image.
    pub padding: Padding,
    /// 1 for a dense convolution, the number of channels for a depthwise one.
    pub groups: usize,
}

impl Conv {
    /// A dense convolution with the same padding on every side.
    #[must_use]
    pub fn new(stride: usize, padding: usize) -> Self {
        Self { stride, padding: padding.into(), groups: 1 }
    }

    /// A depthwise convolution of stride 1 with the same padding on every side.
    #[must_use]
    pub fn depthwise(channels: usize, padding: usize) -> Self {
        Self { groups: channels, ..Self::new(1, padding) }
    }
}

/// Convolution (cross-correlation, as in every framework) of images with a square kernel.
///
/// Shapes: x `[n, height, width, channels]`, weight `[kernel, kernel, channels / groups, outputs]`, bias `[outputs]`, result
/// `[n, height', width', outputs]` with height' = (height + top + bottom - kernel) / stride + 1. The gradients of inputs that
/// are not tracked are not computed.
///
/// # Errors
/// Shapes that do not fit each other, groups other than 1 and the number of channels, numbers other than f32.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, conv: Conv) -> Result<Tensor> {
    let geometry = Geometry::new(x.dims4()?, weight.dims4()?, conv)?;
    for (what, tensor) in [("images", Some(x)), ("weight", Some(weight)), ("bias", bias)] {
        if let Some(tensor) = tensor
            && tensor.dtype() != DType::F32
        {
            bail!("conv2d: the {what} must be f32, not {:?}", tensor.dtype());
        }
    }
    if let Some(bias) = bias
        && bias.dims() != [geometry.outputs]
    {
        bail!("conv2d to {} channels: bias {:?}", geometry.outputs, bias.dims());
    }
    if kernels(x.device()) || !fused(x.device()) {
        return if geometry.is_depthwise() || geometry.batch == 0 {
            plain(x, weight, bias, conv)
        } else {
            super::tensors::convolution(geometry, x, weight, bias)
        };
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, Convolution(geometry)),
        None => x.apply_op2(&weight, Convolution(geometry)),
    }
}

fn plain(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, conv: Conv) -> Result<Tensor> {
    let g = Geometry::new(x.dims4()?, weight.dims4()?, conv)?;
    let Padding { top, bottom, left, right } = conv.padding;
    let images = x.permute((0, 3, 1, 2))?.pad_with_zeros(2, top, bottom)?.pad_with_zeros(3, left, right)?;
    // Without the rows and columns that no patch reaches, of which candle's gradient expects as many of both.
    let covered = |outputs: usize| (outputs - 1) * conv.stride + g.kernel;
    let images = images.narrow(2, 0, covered(g.out_height))?.narrow(3, 0, covered(g.out_width))?.contiguous()?;
    let kernel = weight.permute((3, 2, 0, 1))?.contiguous()?;
    let y = images.conv2d(&kernel, 0, conv.stride, 1, conv.groups)?.permute((0, 2, 3, 1))?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => y.contiguous(),
    }
}

struct Convolution(Geometry);

/// Gradients of x, weight and bias.
type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

impl Convolution {
    fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> (CpuStorage, Shape) {
        let _span = profile::span("convolution");
        let g = &self.0;
        let y = match g.is_depthwise() {
            true => depthwise::forward(g, x, weight, bias),
            false => dense::forward(g, x, &Weights::new(g, weight), bias),
        };
        (CpuStorage::F32(y), (g.batch, g.out_height, g.out_width, g.outputs).into())
    }

    fn backward(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, dy: &Tensor) -> Result<Gradients> {
        let _span = profile::span("convolution, backward");
        let (g, device, dy) = (&self.0, x.device(), dy.contiguous()?);
        let (x_values, weight_values, dy) = (Values::of(x)?, Values::of(weight)?, Values::of(&dy)?);
        let for_x = x.track_op().then(|| match g.is_depthwise() {
            true => depthwise::input_gradient(g, &weight_values, &dy),
            false => dense::input_gradient(g, &weight_values, &dy),
        });
        let for_weight = weight.track_op().then(|| match g.is_depthwise() {
            true => depthwise::weight_gradient(g, &x_values, &dy),
            false => dense::weight_gradient(g, &x_values, &dy),
        });
        let for_bias = bias.filter(|bias| bias.track_op()).map(|_| column_sums(&dy, g.outputs));
        Ok((
            for_x.map(|values| Tensor::from_vec(values, x.shape(), device)).transpose()?,
            for_weight.map(|values| Tensor::from_vec(values, weight.shape(), device)).transpose()?,
            for_bias.map(|values| Tensor::from_vec(values, g.outputs, device)).transpose()?,
        ))
    }
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(self.forward(slice(x, x_layout)?, slice(weight, weight_layout)?, None))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (for_x, for_weight, _) = self.backward(x, weight, None, dy)?;
        Ok((for_x, for_weight))
    }
}

impl CustomOp3 for Convolution {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let bias = slice(bias, bias_layout)?;
        Ok(self.forward(slice(x, x_layout)?, slice(weight, weight_layout)?, Some(bias)))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Gradients> {
        self.backward(x, weight, Some(bias), dy)
    }
}

#[cfg(test)]
mod tests;
