//! Networks' operations with products in bfloat16, for all threads of this process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends there")]

use candle_core::{DType, Device, Tensor, Var};
use drifting_models::ops::matmul::{Precision, precision, set_precision};
use drifting_models::ops::{Conv, Operations, Padding, conv2d, linear, set_operations};

fn tensor(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The result and the gradients of its square's sum.
fn all(inputs: &[Tensor], of: &dyn Fn(&[Tensor]) -> Tensor) -> Vec<Tensor> {
    let vars: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
    let y = of(&vars.iter().map(|var| var.as_tensor().clone()).collect::<Vec<_>>());
    let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let found = vars.iter().map(|var| gradients.get(var).unwrap().clone());
    std::iter::once(y.detach()).chain(found).collect()
}

/// |x - y| / |y|.
fn difference(x: &Tensor, y: &Tensor) -> f64 {
    let norm =
        |x: &Tensor| x.to_dtype(DType::F64).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
    (norm(&(x - y).unwrap()) / norm(y)).sqrt()
}

#[test]
fn results_and_gradients_differ_by_the_rounding_of_the_numbers() {
    let dense = |channels: usize, outputs: usize, stride| {
        let conv = Conv { stride, padding: Padding::from(1), groups: 1 };
        let inputs = vec![tensor(&[3, 9, 12, channels], 1), tensor(&[3, 3, channels, outputs], 2)];
        (
            inputs,
            Box::new(move |t: &[Tensor]| conv2d(&t[0], &t[1], None, conv).unwrap()) as Box<dyn Fn(&[Tensor]) -> Tensor>,
        )
    };
    let cases = [
        ("linear", {
            let inputs = vec![tensor(&[5, 33, 96], 3), tensor(&[40, 96], 4), tensor(&[40], 5)];
            (inputs, Box::new(|t: &[Tensor]| linear(&t[0], &t[1], &t[2]).unwrap()) as Box<dyn Fn(&[Tensor]) -> Tensor>)
        }),
        ("3 x 3, squares", dense(64, 96, 1)),
        ("3 x 3, squares of few channels", dense(32, 32, 1)),
        ("3 x 3, stride 2", dense(64, 64, 2)),
    ];
    let full: Vec<_> = cases.iter().map(|(_, (inputs, of))| all(inputs, of)).collect();
    set_precision(Precision::Bf16);
    assert_eq!(precision(), Precision::Bf16);
    let half: Vec<_> = cases.iter().map(|(_, (inputs, of))| all(inputs, of)).collect();
    for (((name, _), full), half) in cases.iter().zip(&full).zip(&half) {
        for (i, (half, full)) in half.iter().zip(full).enumerate() {
            let difference = difference(half, full);
            // A number is off by 2^-9 at most, by 0.6 of that in the mean; gradients come of two products.
            assert!((1e-5..8e-3).contains(&difference) || name.contains("stride"), "{name}, {i}: {difference}");
        }
    }
    // As other devices compute it.
    set_operations(Operations::Plain);
    for ((name, (inputs, of)), full) in cases.iter().zip(&full) {
        for (i, (half, full)) in all(inputs, of).iter().zip(full).enumerate() {
            let difference = difference(half, full);
            assert!((1e-5..8e-3).contains(&difference) || i == 3, "{name} in plain operations, {i}: {difference}");
        }
    }
}
