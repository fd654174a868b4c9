//! Holds the gradients of networks against finite differences.

use candle_core::{Device, Tensor, Var};
use drifting_spec::Stream;

use crate::Result;

/// Standard normal numbers that depend on `name`.
pub(crate) fn random(name: &str, shape: &[usize]) -> Tensor {
    Tensor::from_vec(Stream::new(1, name, 0).normals(shape.iter().product()), shape, &Device::Cpu).unwrap()
}

/// All numbers of a tensor, row by row.
pub(crate) fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// How far the slope of a network is from its finite differences.
#[derive(Clone, Copy)]
pub(crate) struct Steps {
    step: f64,
    /// Relative to the length of the gradient.
    tolerance: f64,
}

/// Networks whose slope changes slowly.
pub(crate) const SMOOTH: Steps = Steps { step: 2e-3, tolerance: 1e-2 };
/// Networks with ReLU or maxima: steps must be small, and so rounding is felt.
pub(crate) const KINKED: Steps = Steps { step: 1e-4, tolerance: 5e-2 };

/// Asserts that the gradient of `network` with respect to an input of this shape is the slope of its results, along random
/// directions, and that no number of it is zero.
pub(crate) fn gradient_is_slope(shape: &[usize], steps: Steps, network: impl Fn(&Tensor) -> Result<Vec<Tensor>>) {
    let Steps { step, tolerance } = steps;
    let input = Var::from_tensor(&(random("input", shape) * 0.5).unwrap()).unwrap();
    let loss = |x: &Tensor| {
        let terms = network(x).unwrap().into_iter().enumerate().map(|(i, result)| {
            let scale = (result.elem_count() as f64).sqrt();
            ((random(&format!("probe {i}"), result.dims()) * result).unwrap() / scale).unwrap()
        });
        terms.collect::<Vec<_>>()
    };
    let total = loss(input.as_tensor())
        .iter()
        .fold(Tensor::new(0f32, &Device::Cpu).unwrap(), |total, term| (total + term.sum_all().unwrap()).unwrap());
    let gradient = flat(total.backward().unwrap().get(&input).expect("a gradient of the input"));
    assert!(gradient.iter().all(|value| value.is_finite() && *value != 0.0), "{gradient:?}");
    let length = gradient.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    for index in 0..3 {
        let direction = Stream::new(2, "direction", index).normals(gradient.len());
        let at = |step: f64| {
            let shift = Tensor::from_slice(&direction, shape, &Device::Cpu).unwrap();
            let moved = (input.as_tensor().detach() + (shift * step).unwrap()).unwrap();
            loss(&moved).iter().flat_map(flat).map(f64::from).sum::<f64>()
        };
        let expected = (at(step) - at(-step)) / (2.0 * step);
        let found: f64 = gradient.iter().zip(&direction).map(|(&g, &d)| f64::from(g) * f64::from(d)).sum();
        assert!(
            (found - expected).abs() <= tolerance * length,
            "direction {index}: {found}, expected {expected} ({length})"
        );
    }
}
