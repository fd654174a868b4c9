//! Networks' operations by kernels, with products in both precisions: on a GPU if `DRIFTING_TEST_DEVICE` says `cuda`, else emulated.

#![cfg(feature = "emulator")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends there")]

use candle_core::{Device, Tensor, Var};
use drifting_kernels::emulator::emulated;
use drifting_models::ops::matmul::{Precision, set_precision};
use drifting_models::ops::{
    Attention, Conv, GroupNorm, Modulation, Operations, attention, conv2d, gated_add, group_norm, kernels, norm,
    set_operations, swiglu,
};
use drifting_spec::{Norm, QkNorm, Stream};

type Op = Box<dyn Fn(&[Tensor]) -> Tensor>;

fn random(shape: &[usize], index: u64) -> Tensor {
    let values = Stream::new(1, "numbers", index).normals(shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The result and the gradients of its square's sum, computed on `device`.
fn all(device: &Device, shapes: &[&[usize]], op: &Op) -> Vec<Tensor> {
    let var =
        |(shape, index): (&&[usize], u64)| Var::from_tensor(&random(shape, index).to_device(device).unwrap()).unwrap();
    let vars: Vec<Var> = shapes.iter().zip(1..).map(var).collect();
    let y = op(&vars.iter().map(|var| var.as_tensor().clone()).collect::<Vec<_>>());
    let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let found = vars.iter().map(|var| gradients.get(var).unwrap().clone());
    std::iter::once(y.detach()).chain(found).map(|tensor| tensor.to_device(&Device::Cpu).unwrap()).collect()
}

/// |x - y| / |y|.
fn difference(x: &Tensor, y: &Tensor) -> f32 {
    let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
    (norm(&(x - y).unwrap()) / norm(y)).sqrt()
}

#[test]
fn operations_on_a_gpu_are_those_of_tensors() {
    let heads = Attention { heads: 2, qk_norm: QkNorm::Rms, rotation: None };
    let columns = Modulation { shift: 0, scale: 24 };
    let grouped = GroupNorm { groups: 4, eps: 1e-6, relu: true };
    let cases: Vec<(&str, Vec<&[usize]>, Op)> = vec![
        (
            "convolution",
            vec![&[2, 5, 6, 8], &[3, 3, 8, 4]],
            Box::new(|t| conv2d(&t[0], &t[1], None, Conv::new(2, 1)).unwrap()),
        ),
        (
            "convolution of stride 1",
            vec![&[2, 7, 9, 6], &[3, 3, 6, 5]],
            Box::new(|t| conv2d(&t[0], &t[1], None, Conv::new(1, 1)).unwrap()),
        ),
        ("attention", vec![&[2, 9, 48], &[2, 8]], Box::new(move |t| attention(&t[0], &t[1], &heads).unwrap())),
        (
            "norm",
            vec![&[2, 5, 24], &[1, 24], &[2, 48]],
            Box::new(move |t| norm(Norm::Rms, &t[0], &t[1], &t[2], columns).unwrap()),
        ),
        ("swiglu", vec![&[2, 30], &[2, 30]], Box::new(|t| swiglu(&t[0], &t[1]).unwrap())),
        ("gate", vec![&[2, 5, 24], &[2, 5, 24], &[2, 24]], Box::new(|t| gated_add(&t[0], &t[1], &t[2], 0).unwrap())),
        (
            "group norm",
            vec![&[2, 3, 4, 8], &[8], &[8]],
            Box::new(move |t| group_norm(&t[0], &t[1], &t[2], grouped).unwrap()),
        ),
    ];
    let on_gpu = std::env::var("DRIFTING_TEST_DEVICE").is_ok_and(|name| name == "cuda");
    let gpu = on_gpu.then(|| drifting_models::device::cuda(0).unwrap());
    // cuDNN may take its sums apart as Winograd did, and its factors have three bits more than those they are held against.
    let bars = if on_gpu && cfg!(feature = "cudnn") { [1e-5, 8e-3] } else { [2e-6, 4e-3] };
    for (precision, bar) in [Precision::F32, Precision::Bf16].into_iter().zip(bars) {
        set_precision(precision);
        for (name, shapes, op) in &cases {
            set_operations(Operations::Plain);
            assert!(!kernels(&Device::Cpu));
            let expected = all(&Device::Cpu, shapes, op);
            set_operations(Operations::Fused);
            let found = match &gpu {
                Some(gpu) => {
                    assert!(kernels(gpu));
                    all(gpu, shapes, op)
                }
                None => emulated(|| {
                    assert!(kernels(&Device::Cpu));
                    all(&Device::Cpu, shapes, op)
                }),
            };
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let difference = difference(found, expected);
                assert!(difference < bar, "{precision:?} {name} {at}: {difference}");
            }
        }
    }
}
