//! Pooling of images whose channels come last; candle's gradient of the maximum over a window is wrong (ours is tested
//! below against finite differences).

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use drifting_models::ops::simd::{self, Kernel};
use rayon::prelude::*;

use crate::optim::cpu_slice as slice;

/// ReLU and the maximum over 2 x 2 pixels of `[batch, height, width, channels]`; an odd last row or column is dropped.
pub(super) fn relu_max_pool(images: &Tensor) -> Result<Tensor> {
    let (_, height, width, channels) = images.dims4()?;
    images.contiguous()?.apply_op1(Pool(Size { height, width, channels }))
}

#[derive(Clone, Copy)]
struct Size {
    height: usize,
    width: usize,
    channels: usize,
}

impl Size {
    fn image(self) -> usize {
        self.height * self.width * self.channels
    }

    fn pooled(self) -> usize {
        (self.height / 2) * (self.width / 2) * self.channels
    }

    fn row(self) -> usize {
        self.width * self.channels
    }

    /// Every pooled pixel, as starts of `channels` numbers: of its left upper pixel in a pair of rows, and its own in a row.
    #[inline(always)]
    fn windows(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.width / 2).map(move |x| (2 * x * self.channels, x * self.channels))
    }
}

struct Pool(Size);

impl CustomOp1 for Pool {
    fn name(&self) -> &'static str {
        "relu-max-pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let images = slice(storage, layout)?;
        let Size { height, width, channels } = self.0;
        let batch = images.len() / self.0.image();
        let mut pooled = vec![0.0f32; batch * self.0.pooled()];
        pooled.par_chunks_mut(self.0.pooled()).zip(images.par_chunks(self.0.image())).for_each(|(pooled, image)| {
            simd::dispatch_kernel(Forward { size: self.0, image, pooled });
        });
        Ok((CpuStorage::F32(pooled), (batch, height / 2, width / 2, channels).into()))
    }

    fn bwd(&self, images: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(images.apply_op2_no_bwd(&gradient.contiguous()?, &PoolGradient(self.0))?))
    }
}

struct PoolGradient(Size);

impl CustomOp2 for PoolGradient {
    fn name(&self) -> &'static str {
        "relu-max-pool-gradient"
    }

    fn cpu_fwd(
        &self,
        images: &CpuStorage,
        images_layout: &Layout,
        pooled: &CpuStorage,
        pooled_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (images, pooled) = (slice(images, images_layout)?, slice(pooled, pooled_layout)?);
        let mut gradient = vec![0.0; images.len()];
        let sources = images.par_chunks(self.0.image()).zip(pooled.par_chunks(self.0.pooled()));
        gradient.par_chunks_mut(self.0.image()).zip(sources).for_each(|(gradient, (image, pooled))| {
            simd::dispatch_kernel(Backward { size: self.0, image, pooled, gradient });
        });
        Ok((CpuStorage::F32(gradient), images_layout.shape().clone()))
    }
}

/// Pools one image.
struct Forward<'a> {
    size: Size,
    image: &'a [f32],
    pooled: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (row, channels) = (self.size.row(), self.size.channels);
        let rows = self.image.chunks_exact(2 * row).zip(self.pooled.chunks_exact_mut(row / channels / 2 * channels));
        for (image, pooled) in rows {
            for (from, to) in self.size.windows() {
                let pooled = &mut pooled[to..to + channels];
                for start in [from, from + channels, from + row, from + row + channels] {
                    for (largest, &value) in pooled.iter_mut().zip(&image[start..start + channels]) {
                        *largest = if value > *largest { value } else { *largest };
                    }
                }
            }
        }
    }
}

