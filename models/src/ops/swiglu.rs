//! SiLU(gate) * value, the activation of SwiGLU.

use candle_core::{Result, Tensor};

use super::simd::{self, Kernel};

/// SiLU(gate) * value for tensors of the same shape.
///
/// # Errors
/// Shapes that differ.
pub fn swiglu(gate: &Tensor, value: &Tensor) -> Result<Tensor> {
    if gate.dims() != value.dims() {
        candle_core::bail!("swiglu: gate {:?}, value {:?}", gate.dims(), value.dims());
    }
    gate.silu()? * value
}

/// out = SiLU(gate) * value.
pub(super) struct Activate<'a> {
    pub(super) gate: &'a [f32],
    pub(super) value: &'a [f32],
    pub(super) out: &'a mut [f32],
}

impl Kernel for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((out, &g), &v) in self.out.iter_mut().zip(self.gate).zip(self.value) {
            *out = g * simd::sigmoid(g) * v;
        }
    }
}

/// Gradients of gate and value from the gradient `dy` of the result.
pub(super) struct ActivateBack<'a> {
    pub(super) gate: &'a [f32],
    pub(super) value: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) dg: &'a mut [f32],
    pub(super) dv: &'a mut [f32],
}

impl Kernel for ActivateBack<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let read = self.gate.iter().zip(self.value).zip(self.dy);
        for ((dg, dv), ((&g, &v), &dy)) in self.dg.iter_mut().zip(self.dv).zip(read) {
            let sigmoid = simd::sigmoid(g);
            *dg = dy * v * sigmoid * (1.0 + g * (1.0 - sigmoid));
            *dv = dy * g * sigmoid;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::random;
    use super::*;

    #[test]
    fn kernels_agree_with_plain_operations() {
        let (gate, value, dy) = (random("gate", &[21]), random("value", &[21]), random("dy", &[21]));
        let y = swiglu(&gate, &value).unwrap();
        let gradients = (&y * dy.as_tensor().detach()).unwrap().sum_all().unwrap().backward().unwrap();
        let values = |tensor: &Tensor| tensor.to_vec1::<f32>().unwrap();
        let [mut out, mut dg, mut dv] = [(); 3].map(|()| vec![0.0f32; 21]);
        Activate { gate: &values(&gate), value: &values(&value), out: &mut out }.run();
        let (gate_values, value_values, dy) = (values(&gate), values(&value), values(&dy));
        ActivateBack { gate: &gate_values, value: &value_values, dy: &dy, dg: &mut dg, dv: &mut dv }.run();
        let found = [out, dg, dv].concat();
        let expected = [&y, gradients.get(&gate).unwrap(), gradients.get(&value).unwrap()].map(values).concat();
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
        assert!(swiglu(&gate, &random("value", &[3, 7])).is_err());
    }
}
