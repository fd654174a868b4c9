//! Group normalisation of images whose channels come last, with ReLU in the same pass.

pub(super) mod kernels;

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use self::kernels::{Affine, Apply, Backward, Statistics};
use super::linear::column_sums;
use super::operations::{self, fused};
use super::simd;
use super::storage::{Values, slice};
use super::{gpu, tensors};
use crate::profile;

/// How [`group_norm`] normalises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// Groups of neighbouring channels; each is normalised over its channels and all pixels of an image.
    pub groups: usize,
    /// Added to the variance before the root.
    pub eps: f32,
    /// Whether ReLU follows.
    pub relu: bool,
}

impl GroupNorm {
    /// Whether so many channels can be normalised so.
    pub(super) fn check_channels(&self, channels: usize) -> Result<()> {
        let groups = self.groups;
        if groups == 0 || channels == 0 || !channels.is_multiple_of(groups) {
            bail!(
                "group norm of {channels} channels: {groups} groups; the number of channels must be a multiple of it"
            );
        }
        Ok(())
    }
}

/// normalised x * scale + bias, and ReLU of it if `settings` say so.
///
/// Shapes: x `[n, .., channels]`, scale and bias `[channels]`, result as x.
///
/// # Errors
/// Shapes that do not fit each other, channels that cannot be split into the groups.
pub fn group_norm(x: &Tensor, scale: &Tensor, bias: &Tensor, settings: GroupNorm) -> Result<Tensor> {
    let channels = x.dim(D::Minus1)?;
    if x.rank() < 2 || scale.dims() != [channels] || bias.dims() != [channels] {
        bail!("group norm of {:?}: scale {:?}, bias {:?}", x.dims(), scale.dims(), bias.dims());
    }
    settings.check_channels(channels)?;
    if operations::kernels(x.device()) {
        gpu::group_norm(x, scale, bias, settings)
    } else if fused(x.device()) {
        let op = Fused { settings, statistics: Mutex::default() };
        x.contiguous()?.apply_op3(&scale.contiguous()?, &bias.contiguous()?, op)
    } else {
        tensors::group_norm(x, scale, bias, settings)
    }
}

#[cfg(test)]
fn plain(x: &Tensor, scale: &Tensor, bias: &Tensor, settings: GroupNorm) -> Result<Tensor> {
    let (batch, channels) = (x.dim(0)?, scale.dim(0)?);
    let grouped = x.reshape((batch, (), settings.groups, channels / settings.groups))?;
    let mean = |x: &Tensor| x.mean_keepdim(1)?.mean_keepdim(3);
    let centred = grouped.broadcast_sub(&mean(&grouped)?)?;
    let deviation = (mean(&centred.sqr()?)? + f64::from(settings.eps))?.sqrt()?;
    let normalised = centred.broadcast_div(&deviation)?.reshape(x.shape())?;
    let y = normalised.broadcast_mul(scale)?.broadcast_add(bias)?;
    if settings.relu { y.relu() } else { Ok(y) }
}

struct Fused {
    settings: GroupNorm,
    /// For each image, the mean of each channel's group and then the factor 1 / deviation: `[n, 2, channels]`.
    statistics: Mutex<Vec<f32>>,
}