/// Gives each gradient to the first of the largest pixels, if that is positive. Without branches.
struct Backward<'a> {
    size: Size,
    image: &'a [f32],
    pooled: &'a [f32],
    /// Zero before.
    gradient: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (row, channels) = (self.size.row(), self.size.channels);
        let rows = self.image.chunks_exact(2 * row).zip(self.pooled.chunks_exact(row / channels / 2 * channels));
        for (gradient, (image, pooled)) in self.gradient.chunks_exact_mut(2 * row).zip(rows) {
            let ((above, below), (top, bottom)) = (image.split_at(row), gradient.split_at_mut(row));
            for (from, to) in self.size.windows() {
                let (a, b) = above[from..from + 2 * channels].split_at(channels);
                let (c, d) = below[from..from + 2 * channels].split_at(channels);
                let (for_a, for_b) = top[from..from + 2 * channels].split_at_mut(channels);
                let (for_c, for_d) = bottom[from..from + 2 * channels].split_at_mut(channels);
                for (i, &dy) in pooled[to..to + channels].iter().enumerate() {
                    let larger = |x: f32, y: f32| if y > x { y } else { x };
                    let largest = larger(larger(larger(larger(0.0, a[i]), b[i]), c[i]), d[i]);
                    let give = |value: f32, left: f32| if value == largest { left } else { 0.0 };
                    let dy = if largest > 0.0 { dy } else { 0.0 };
                    for_a[i] = give(a[i], dy);
                    let left = if a[i] == largest { 0.0 } else { dy };
                    for_b[i] = give(b[i], left);
                    let left = if b[i] == largest { 0.0 } else { left };
                    for_c[i] = give(c[i], left);
                    let left = if c[i] == largest { 0.0 } else { left };
                    for_d[i] = give(d[i], left);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use drifting_spec::Stream;

    use super::*;

    fn normal(name: &str, shape: &[usize]) -> Tensor {
        let values = Stream::new(1, name, 0).normals(shape.iter().product());
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn pooling_takes_the_largest_positive_number() {
        let images = Tensor::new(&[-1.0f32, -2.0, 9.0, 3.0, 0.5, 9.0], &Device::Cpu).unwrap();
        let pooled = relu_max_pool(&images.reshape((1, 2, 3, 1)).unwrap()).unwrap();
        assert_eq!((pooled.dims(), values(&pooled)), (&[1, 1, 1, 1][..], vec![3.0]));
        let negative = Tensor::full(-1.0f32, (1, 2, 2, 2), &Device::Cpu).unwrap();
        assert_eq!(values(&relu_max_pool(&negative).unwrap()), [0.0, 0.0]);
    }

    /// Compares the gradient of a weighted sum of `op` with central differences. Everything here is piecewise linear in
    /// each number, so they are exact up to rounding.
    fn check_gradient(input: &Tensor, op: impl Fn(&Tensor) -> Tensor) {
        let weight = normal("sum", op(input).dims());
        let loss = |input: &Tensor| (op(input) * &weight).unwrap().sum_all().unwrap();
        let var = Var::from_tensor(input).unwrap();
        let gradients = loss(&var).backward().unwrap();
        let gradient = values(gradients.get(&var).unwrap());
        let base = values(input);
        for index in 0..base.len() {
            let shifted = |step: f32| {
                let mut numbers = base.clone();
                numbers[index] += step;
                let tensor = Tensor::from_vec(numbers, input.shape(), &Device::Cpu).unwrap();
                loss(&tensor).to_scalar::<f32>().unwrap()
            };
            let difference = (shifted(1e-3) - shifted(-1e-3)) / 2e-3;
            assert!((difference - gradient[index]).abs() < 0.05, "{index}: {difference} {}", gradient[index]);
        }
    }

    #[test]
    fn one_of_equal_pixels_has_the_gradient() {
        let images =
            Var::from_tensor(&Tensor::ones((1, 2, 2, 1), candle_core::DType::F32, &Device::Cpu).unwrap()).unwrap();
        let gradients = relu_max_pool(&images).unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(values(gradients.get(&images).unwrap()), [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        check_gradient(&normal("images", &[2, 5, 4, 3]), |images| relu_max_pool(images).unwrap());
    }
}
