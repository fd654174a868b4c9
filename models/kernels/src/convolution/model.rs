//! What cuDNN computes of what it is told, one product after the other, on the processor.

use candle_core::{Device, Result, Tensor};

use super::{Task, Way};

pub(super) fn compute(task: &Task) -> Result<Tensor> {
    let [a, b] = task.factors.each_ref().map(|factor| factor.flatten_all()?.to_vec1::<f32>());
    let (a, b) = (a?, b?);
    let plan = &task.plan;
    let [images, kernel, results] = [plan.images, plan.kernel, plan.results].map(|sizes| sizes.map(i64::from));
    let (stride, padding) = (i64::from(plan.stride), plan.padding.map(i64::from));
    let mut made = vec![0.0; task.shape.iter().product()];
    for result in indices(results) {
        let [n, output, y, x] = result;
        for [_, channel, row, column] in indices([1, kernel[1], kernel[2], kernel[3]]) {
            let (over_y, over_x) = (y * stride + row - padding[0], x * stride + column - padding[1]);
            if !(0..images[2]).contains(&over_y) || !(0..images[3]).contains(&over_x) {
                continue;
            }
            let of_images = place(images, [n, channel, over_y, over_x]);
            let of_kernel = place(kernel, [output, channel, row, column]);
            let of_results = place(results, result);
            match task.way {
                Way::Results => made[of_results] += a[of_images] * b[of_kernel],
                Way::Images => made[of_images] += a[of_kernel] * b[of_results],
                Way::Kernel => made[of_kernel] += a[of_images] * b[of_results],
            }
        }
    }
    Tensor::from_vec(made, &task.shape, &Device::Cpu)
}

/// All indices of a tensor of these sizes.
fn indices(sizes: [i64; 4]) -> impl Iterator<Item = [i64; 4]> {
    let [_, b, c, d] = sizes;
    (0..sizes.iter().product()).map(move |i: i64| [i / (b * c * d), i / (c * d) % b, i / d % c, i % d])
}

/// Where a number lies by cuDNN's format NHWC, whose strides are these.
fn place(sizes: [i64; 4], index: [i64; 4]) -> usize {
    let [_, channels, rows, columns] = sizes;
    let strides = [rows * columns * channels, 1, columns * channels, channels];
    strides.iter().zip(index).map(|(stride, index)| stride * index).sum::<i64>() as usize
}
