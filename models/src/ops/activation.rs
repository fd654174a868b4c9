//! SiLU and the exact GELU, each number by itself.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::operations::fused;
use super::simd::{self, Kernel};
use super::storage::{PIECE, Values, slice, written};
use crate::profile;

/// x sigmoid(x) of each number of `x`, any shape.
///
/// # Errors
/// On the CPU numbers other than f32.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    activate(x, Activation::Silu)
}

/// x Phi(x) of each number of `x`, any shape, where Phi(x) is the share of a normal distribution below x.
///
/// # Errors
/// On the CPU numbers other than f32.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    activate(x, Activation::Gelu)
}

fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if fused(x.device()) { x.contiguous()?.apply_op1(activation) } else { activation.plain(x) }
}

#[derive(Clone, Copy, Debug)]
enum Activation {
    Silu,
    Gelu,
}

impl Activation {
    fn plain(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Silu => x.silu(),
            Self::Gelu => x.gelu_erf(),
        }
    }
}

impl CustomOp1 for Activation {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let _span = profile::span("activation").numbers(2 * layout.shape().elem_count());
        let x = slice(x, layout)?;
        let [out] = written(x.len(), PIECE, |start, [out]| {
            simd::dispatch_kernel(Forward { activation: *self, x: &x[start..][..out.len()], out });
        });
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let _span = profile::span("activation, backward").numbers(3 * grad.elem_count());
        let grad = grad.contiguous()?;
        let (values, dy) = (Values::of(x)?, Values::of(&grad)?);
        let (values, dy): (&[f32], &[f32]) = (&values, &dy);
        let [dx] = written(values.len(), PIECE, |start, [dx]| {
            let (x, dy) = (&values[start..][..dx.len()], &dy[start..][..dx.len()]);
            simd::dispatch_kernel(Backward { activation: *self, x, dy, dx });
        });
        Tensor::from_vec(dx, x.shape(), x.device()).map(Some)
    }
}

struct Forward<'a> {
    activation: Activation,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let pairs = self.out.iter_mut().zip(self.x);
        match self.activation {
            Activation::Silu => {
                for (out, &x) in pairs {
                    *out = x * simd::sigmoid(x);
                }
            }
            Activation::Gelu => {
                for (out, &x) in pairs {
                    *out = x * normal(x).0;
                }
            }
        }
    }
}

struct Backward<'a> {
    activation: Activation,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let triples = self.dx.iter_mut().zip(self.dy).zip(self.x);
        match self.activation {
            Activation::Silu => {
                for ((dx, dy), &x) in triples {
                    let share = simd::sigmoid(x);
                    *dx = dy * share * (1.0 + x * (1.0 - share));
                }
            }
            Activation::Gelu => {
                for ((dx, dy), &x) in triples {
                    let (share, density) = normal(x);
                    *dx = dy * (share + x * density);
                }
            }
        }
    }
}

/// The share of a normal distribution below x and its density there, each with a relative error below 1e-6 down to -9.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    /// 1 / sqrt(2 pi).
    const SCALE: f32 = 0.398_942_3;
    // Nothing is left beyond.
    let a = x.abs().min(13.19);
    // e^(-a^2 / 2), with what rounding took from the exponent.
    let square = a * a;
    let lost = a.mul_add(a, -square);
    let e = simd::exp_within(-0.5 * square) * lost.mul_add(-0.5, 1.0);
    // The share beyond a over e, which is smooth in t: its best polynomial of degree 8 for relative errors.
    let t = (a - 2.5) / (a + 2.5);
    let mut p = -1.565_434_7e-4f32;
    p = p.mul_add(t, -3.308_367_4e-4);
    p = p.mul_add(t, 8.022_569e-4);
    p = p.mul_add(t, 2.942_367_2e-3);
    p = p.mul_add(t, -5.118_780_1e-3);
    p = p.mul_add(t, -2.454_816_5e-2);
    p = p.mul_add(t, 1.131_352_6e-1);
    p = p.mul_add(t, -2.280_698e-1);
    p = p.mul_add(t, 1.413_313_4e-1);
    let beyond = p * e;
    (if x < 0.0 { beyond } else { 1.0 - beyond }, SCALE * e)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, random};
    use super::*;

    #[test]
    fn agrees_with_plain_operations() {
        for shape in [&[3, 7][..], &[1], &[2, 1, PIECE - 5]] {
            agrees(&[random("x", shape)], |t| silu(&t[0]), |t| t[0].silu());
            agrees(&[random("x", shape)], |t| gelu(&t[0]), |t| t[0].gelu_erf());
        }
        let empty = Tensor::zeros((0, 3), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        assert_eq!(gelu(&empty).unwrap().dims(), [0, 3]);
    }

    /// The share beyond a of a normal distribution in f64: its series, or far out its continued fraction.
    fn beyond(a: f64) -> f64 {
        let density = (-0.5 * a * a).exp() / (2.0 * std::f64::consts::PI).sqrt();
        if a < 3.0 {
            let (mut term, mut sum) = (a, a);
            for i in 1..80 {
                term *= a * a / f64::from(2 * i + 1);
                sum += term;
            }
            return 0.5 - density * sum;
        }
        density / (a + (1..200).rev().fold(0.0, |t, k| f64::from(k) / (a + t)))
    }

    #[test]
    fn the_tails_are_accurate() {
        let grid: Vec<f32> = (-9000..9000).map(|i| i as f32 * 1e-3 + 1e-5).collect();
        let [mut values, mut slopes] = [(); 2].map(|()| vec![0.0; grid.len()]);
        let ones = vec![1.0; grid.len()];
        let activation = Activation::Gelu;
        simd::dispatch_kernel(Forward { activation, x: &grid, out: &mut values });
        simd::dispatch_kernel(Backward { activation, x: &grid, dy: &ones, dx: &mut slopes });
        for ((&x, &value), &slope) in grid.iter().zip(&values).zip(&slopes) {
            let x = f64::from(x);
            let share = if x < 0.0 { beyond(-x) } else { 1.0 - beyond(x) };
            let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let error = (f64::from(value) / (x * share) - 1.0).abs();
            assert!(error < 1e-6, "{x}: {value} {}, {error:e}", x * share);
            // The slope has a zero, where both of its parts cancel.
            let error = (f64::from(slope) - share - x * density).abs() / (share + (x * density).abs());
            assert!(error < 1e-6, "slope at {x}: {slope} {}, {error:e}", share + x * density);
        }
    }

    #[test]
    fn large_numbers_stay_numbers() {
        let x = Tensor::new(&[-1e30f32, -40.0, 40.0, 1e30], &candle_core::Device::Cpu).unwrap();
        for (op, least) in [(silu as fn(&Tensor) -> Result<Tensor>, 1e-7), (gelu, 1e-8)] {
            let y = op(&x).unwrap().to_vec1::<f32>().unwrap();
            assert!(y[0].abs() < 1e30 * least && y[1].abs() < least && y[2] == 40.0 && y[3] == 1e30, "{y:?}");
        }
    }
}
