//! What happens to images before the network sees them: two programs, two ways.

use candle_core::Tensor;

use crate::nn::frozen::channels_last;
use crate::{Result, ops};

/// Side of the images that the network was trained on.
const SIDE: usize = 299;

/// How images are resized to 299 x 299 and scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preparation {
    /// As the graph of the first FID program and the drifting paper's evaluation: pixel i of the result lies at i old / new,
    /// and 8-bit levels become (level - 128) / 128.
    #[default]
    Tensorflow,
    /// As `pytorch-fid`: pixels are aligned at their centres, and levels become 2 level / 255 - 1.
    PytorchFid,
}

impl Preparation {
    /// Images `[n, 3, h, w]` in [-1, 1] to `[n, 299, 299, 3]`.
    pub(super) fn apply(self, images: &Tensor) -> Result<Tensor> {
        let x = channels_last(images)?;
        match self {
            Self::PytorchFid => Ok(ops::resize_bilinear(&x, (SIDE, SIDE))?),
            Self::Tensorflow => {
                let (n, height, width, channels) = x.dims4()?;
                let rows = weights(height, images)?.broadcast_matmul(&x.flatten_from(2)?)?;
                let rows = rows.reshape((n * SIDE, width, channels))?;
                let x = weights(width, images)?.broadcast_matmul(&rows)?.reshape((n, SIDE, SIDE, channels))?;
                // (127.5 (x + 1) - 128) / 128.
                Ok(x.affine(127.5 / 128.0, -0.5 / 128.0)?)
            }
        }
    }
}

/// `[299, old]`: how much of each old pixel is in each new one.
fn weights(old: usize, like: &Tensor) -> Result<Tensor> {
    let mut weights = vec![0.0; SIDE * old];
    for (new, row) in weights.chunks_exact_mut(old).enumerate() {
        let at = (new * old) as f64 / SIDE as f64;
        let (low, share) = (at as usize, at.fract());
        row[low] += (1.0 - share) as f32;
        row[(low + 1).min(old - 1)] += share as f32;
    }
    Ok(Tensor::from_vec(weights, (SIDE, old), like.device())?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::testing::flat;

    #[test]
    fn the_corner_of_the_graph_is_the_first_pixel() {
        let images = Tensor::new(&[[0f32, 1.0], [0.0, 1.0]], &Device::Cpu).unwrap();
        let images = images.broadcast_as((1, 3, 2, 2)).unwrap();
        let row = |preparation: Preparation| {
            let x = preparation.apply(&images).unwrap();
            flat(&x.narrow(1, 7, 1).unwrap().narrow(3, 1, 1).unwrap())
        };
        let level = |x: f32| (127.5 * (x + 1.0) - 128.0) / 128.0;
        let graph = row(Preparation::Tensorflow);
        for (i, value) in graph.iter().enumerate() {
            assert!((value - level((2.0 * i as f32 / 299.0).min(1.0))).abs() < 1e-6, "{i}: {value}");
        }
        let centred = row(Preparation::PytorchFid);
        for (i, value) in centred.iter().enumerate() {
            let expected = ((i as f32 + 0.5) * 2.0 / 299.0 - 0.5).clamp(0.0, 1.0);
            assert!((value - expected).abs() < 1e-6, "{i}: {value}");
        }
    }
}