impl CustomOp3 for Fused {
    fn name(&self) -> &'static str {
        "group-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        scale: &CpuStorage,
        scale_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _span = profile::span("group norm").numbers(2 * x_layout.shape().elem_count());
        let (x, scale, bias) = (slice(x, x_layout)?, slice(scale, scale_layout)?, slice(bias, bias_layout)?);
        let batch = x_layout.dims()[0];
        let image = (x.len() / batch.max(1)).max(1);
        let affine = Affine { settings: self.settings, scale, bias };
        let (mut out, mut statistics) = (vec![0.0; x.len()], vec![0.0; batch * 2 * scale.len()]);
        out.par_chunks_mut(image).zip(x.par_chunks(image)).zip(statistics.par_chunks_mut(2 * scale.len())).for_each(
            |((out, x), statistics)| {
                simd::dispatch_kernel(Statistics { settings: self.settings, x, statistics });
                simd::dispatch_kernel(Apply { affine, x, statistics, out });
            },
        );
        *self.statistics.lock().unwrap_or_else(PoisonError::into_inner) = statistics;
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        scale: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let _span = profile::span("group norm, backward").numbers(3 * grad.elem_count());
        let grad = grad.contiguous()?;
        let (x_values, dy) = (Values::of(x)?, Values::of(&grad)?);
        let (scale_values, bias_values) = (Values::of(scale)?, Values::of(bias)?);
        let affine = Affine { settings: self.settings, scale: &scale_values, bias: &bias_values };
        let (batch, channels) = (x.dim(0)?, scale.dim(0)?);
        let image = (x_values.len() / batch.max(1)).max(1);
        let statistics = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut x_grad, mut affine_grad) = (dy.to_vec(), vec![0.0; batch * 2 * channels]);
        x_grad
            .par_chunks_mut(image)
            .zip(affine_grad.par_chunks_mut(2 * channels))
            .zip(x_values.par_chunks(image).zip(statistics.par_chunks(2 * channels)))
            .for_each(|((gradient, affine_grad), (x, statistics))| {
                simd::dispatch_kernel(Backward { affine, x, statistics, gradient, affine_grad });
            });
        let sums = Tensor::from_vec(column_sums(&affine_grad, 2 * channels), (2, channels), x.device())?;
        Ok((
            Some(Tensor::from_vec(x_grad, x.shape(), x.device())?),
            scale.track_op().then(|| sums.get(0)).transpose()?,
            bias.track_op().then(|| sums.get(1)).transpose()?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, random, same};
    use super::*;
    use candle_core::Device;

    fn settings(groups: usize, relu: bool) -> GroupNorm {
        GroupNorm { groups, eps: 1e-6, relu }
    }

    #[test]
    fn agrees_with_plain_operations() {
        for (shape, groups) in [(&[2, 3, 5, 8][..], 4), (&[3, 7, 6], 1), (&[2, 4, 4, 6], 6), (&[2, 6], 2)] {
            let channels = *shape.last().unwrap();
            let inputs = [random("x", shape), random("scale", &[channels]), random("bias", &[channels])];
            let fused = |t: &[Tensor], relu| group_norm(&t[0], &t[1], &t[2], settings(groups, relu));
            let twin = |t: &[Tensor], relu| plain(&t[0], &t[1], &t[2], settings(groups, relu));
            let composed = |t: &[Tensor], relu| tensors::group_norm(&t[0], &t[1], &t[2], settings(groups, relu));
            agrees(&inputs, |t| fused(t, false), |t| twin(t, false));
            agrees(&inputs, |t| composed(t, false), |t| twin(t, false));
            same(&inputs, &|t| composed(t, true), &|t| twin(t, true));
            same(&inputs, &|t| fused(t, true), &|t| twin(t, true));
            // So far from zero that no difference crosses it: channels that the ReLU lets through, and others.
            let signs: Vec<f32> = (0..channels).map(|i| if i % 3 == 0 { -20.0 } else { 20.0 }).collect();
            inputs[2].set(&Tensor::from_vec(signs, channels, &Device::Cpu).unwrap()).unwrap();
            agrees(&inputs, |t| fused(t, true), |t| twin(t, true));
        }
    }

    #[test]
    fn every_group_has_mean_0_and_variance_1() {
        let far = (random("x", &[1, 5, 5, 4]).as_tensor() * 0.1).unwrap() + 100.0;
        let (ones, zeros) = (random("one", &[4]), random("zero", &[4]));
        ones.set(&ones.ones_like().unwrap()).unwrap();
        zeros.set(&zeros.zeros_like().unwrap()).unwrap();
        let y = group_norm(&far.unwrap(), &ones, &zeros, settings(2, false)).unwrap();
        let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for group in 0..2 {
            let values: Vec<f32> = y.chunks(4).flat_map(|pixel| &pixel[group * 2..][..2]).copied().collect();
            let mean = values.iter().sum::<f32>() / 50.0;
            let variance = values.iter().map(|value| value * value).sum::<f32>() / 50.0;
            assert!(mean.abs() < 1e-3 && (variance - 1.0).abs() < 1e-3, "{mean} {variance}");
        }
    }

    #[test]
    fn relu_leaves_no_negative_numbers_and_hides_no_nan() {
        let x = Tensor::new(&[[[1.0f32], [2.0], [f32::NAN]], [[1.0], [2.0], [6.0]]], &Device::Cpu).unwrap();
        let one = |value: f32| Tensor::new(&[value], &Device::Cpu).unwrap();
        let y = group_norm(&x, &one(1.0), &one(0.0), settings(1, true)).unwrap();
        let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(y[..3].iter().all(|value| value.is_nan()), "{y:?}");
        assert!(y[3] == 0.0 && y[4] == 0.0 && (y[5] - 3.0 / (14.0f32 / 3.0).sqrt()).abs() < 1e-5, "{y:?}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (x, six) = (random("x", &[2, 3, 6]), random("six", &[6]));
        assert!(group_norm(&x, &six, &random("five", &[5]), settings(2, false)).is_err());
        assert!(group_norm(&x, &six, &six, settings(4, false)).unwrap_err().to_string().contains("4 groups"));
        assert!(group_norm(&x, &six, &six, settings(0, false)).is_err());
    }
}
