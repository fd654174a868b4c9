//! Holds a fused operation against its plain twin and against finite differences.

use candle_core::{Device, Result, Tensor, Var};
use drifting_spec::Stream;

/// A variable of standard normal numbers that depend on `name`.
pub(super) fn random(name: &str, shape: &[usize]) -> Var {
    let values = Stream::new(1, name, 0).normals(shape.iter().product());
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
}

/// The result and the gradient of every input of sum(result * fixed random numbers).
fn evaluate(inputs: &[Var], op: &dyn Fn(&[Tensor]) -> Result<Tensor>) -> (Vec<f32>, Vec<Vec<f32>>) {
    let tensors: Vec<Tensor> = inputs.iter().map(|var| var.as_tensor().clone()).collect();
    let result = op(&tensors).unwrap();
    let probe = random("probe", result.dims());
    let gradients = (&result * probe.as_tensor().detach()).unwrap().sum_all().unwrap().backward().unwrap();
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    (flat(&result), tensors.iter().map(|tensor| flat(gradients.get(tensor).expect("a gradient"))).collect())
}

fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1.0f32, |size, value| size.max(value.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= tolerance * size, "{what} [{i}]: {found}, expected {expected}");
    }
}

/// Asserts that `fused` gives the values and gradients of `plain`, and that its gradients are the slopes of its values.
pub(super) fn agrees(
    inputs: &[Var],
    fused: impl Fn(&[Tensor]) -> Result<Tensor>,
    plain: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    for (i, gradient) in same(inputs, &fused, &plain).iter().enumerate() {
        slope(inputs, i, gradient, &fused);
    }
}

/// Asserts that `fused` gives the values and gradients of `plain`; gives the gradients. Enough by itself only for operations
/// whose slope jumps, which differences cannot tell.
pub(super) fn same(
    inputs: &[Var],
    fused: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    plain: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) -> Vec<Vec<f32>> {
    let (values, gradients) = evaluate(inputs, fused);
    let (plain_values, plain_gradients) = evaluate(inputs, plain);
    close("value", &values, &plain_values, 2e-6);
    for (i, (found, expected)) in gradients.iter().zip(&plain_gradients).enumerate() {
        close(&format!("gradient of input {i}"), found, expected, 5e-6);
        assert!(found.iter().any(|value| *value != 0.0), "the gradient of input {i} is zero");
    }
    gradients
}

/// Compares a gradient with the central difference along one random direction.
fn slope(inputs: &[Var], i: usize, gradient: &[f32], op: &dyn Fn(&[Tensor]) -> Result<Tensor>) {
    const STEP: f64 = 1e-2;
    let direction = Stream::new(2, "direction", i as u64).normals(gradient.len());
    let at = |step: f64| {
        let moved: Vec<Tensor> = inputs
            .iter()
            .enumerate()
            .map(|(j, var)| {
                let tensor = var.as_tensor().detach();
                if i != j {
                    return tensor;
                }
                let shift = Tensor::from_vec(direction.clone(), tensor.shape(), tensor.device()).unwrap();
                (tensor + (shift * step).unwrap()).unwrap()
            })
            .collect();
        let result = op(&moved).unwrap();
        let probe = random("probe", result.dims());
        let values = (result * probe.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.iter().map(|&value| f64::from(value)).sum::<f64>()
    };
    let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
    let found: f64 = gradient.iter().zip(&direction).map(|(&g, &d)| f64::from(g) * f64::from(d)).sum();
    assert!((found - expected).abs() <= 2e-2 * (1.0 + expected.abs()), "slope along input {i}: {found} {expected}");
}
