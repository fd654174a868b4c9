//! x + gate * y, the residual connection of adaLN-zero.

use candle_core::{Result, Tensor};

/// x + gate * y, where every token of an image shares the image's gate.
///
/// Shapes: x and y `[batch, tokens, hidden]`, modulation `[batch, width]` whose columns `offset..offset + hidden` are the gate.
///
/// # Errors
/// Shapes that do not fit each other.
pub fn gated_add(x: &Tensor, y: &Tensor, modulation: &Tensor, offset: usize) -> Result<Tensor> {
    let (batch, _, hidden) = x.dims3()?;
    let (rows, width) = modulation.dims2()?;
    if x.dims() != y.dims() || rows != batch || offset + hidden > width {
        candle_core::bail!("gated add: {:?} + {:?} by {:?} at {offset}", x.dims(), y.dims(), modulation.dims());
    }
    let gate = modulation.narrow(1, offset, x.dim(2)?)?.unsqueeze(1)?;
    x + y.broadcast_mul(&gate)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_gate_is_the_images_own() {
        let tensor =
            |values: &[f32], shape: (usize, usize, usize)| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
        let (x, y) = (tensor(&[1.0, 2.0, 3.0, 4.0], (2, 1, 2)), tensor(&[1.0; 4], (2, 1, 2)));
        let modulation = tensor(&[9.0, 0.5, 1.0, 9.0, 2.0, 3.0], (2, 3, 1)).squeeze(2).unwrap();
        let found = gated_add(&x, &y, &modulation, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(found, [1.5, 3.0, 5.0, 7.0]);
        assert!(gated_add(&x, &y, &modulation, 2).is_err());
    }
}
