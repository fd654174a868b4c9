//! The inner product with a given gradient, from which backpropagation starts.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::operations::fused;
use super::simd;
use super::storage::slice;
use crate::profile;

/// Numbers that one task sums.
const CHUNK: usize = 1 << 14;

/// sum(x * gradient), a scalar whose gradient with respect to x is `gradient` as it is: backpropagation of a gradient that
/// was computed elsewhere. No gradient flows into `gradient`.
///
/// # Errors
/// Shapes that differ.
pub fn inner(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    if x.dims() != gradient.dims() {
        candle_core::bail!("inner product: x {:?}, gradient {:?}", x.dims(), gradient.dims());
    }
    let gradient = gradient.detach();
    if fused(x.device()) { x.contiguous()?.apply_op2(&gradient.contiguous()?, Inner) } else { plain(x, &gradient) }
}

fn plain(x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    (x * gradient)?.sum_all()
}

struct Inner;

impl CustomOp2 for Inner {
    fn name(&self) -> &'static str {
        "inner"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let _span = profile::span("inner product").numbers(2 * x_layout.shape().elem_count());
        let (x, gradient) = (slice(x, x_layout)?, slice(gradient, gradient_layout)?);
        let products = x.par_chunks(CHUNK).zip(gradient.par_chunks(CHUNK));
        let sums: Vec<f32> = products.map(|(x, gradient)| simd::dispatch(|| simd::dot(x, gradient))).collect();
        let total: f64 = sums.iter().map(|&sum| f64::from(sum)).sum();
        Ok((CpuStorage::F32(vec![total as f32]), ().into()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        gradient: &Tensor,
        _: &Tensor,
        upper: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let _span = profile::span("inner product, backward");
        let factor = f64::from(upper.to_scalar::<f32>()?);
        let gradient = if factor == 1.0 { gradient.clone() } else { (gradient * factor)? };
        Ok((Some(gradient), None))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, random};
    use super::*;

    #[test]
    fn agrees_with_plain_operations() {
        let gradient = random("gradient", &[3, 7]);
        agrees(&[random("x", &[3, 7])], |t| inner(&t[0], &gradient), |t| plain(&t[0], &gradient.detach()));
        assert!(inner(&random("x", &[7, 3]), &gradient).is_err());
    }

    #[test]
    fn the_gradient_arrives_as_it_is() {
        let (x, gradient) = (random("x", &[40_000]), random("gradient", &[40_000]));
        let found = inner(&x, &gradient).unwrap().backward().unwrap();
        let values = |tensor: &Tensor| tensor.to_vec1::<f32>().unwrap();
        assert_eq!(values(found.get(&x).unwrap()), values(&gradient));
        assert!(found.get(&gradient).is_none());
    }
}
