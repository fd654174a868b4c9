//! Memory of a run.

use drifting_models::mae_map_shapes;
use drifting_models::ops::PATCHES;
use drifting_spec::{GeneratorConfig, ImageShape, MaeConfig};

use crate::config::cost::{self, Kept};
use crate::config::{ComputeSettings, DeviceName, Operations};

/// Bytes of a number.
const BYTES: f64 = 4.0;

/// Bytes that a run has in memory at once, part by part: what stays between a forward pass and its backward pass. Where
/// tensor operations compute, also what the largest of them needs for itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    computes: Computes,
    host: Vec<(&'static str, f64)>,
    device: Vec<(&'static str, f64)>,
    /// Of the operation that needs the most for itself.
    scratch: f64,
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Computes {
    Processor,
    /// The processor, by tensor operations.
    Plain(Kept),
    Gpu(Kept),
}

impl Memory {
    pub(super) fn new(compute: ComputeSettings) -> Self {
        let kept = if compute.recompute { Kept::Inputs } else { Kept::Operations };
        let computes = match (compute.device, compute.operations) {
            (DeviceName::Cuda(_), _) => Computes::Gpu(kept),
            (DeviceName::Cpu, Operations::Plain) => Computes::Plain(kept),
            (DeviceName::Cpu, Operations::Fused) => Computes::Processor,
        };
        Self { computes, host: Vec::new(), device: Vec::new(), scratch: 0.0 }
    }

    /// In the memory of the processor.
    #[must_use]
    pub fn host(&self) -> Vec<(&'static str, f64)> {
        let mut parts = self.host.clone();
        if matches!(self.computes, Computes::Plain(_)) {
            parts.push(self.largest_operation());
        }
        parts
    }

    /// In the memory of the GPU, if one computes.
    #[must_use]
    pub fn device(&self) -> Option<Vec<(&'static str, f64)>> {
        matches!(self.computes, Computes::Gpu(_)).then(|| {
            let mut parts = self.device.clone();
            parts.push(self.largest_operation());
            parts
        })
    }

    fn largest_operation(&self) -> (&'static str, f64) {
        ("the largest operation", self.scratch)
    }

    fn kept(&self) -> Kept {
        match self.computes {
            Computes::Processor => Kept::Fused,
            Computes::Plain(kept) | Computes::Gpu(kept) => kept,
        }
    }

    /// What the processor keeps, in numbers.
    pub(super) fn on_host(&mut self, what: &'static str, numbers: f64) {
        self.host.push((what, BYTES * numbers));
    }

    /// So many images in queues: pixels as bytes, latents as numbers.
    pub(super) fn queues(&mut self, images: usize, shape: ImageShape) {
        let bytes = if matches!(shape.channels, 1 | 3) { 1.0 } else { BYTES };
        self.host.push(("queues", bytes * (images * shape.len()) as f64));
    }

    /// What computes keeps, in numbers.
    fn keep(&mut self, what: &'static str, numbers: f64) {
        let parts = if matches!(self.computes, Computes::Gpu(_)) { &mut self.device } else { &mut self.host };
        parts.push((what, BYTES * numbers));
    }

    /// What an operation needs for itself, in numbers, where its steps are tensors.
    fn pass_through(&mut self, numbers: f64) {
        self.scratch = self.scratch.max(BYTES * numbers);
    }

    /// Weights, gradients, two moments and the moving averages.
    pub(super) fn learner(&mut self, parameters: usize, averages: usize) {
        self.keep("parameters, moments, averages", parameters as f64 * (4 + averages) as f64);
    }

    /// A generator of `images` at once.
    pub(super) fn generator(&mut self, network: &GeneratorConfig, parameters: usize, images: f64) {
        let kept = self.kept();
        self.keep("generator's activations", images * cost::generator_activations(network, kept) as f64);
        if kept == Kept::Inputs {
            // One after another, block by block.
            self.keep("generator's weights, packed", parameters as f64);
        }
        self.pass_through(images * cost::attention_scratch(network) as f64);
    }

    /// An encoder of so many generated and real images at once, which only keeps activations of generated ones.
    pub(super) fn encoder(&mut self, config: &MaeConfig, parameters: f64, generated: f64, real: f64) {
        self.keep("encoder", parameters);
        self.keep("encoder's activations", generated * cost::encoder_activations(config) as f64);
        self.convolutions(config, generated.max(real));
        if self.kept() != Kept::Fused {
            let maps: usize = mae_map_shapes(config).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
            self.keep("maps of real images, gradients of maps", (generated + real) * maps as f64);
        }
    }

    /// A masked autoencoder in training.
    pub(super) fn autoencoder(&mut self, network: &MaeConfig, images: f64) {
        let activations = cost::encoder_activations(network) + cost::decoder_activations(network);
        self.keep("activations", images * activations as f64);
        self.convolutions(network, images);
    }

    fn convolutions(&mut self, network: &MaeConfig, images: f64) {
        self.pass_through((images * cost::patches(network) as f64).min(PATCHES as f64));
    }

    /// Features of so many numbers of each image in all keys, and in the largest of them.
    pub(super) fn features(&mut self, numbers: f64, largest: f64, generated: f64, real: f64) {
        match self.kept() {
            // Those of all keys, and their gradient for the generated images.
            Kept::Fused => self.keep("features", (real + 2.0 * generated) * numbers),
            // Of one key: as they come, gathered by problem, about their centre; drifts, and their gradient.
            _ => self.pass_through((3.0 * (generated + real) + 2.0 * generated) * largest),
        }
    }
}
