//! Dense convolutions of images and their gradients, by cuDNN: no patches in memory.
//!
//! What cuDNN is told is a plan of sizes. On the processor plain loops take it literally (`model`): slow, but so the plan, and how
//! tensors are laid out for it, are tested without a GPU.

#[cfg(any(feature = "cudnn", test))]
mod choice;
#[cfg(feature = "cudnn")]
mod cudnn;
mod model;
#[cfg(test)]
mod tests;
#[cfg(feature = "cudnn")]
mod ways;

use candle_core::{DType, Device, Result, Tensor, bail};

/// Sizes of a dense convolution (cross-correlation, as in every framework) of images whose channels come last, with a square kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// How many images, perhaps none.
    pub images: usize,
    /// Their rows.
    pub height: usize,
    /// Their columns.
    pub width: usize,
    /// Numbers of a pixel.
    pub channels: usize,
    /// Numbers of a pixel of the results.
    pub outputs: usize,
    /// Rows of the kernel, and columns.
    pub side: usize,
    /// Pixels between neighbouring patches, in both directions.
    pub stride: usize,
    /// Zeros above as below, and to the left as to the right.
    pub padding: [usize; 2],
    /// Rows and columns of the results.
    pub out: [usize; 2],
}

/// How much of factors is multiplied. Sums and results are in single precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Digits {
    /// All 24 bits.
    Single,
    /// 11 bits where tensor cores multiply them (TF32).
    Tf32,
}

/// Which of the three is computed of the other two, or of their gradients.
#[derive(Clone, Copy, Debug)]
enum Way {
    Results,
    Images,
    Kernel,
}

/// What cuDNN is told: its order of sizes is images, channels, rows, columns, and outputs, channels, rows, columns, whatever lies
/// in memory after what. There channels come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    images: [i32; 4],
    kernel: [i32; 4],
    results: [i32; 4],
    padding: [i32; 2],
    stride: i32,
}

/// One of the three to compute.
#[cfg_attr(not(feature = "cudnn"), allow(dead_code, reason = "the model has all digits"))]
struct Task {
    way: Way,
    sizes: Convolution,
    plan: Plan,
    digits: Digits,
    /// The others in their order, number after number as the plan says.
    factors: [Tensor; 2],
    shape: [usize; 4],
}

impl Convolution {
    /// Whether cuDNN computes this one: results as far as the padding on both sides reaches, padding of less than the kernel, and no
    /// more numbers in a tensor than it counts.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.plan().is_some()
    }

    /// Results `[images, out, out, outputs]` of images `[images, height, width, channels]` and a kernel
    /// `[side, side, channels, outputs]`.
    ///
    /// # Errors
    /// Sizes that do not [fit](Self::fits), other shapes or numbers than f32, a GPU without the feature `cudnn`, what cuDNN says.
    pub fn forward(&self, images: &Tensor, kernel: &Tensor, digits: Digits) -> Result<Tensor> {
        self.computed(Way::Results, [images, &outputs_first(kernel)?], digits)
    }

    /// The gradient of the images of that of the results, both of the shapes that they have themselves.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn images_gradient(&self, kernel: &Tensor, gradient: &Tensor, digits: Digits) -> Result<Tensor> {
        self.computed(Way::Images, [&outputs_first(kernel)?, gradient], digits)
    }

    /// The gradient of the kernel of that of the results, both of the shapes that they have themselves.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn kernel_gradient(&self, images: &Tensor, gradient: &Tensor, digits: Digits) -> Result<Tensor> {
        self.computed(Way::Kernel, [images, gradient], digits)?.permute((1, 2, 3, 0))?.contiguous()
    }

    fn plan(&self) -> Option<Plan> {
        let Self { images, height, width, channels, outputs, side, stride, padding, out } = *self;
        let reached = |size: usize, padding: usize| {
            let first_to_last = (size + 2 * padding).checked_sub(side)?;
            Some(first_to_last.checked_div(stride)? + 1)
        };
        let fits = out == [reached(height, padding[0])?, reached(width, padding[1])?]
            && padding.iter().all(|padding| *padding < side)
            && ![height, width, channels, outputs, side].contains(&0);
        let [rows, columns] = padding.map(i32::try_from);
        fits.then_some(Plan {
            images: counted([images, channels, height, width])?,
            kernel: counted([outputs, channels, side, side])?,
            results: counted([images, outputs, out[0], out[1]])?,
            padding: [rows.ok()?, columns.ok()?],
            stride: stride.try_into().ok()?,
        })
    }

    fn computed(&self, way: Way, factors: [&Tensor; 2], digits: Digits) -> Result<Tensor> {
        let Some(plan) = self.plan() else { bail!("cuDNN has no convolution {self:?}") };
        let images = [self.images, self.height, self.width, self.channels];
        let kernel = [self.outputs, self.side, self.side, self.channels];
        let results = [self.images, self.out[0], self.out[1], self.outputs];
        let (of, shape) = match way {
            Way::Results => ([images, kernel], results),
            Way::Images => ([kernel, results], images),
            Way::Kernel => ([images, results], kernel),
        };
        for (factor, shape) in factors.iter().zip(of) {
            if factor.dims() != shape || factor.dtype() != DType::F32 {
                bail!("{way:?} of {self:?}: {:?} {:?} in place of {shape:?}", factor.dtype(), factor.dims());
            }
        }
        let device = factors[0].device();
        if self.images == 0 {
            return Tensor::zeros(&shape, DType::F32, device);
        }
        let task = Task { way, sizes: *self, plan, digits, factors: [lying(factors[0])?, lying(factors[1])?], shape };
        match device {
            Device::Cpu => model::compute(&task),
            #[cfg(feature = "cudnn")]
            Device::Cuda(device) => cudnn::compute(device, &task),
            _ => bail!("{way:?} of {self:?}: no cuDNN for {:?}", device.location()),
        }
    }
}

/// Sizes as cuDNN counts, which is no further than to 2^31.
fn counted(sizes: [usize; 4]) -> Option<[i32; 4]> {
    let numbers = sizes.iter().try_fold(1usize, |numbers, size| numbers.checked_mul(*size))?;
    i32::try_from(numbers).ok()?;
    let [a, b, c, d] = sizes.map(i32::try_from);
    Some([a.ok()?, b.ok()?, c.ok()?, d.ok()?])
}

/// A kernel as cuDNN wants it beside images whose channels come last, `[outputs, side, side, channels]`.
fn outputs_first(kernel: &Tensor) -> Result<Tensor> {
    kernel.permute((3, 0, 1, 2))
}

/// Number after number, from an address on that is as round as an allocation's: cuDNN reads four numbers at once.
fn lying(x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    if x.layout().start_offset().is_multiple_of(4) { Ok(x) } else { x.force_contiguous() }
}
