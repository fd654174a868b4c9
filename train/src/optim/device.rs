//! The optimizer's arithmetic by kernels, in place, where the parameters are.

use candle_core::Tensor;
use drifting_kernels::{Argument, Launch, Output, launch, source};

use super::Result;
use super::moments::Factors;

/// Threads of a block.
const THREADS: usize = 256;
/// Blocks at most that one sum is split into.
const BLOCKS: usize = 512;

/// One step of AdamW: changes the parameter and its moments.
pub(super) fn step(
    parameter: &Tensor,
    gradient: &Tensor,
    [first, second]: [&Tensor; 2],
    factors: Factors,
) -> Result<()> {
    let Factors { beta1, beta2, gradient: scale, rate, root, epsilon, keep } = factors;
    let gradient = gradient.contiguous()?;
    let number = |number: f64| Argument::Number(number as f32);
    let [] = launch(
        source::ADAMW.kernel("adamw"),
        Launch::over(parameter.elem_count(), THREADS),
        parameter.device(),
        [],
        &[
            Argument::Changed(&parameter.detach()),
            Argument::Changed(first),
            Argument::Changed(second),
            Argument::Input(&gradient),
            Argument::Count(parameter.elem_count()),
            number(scale),
            number(beta1),
            number(1.0 - beta1),
            number(beta2),
            number(1.0 - beta2),
            number(rate),
            number(root),
            number(epsilon),
            number(keep),
        ],
    )?;
    Ok(())
}

/// average <- keep * average + add * parameter.
pub(super) fn blend(average: &Tensor, parameter: &Tensor, keep: f32, add: f32) -> Result<()> {
    let [] = launch(
        source::ADAMW.kernel("average"),
        Launch::over(average.elem_count(), THREADS),
        average.device(),
        [],
        &[
            Argument::Changed(average),
            Argument::Input(&parameter.detach()),
            Argument::Count(average.elem_count()),
            Argument::Number(keep),
            Argument::Number(add),
        ],
    )?;
    Ok(())
}

/// The sum of the squares of all numbers, in double precision, always in the same order.
pub(super) fn square_sum(gradient: &Tensor) -> candle_core::Result<Tensor> {
    let count = gradient.elem_count();
    let blocks = count.div_ceil(THREADS).clamp(1, BLOCKS);
    let [sums] = launch(
        source::ADAMW.kernel("square_sums"),
        Launch { grid: [blocks, 1, 1], threads: THREADS, shared: 8 * THREADS },
        gradient.device(),
        [Output::f64(&[blocks])],
        &[Argument::Input(&gradient.contiguous()?), Argument::Count(count)],
    )?;
    sums.sum_all()
}

#[cfg(all(test, feature = "emulator"))]
mod tests {
    use candle_core::Device;
    use drifting_spec::Stream;

    use super::*;

    #[test]
    fn averages_move_by_their_share() {
        let numbers = |index| Tensor::new(Stream::new(1, "numbers", index).normals(700), &Device::Cpu).unwrap();
        let (average, parameter) = (numbers(0), numbers(1));
        let expected = ((&average * 0.75).unwrap() + (&parameter * 0.25).unwrap()).unwrap();
        blend(&average, &parameter, 0.75, 0.25).unwrap();
        let worst = (average - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(worst < 1e-6, "{worst}");
    }

    #[test]
    fn sums_are_those_of_double_precision() {
        for count in [1, 257, 300_000] {
            let numbers = Stream::new(1, "numbers", 2).normals(count);
            let expected: f64 = numbers.iter().map(|&number| f64::from(number).powi(2)).sum();
            let sum = square_sum(&Tensor::new(numbers, &Device::Cpu).unwrap()).unwrap();
            assert!((sum.to_scalar::<f64>().unwrap() / expected - 1.0).abs() < 1e-12, "{count}");
        }
    }
}
