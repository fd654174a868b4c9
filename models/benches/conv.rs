//! Convolution against candle's and against the matrix product of the same size, and a residual block against its parts.
//!
//! `RAYON_NUM_THREADS=1 cargo bench -p drifting-models --bench conv` for one thread. Elements are floating-point operations.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark")]

use candle_core::{Device, Tensor, Var};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use drifting_models::ops::matmul::{Matrix, Threads, matmul};
use drifting_models::ops::{Conv, ConvChain, ConvNorm, GroupNorm, Skip, conv_chain, conv2d, group_norm, inner};
use drifting_spec::Stream;

/// Images, side, channels in, channels out, stride.
const SIZES: [[usize; 5]; 5] =
    [[64, 32, 32, 32, 1], [64, 16, 64, 64, 1], [64, 14, 64, 64, 1], [64, 4, 256, 256, 1], [64, 32, 32, 64, 2]];

fn random(name: &str, shape: &[usize]) -> Var {
    let values = Stream::new(1, name, 0).normals(shape.iter().product());
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
}

fn bench(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, flops: usize, mut run: impl FnMut()) {
    group.throughput(Throughput::Elements(flops as u64));
    group.bench_function(name, |bencher| bencher.iter(&mut run));
}

fn convolutions(criterion: &mut Criterion) {
    for [batch, side, from, to, stride] in SIZES {
        let mut group = criterion.benchmark_group(format!("{batch}x{side}x{side}x{from} to {to}, stride {stride}"));
        let (x, weight) = (random("x", &[batch, side, side, from]), random("weight", &[3, 3, from, to]));
        let (fixed_x, fixed_weight) = (x.detach(), weight.detach());
        let out = side / stride;
        let (m, k) = (batch * out * out, 9 * from);
        let flops = 2 * m * k * to;
        let (patches, kernel) =
            (Stream::new(2, "patches", 0).normals(m * k), Stream::new(3, "kernel", 0).normals(k * to));
        let mut product = vec![0.0; m * to];
        bench(&mut group, "matrix product", flops, || {
            matmul(&mut product, Matrix::new(&patches, m, k), Matrix::new(&kernel, k, to), 1.0, Threads::All);
        });
        let conv = Conv::new(stride, 1);
        let dy = random("dy", &[batch, out, out, to]).detach();
        bench(&mut group, "forward", flops, || drop(conv2d(&fixed_x, &fixed_weight, None, conv).unwrap()));
        let gradients = |x: &Tensor, weight: &Tensor| {
            inner(&conv2d(x, weight, None, conv).unwrap(), &dy).unwrap().backward().unwrap();
        };
        bench(&mut group, "forward, input gradient", 2 * flops, || gradients(&x, &fixed_weight));
        bench(&mut group, "forward, both gradients", 3 * flops, || gradients(&x, &weight));
        // candle's has the channels first.
        let first =
            |t: &Tensor, order: [usize; 4]| Var::from_tensor(&t.permute(order).unwrap().contiguous().unwrap()).unwrap();
        let (x, weight, dy) =
            (first(&x, [0, 3, 1, 2]), first(&weight, [3, 2, 0, 1]), first(&dy, [0, 3, 1, 2]).detach());
        let run = |x: &Tensor| x.conv2d(&weight, 1, stride, 1, 1).unwrap();
        bench(&mut group, "candle: forward", flops, || drop(run(&x)));
        bench(&mut group, "candle: forward, both gradients", 3 * flops, || {
            inner(&run(&x), &dy).unwrap().backward().unwrap();
        });
    }
}

fn blocks(criterion: &mut Criterion) {
    for [batch, side, channels] in [[160, 32, 32], [160, 14, 64]] {
        let mut group = criterion.benchmark_group(format!("residual block of {batch}x{side}x{side}x{channels}"));
        let x = random("x", &[batch, side, side, channels]);
        let dy = random("dy", &[batch, side, side, channels]).detach();
        let weight = (random("weight", &[3, 3, channels, channels]).detach() * 0.05).unwrap();
        let (scale, bias) = (random("scale", &[channels]).detach(), random("bias", &[channels]).detach());
        let layer = |relu| {
            let norm = GroupNorm { groups: 32, eps: 1e-6, relu };
            ConvNorm { kernel: [3, 3, channels, channels], conv: Conv::new(1, 1), norm }
        };
        let chain = ConvChain { layers: vec![layer(true), layer(false)], skip: Skip::Identity };
        let parts = [weight.flatten_all().unwrap(), scale.clone(), bias.clone()];
        let parameters = Tensor::cat(&[&parts[..], &parts[..]].concat(), 0).unwrap();
        let single = |x: &Tensor, layer: &ConvNorm| {
            group_norm(&conv2d(x, &weight, None, layer.conv).unwrap(), &scale, &bias, layer.norm).unwrap()
        };
        let flops = 2 * 2 * 2 * 9 * batch * side * side * channels * channels;
        let backward = |y: &Tensor| drop(inner(y, &dy).unwrap().backward().unwrap());
        bench(&mut group, "fused, with input gradient", flops, || {
            backward(&conv_chain(&x, &parameters, &chain).unwrap());
        });
        bench(&mut group, "single operations, with input gradient", flops, || {
            let y = single(&single(&x, &chain.layers[0]), &chain.layers[1]);
            backward(&(x.as_tensor() + y).unwrap().relu().unwrap());
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = convolutions, blocks
}
criterion_main!(benches);
