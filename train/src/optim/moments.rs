//! The moments of a parameter, and the arithmetic of one step.

use candle_core::{Device, Tensor, Var};
use drifting_models::ops::kernels;
use rayon::prelude::*;

use super::inplace::{CHUNK, update};
use super::{AdamWSettings, Result, device};

/// The moments of one parameter, where the parameter is: in memory they are updated together with it in one pass.
#[derive(Clone, Debug)]
pub(super) enum Moments {
    Host { first: Vec<f32>, second: Vec<f32> },
    Device { first: Tensor, second: Tensor },
}

/// The factors of one step, bias corrections included.
#[derive(Clone, Copy)]
pub(super) struct Factors {
    pub(super) beta1: f64,
    pub(super) beta2: f64,
    pub(super) gradient: f64,
    /// lr / (1 - beta1^t)
    pub(super) rate: f64,
    /// 1 / sqrt(1 - beta2^t)
    pub(super) root: f64,
    pub(super) epsilon: f64,
    /// 1 - lr * weight_decay
    pub(super) keep: f64,
}

impl Factors {
    /// The factors of step number `step`, counted from 1, at learning rate `lr` for gradients that are scaled by
    /// `gradient`.
    pub(super) fn new(settings: &AdamWSettings, step: u64, lr: f64, gradient: f64) -> Self {
        let &AdamWSettings { beta1, beta2, epsilon, weight_decay } = settings;
        let steps = step as f64;
        let rate = lr / (1.0 - beta1.powf(steps));
        let root = 1.0 / (1.0 - beta2.powf(steps)).sqrt();
        Self { beta1, beta2, gradient, rate, root, epsilon, keep: 1.0 - lr * weight_decay }
    }
}

impl Moments {
    pub(super) fn zeros(var: &Var) -> Result<Self> {
        let zeros = var.as_detached_tensor().zeros_like()?;
        Self::from_tensors(&zeros, &zeros)
    }

    pub(super) fn from_tensors(first: &Tensor, second: &Tensor) -> Result<Self> {
        if first.device().is_cpu() {
            let [first, second] = [first.flatten_all()?.to_vec1()?, second.flatten_all()?.to_vec1()?];
            return Ok(Self::Host { first, second });
        }
        Ok(Self::Device { first: first.copy()?, second: second.copy()? })
    }

    pub(super) fn tensors(&self, var: &Var) -> Result<(Tensor, Tensor)> {
        match self {
            Self::Host { first, second } => {
                let tensor = |values: &[f32]| Tensor::from_slice(values, var.shape(), &Device::Cpu);
                Ok((tensor(first)?, tensor(second)?))
            }
            Self::Device { first, second } => Ok((first.clone(), second.clone())),
        }
    }

    pub(super) fn step(&mut self, var: &Var, gradient: &Tensor, factors: Factors) -> Result<()> {
        match self {
            Self::Host { first, second } => Ok(update(var, gradient, |parameter, gradient| {
                step_host(parameter, gradient, [&mut *first, &mut *second], factors);
            })?),
            Self::Device { first, second } if kernels(var.device()) => {
                device::step(var, gradient, [&*first, &*second], factors)
            }
            Self::Device { first, second } => step_device(var, gradient, [first, second], factors),
        }
    }
}

fn step_host(parameter: &mut [f32], gradient: &[f32], [first, second]: [&mut [f32]; 2], factors: Factors) {
    if parameter.len() <= CHUNK {
        return step_chunk(parameter, gradient, [first, second], factors);
    }
    let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
    let chunks = parameter.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).zip(moments);
    chunks.for_each(|((parameter, gradient), (first, second))| {
        step_chunk(parameter, gradient, [first, second], factors);
    });
}

fn step_chunk(parameter: &mut [f32], gradient: &[f32], [first, second]: [&mut [f32]; 2], factors: Factors) {
    let Factors { beta1, beta2, gradient: scale, rate, root, epsilon, keep } = factors;
    let (beta1, add1, beta2, add2) = (beta1 as f32, (1.0 - beta1) as f32, beta2 as f32, (1.0 - beta2) as f32);
    let [scale, rate, root, epsilon, keep] = [scale, rate, root, epsilon, keep].map(|factor| factor as f32);
    let moments = first.iter_mut().zip(second);
    for ((parameter, &gradient), (first, second)) in parameter.iter_mut().zip(gradient).zip(moments) {
        let gradient = scale * gradient;
        *first = beta1 * *first + add1 * gradient;
        *second = beta2 * *second + add2 * (gradient * gradient);
        *parameter = keep * *parameter - rate * (*first / (root * second.sqrt() + epsilon));
    }
}

/// The same in tensor operations, for devices other than the CPU.
fn step_device(var: &Var, gradient: &Tensor, [first, second]: [&mut Tensor; 2], factors: Factors) -> Result<()> {
    let Factors { beta1, beta2, gradient: scale, rate, root, epsilon, keep } = factors;
    let gradient = (gradient * scale)?;
    *first = ((&*first * beta1)? + (&gradient * (1.0 - beta1))?)?;
    *second = ((&*second * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
    let direction = (&*first / ((second.sqrt()? * root)? + epsilon)?)?;
    Ok(var.set(&((var.as_detached_tensor() * keep)? - (direction * rate)?)?)?)
}

#[cfg(test)]
mod tests {
    use drifting_spec::Stream;

    use super::*;

    #[test]
    fn tensor_operations_take_the_same_step() {
        let shape = [3, CHUNK];
        let normal = |name, index| {
            let values = Stream::new(1, name, index).normals(3 * CHUNK);
            Tensor::from_vec(values, &shape, &Device::Cpu).unwrap()
        };
        let [host, device] = [0, 1].map(|_| Var::from_tensor(&normal("weight", 0)).unwrap());
        let mut moments = Moments::zeros(&host).unwrap();
        let [mut first, mut second] = [0, 1].map(|_| host.zeros_like().unwrap());
        #[cfg(feature = "emulator")]
        let [launched, its_first, its_second] =
            [host.copy(), host.zeros_like(), host.zeros_like()].map(|t| Var::from_tensor(&t.unwrap()).unwrap());
        for step in 1..=3 {
            let factors = Factors::new(&AdamWSettings::default(), step, 0.01, 0.5);
            let gradient = normal("gradient", step);
            moments.step(&host, &gradient, factors).unwrap();
            step_device(&device, &gradient, [&mut first, &mut second], factors).unwrap();
            #[cfg(feature = "emulator")]
            super::super::device::step(&launched, &gradient, [&its_first, &its_second], factors).unwrap();
        }
        let (host_first, host_second) = moments.tensors(&host).unwrap();
        let by_tensors = [(host.as_tensor(), device.as_tensor()), (&host_first, &first), (&host_second, &second)];
        #[cfg(not(feature = "emulator"))]
        let by_kernels = [];
        #[cfg(feature = "emulator")]
        let by_kernels = [(host.as_tensor(), &*launched), (&host_first, &*its_first), (&host_second, &*its_second)];
        for (host, device) in by_tensors.into_iter().chain(by_kernels) {
            let difference = (host - device).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(difference < 1e-6, "{difference}");
        }
    }
}
