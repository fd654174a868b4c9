//! The layers of the network: convolutions with their normalisation, pooling, and blocks of branches.

use candle_core::Tensor;

use crate::Result;
use crate::nn::Builder;
use crate::nn::frozen::{Convolution, folded};
use crate::ops::{self, Conv, MaxPool, Padding};

/// Added to variances.
const EPSILON: f64 = 1e-3;

/// Rows and columns of a kernel, how it moves, how many zeros surround the image.
#[derive(Clone, Copy, Debug)]
pub(super) enum Window {
    /// A square of side, stride and padding.
    Square(usize, usize, usize),
    /// So many columns of one row; the result is as large as the image.
    Row(usize),
    /// So many rows of one column; the result is as large as the image.
    Column(usize),
}

/// One step of a branch, before there are weights.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    /// The named convolution to so many channels.
    To(&'static str, usize, Window),
    /// Two convolutions of the same input, one after the other in the channels.
    Fork([(&'static str, Window); 2], usize),
    /// Means of 3x3 pixels around each: with zeros for those outside, or without them.
    Means {
        /// Whether pixels outside count.
        outside: bool,
    },
    /// Maxima of 3x3 pixels.
    Maxima(MaxPool),
}

/// Maxima of 3x3 pixels, at every second row and column.
pub(super) const HALVE: MaxPool = MaxPool { side: 3, stride: 2, padding: 0 };
/// Maxima of 3x3 pixels around each pixel.
pub(super) const AROUND: MaxPool = MaxPool { side: 3, stride: 1, padding: 1 };

/// ReLU(normalised convolution).
#[derive(Clone, Debug)]
pub(super) struct Unit {
    convolution: Convolution,
    window: Window,
}

impl Unit {
    pub(super) fn new(builder: &Builder, inner: usize, out: usize, window: Window) -> Result<Self> {
        let weights =
            |rows, columns| folded(&builder.part("conv"), &builder.part("bn"), &[out, inner, rows, columns], EPSILON);
        let convolution = match window {
            Window::Square(side, stride, padding) => {
                let (weight, bias) = weights(side, side)?;
                Convolution::of(&weight, Some(bias), Conv::new(stride, padding))?
            }
            Window::Row(length) | Window::Column(length) => {
                let (rows, columns) = if matches!(window, Window::Row(_)) { (1, length) } else { (length, 1) };
                let (weight, bias) = weights(rows, columns)?;
                // As a product with the channels of all pixels of the line, the first pixel's first.
                let line = weight.reshape((out, inner, length))?.transpose(1, 2)?.flatten_from(1)?;
                Convolution::dense(&line, bias)?
            }
        };
        Ok(Self { convolution, window })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = match self.window {
            Window::Square(..) => self.convolution.forward(x)?,
            Window::Row(length) => self.convolution.forward(&ops::line_channels(x, 2, length)?)?,
            Window::Column(length) => self.convolution.forward(&ops::line_channels(x, 1, length)?)?,
        };
        Ok(y.relu()?)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Unit(Unit),
    Fork([Unit; 2]),
    /// Ones that add up the pixels of a window, `[3, 3, 1, channels]`.
    Means {
        ones: Tensor,
        outside: bool,
    },
    Maxima(MaxPool),
}

impl Step {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Unit(unit) => unit.forward(x)?,
            Self::Fork([first, second]) => ops::concat_channels(&[first.forward(x)?, second.forward(x)?])?,
            Self::Means { ones, outside } => means(x, ones, *outside)?,
            Self::Maxima(pool) => ops::max_pool(x, *pool)?,
        })
    }
}

fn means(x: &Tensor, ones: &Tensor, outside: bool) -> Result<Tensor> {
    let (_, height, width, channels) = x.dims4()?;
    let conv = Conv { stride: 1, padding: Padding::from(1), groups: channels };
    if outside {
        return Ok((ops::conv2d(x, ones, None, conv)? / 9.0)?);
    }
    // Pixels of each row's and of each column's windows.
    let covered = |length: usize| (0..length).map(move |i| (i + 2).min(length) - i.saturating_sub(1));
    let count = |row: usize, column: usize| 1.0 / (row * column) as f32;
    let shares: Vec<f32> =
        covered(height).flat_map(|row| covered(width).map(move |column| count(row, column))).collect();
    let shares = Tensor::from_vec(shares, (height, width, 1), x.device())?;
    Ok(ops::conv2d(x, ones, None, conv)?.broadcast_mul(&shares)?)
}

/// Branches of the same input, one after the other in the channels.
#[derive(Clone, Debug)]
pub(super) struct Mixed {
    branches: Vec<Vec<Step>>,
}

impl Mixed {
    /// Takes the weights of all branches of `inner` channels.
    pub(super) fn new(builder: &Builder, inner: usize, plan: &[Vec<Plan>]) -> Result<Self> {
        let branch = |plan: &Vec<Plan>| {
            let mut channels = inner;
            plan.iter().map(|plan| step(builder, &mut channels, *plan)).collect::<Result<Vec<_>>>()
        };
        Ok(Self { branches: plan.iter().map(branch).collect::<Result<_>>()? })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let branch = |steps: &Vec<Step>| steps.iter().try_fold(x.clone(), |x, step| step.forward(&x));
        Ok(ops::concat_channels(&self.branches.iter().map(branch).collect::<Result<Vec<_>>>()?)?)
    }
}

/// A step that turns `channels` into others.
fn step(builder: &Builder, channels: &mut usize, plan: Plan) -> Result<Step> {
    let unit = |name: &str, inner, out, window| Unit::new(&builder.part(name), inner, out, window);
    let inner = *channels;
    Ok(match plan {
        Plan::To(name, out, window) => {
            *channels = out;
            Step::Unit(unit(name, inner, out, window)?)
        }
        Plan::Fork([first, second], out) => {
            *channels = 2 * out;
            Step::Fork([unit(first.0, inner, out, first.1)?, unit(second.0, inner, out, second.1)?])
        }
        Plan::Means { outside } => {
            let ones = Tensor::ones((3, 3, 1, inner), candle_core::DType::F32, builder.device())?;
            Step::Means { ones, outside }
        }
        Plan::Maxima(pool) => Step::Maxima(pool),
    })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::plan;
    use super::*;
    use crate::nn::Source;
    use crate::testing::{KINKED, flat, gradient_is_slope, random};

    const MEANS: Plan = Plan::Means { outside: false };

    #[test]
    fn gradients_pass_through_every_block() {
        let plans = [
            plan::large(4, MEANS),
            plan::large(4, Plan::Means { outside: true }),
            plan::large_to_middle(),
            plan::middle(4, MEANS),
            plan::middle_to_small(),
            plan::small(MEANS),
            plan::small(Plan::Maxima(AROUND)),
        ];
        for plan in plans {
            let builder = Builder::frozen(Source::Seed(1), &Device::Cpu);
            let block = Mixed::new(&builder, 4, &plan).unwrap();
            gradient_is_slope(&[1, 7, 7, 4], KINKED, |x| Ok(vec![block.forward(x)?]));
        }
    }

    #[test]
    fn means_leave_out_what_lies_outside_or_count_it_as_zero() {
        let x = random("x", &[1, 2, 4, 1]);
        let ones = Tensor::ones((3, 3, 1, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
        let (values, found) = (flat(&x), flat(&means(&x, &ones, false).unwrap()));
        let corner = [0, 1, 4, 5].map(|i| values[i]).iter().sum::<f32>() / 4.0;
        let middle = [0, 1, 2, 4, 5, 6].map(|i| values[i]).iter().sum::<f32>() / 6.0;
        assert!((found[0] - corner).abs() < 1e-6 && (found[5] - middle).abs() < 1e-6, "{found:?}");
        let found = flat(&means(&x, &ones, true).unwrap());
        let near = |found: f32, expected: f32| (found - expected).abs() < 1e-6;
        assert!(near(found[0], corner * 4.0 / 9.0) && near(found[5], middle * 6.0 / 9.0), "{found:?}");
    }
}
