//! Batches whose inputs and output stay at fixed places of the device's memory, so that a provider can record its work on
//! them as a CUDA graph and replay it.
//!
//! Only such batches are bound: inputs that change with every batch and an output that goes to the host gain nothing from
//! binding alone.

use std::collections::BTreeMap;

use drifting_spec::{GeneratorConfig, Inputs, Pixels, names};
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, NoSelectedOutputs, RunOptions, Session};
use ort::value::Tensor;

use crate::engine::interface::{Output, interface, numbers};

/// ONNX Runtime's key for the graph that a run records or replays.
const GRAPH_ID: &str = "gpu_graph_id";

/// Bound batches, one for each size.
pub(super) struct Recorded {
    device: AllocationDevice<'static>,
    number: i32,
    batches: BTreeMap<usize, Bound>,
}

/// One batch size.
struct Bound {
    binding: IoBinding,
    floats: BTreeMap<&'static str, Tensor<f32>>,
    integers: BTreeMap<&'static str, Tensor<i64>>,
    output: Place,
    options: RunOptions<NoSelectedOutputs>,
}

/// Where the images of a batch lie.
enum Place {
    Floats(Tensor<f32>),
    Levels(Tensor<u8>),
}

impl Place {
    /// A copy on the host.
    fn read(&self) -> ort::Result<Vec<f32>> {
        Ok(match self {
            Self::Floats(tensor) => tensor.to(AllocationDevice::CPU, 0)?.try_extract_tensor::<f32>()?.1.to_vec(),
            Self::Levels(tensor) => numbers(tensor.to(AllocationDevice::CPU, 0)?.try_extract_tensor::<u8>()?.1),
        })
    }
}

impl Recorded {
    /// Batches in the memory of GPU `number`.
    pub(super) fn on_cuda(number: u32) -> Self {
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        Self { device: AllocationDevice::CUDA, number, batches: BTreeMap::new() }
    }

    /// Batches in the memory of the host: the same way without a GPU.
    #[cfg(test)]
    pub(super) fn on_host() -> Self {
        Self { device: AllocationDevice::CPU, number: 0, batches: BTreeMap::new() }
    }

    /// Runs `inputs`, whose lengths fit `config`; the first batch of each size is bound.
    pub(super) fn run(
        &mut self,
        session: &mut Session,
        config: &GeneratorConfig,
        output: &Output,
        inputs: &Inputs,
    ) -> ort::Result<Vec<f32>> {
        let batch = inputs.batch();
        if !self.batches.contains_key(&batch) {
            let bound = self.bind(session, config, output, batch)?;
            self.batches.insert(batch, bound);
        }
        let Some(bound) = self.batches.get_mut(&batch) else { return Ok(Vec::new()) };
        bound.fill(inputs)?;
        drop(session.run_binding_with_options(&bound.binding, &bound.options)?);
        bound.output.read()
    }

    fn bind(&self, session: &Session, config: &GeneratorConfig, output: &Output, batch: usize) -> ort::Result<Bound> {
        let place = MemoryInfo::new(self.device.clone(), self.number, AllocatorType::Device, MemoryType::Default)?;
        let memory = Allocator::new(session, place)?;
        let mut binding = session.create_binding()?;
        let (mut floats, mut integers) = (BTreeMap::new(), BTreeMap::new());
        for (name, dimensions) in interface(config) {
            let shape: Vec<usize> = std::iter::once(batch).chain(dimensions).collect();
            if matches!(name, names::NOISE | names::ALPHA) {
                let tensor = Tensor::<f32>::new(&memory, shape)?;
                binding.bind_input(name, &tensor)?;
                floats.insert(name, tensor);
            } else {
                let tensor = Tensor::<i64>::new(&memory, shape)?;
                binding.bind_input(name, &tensor)?;
                integers.insert(name, tensor);
            }
        }
        let output = match output.pixels {
            Pixels::Float => {
                let mut tensor = Tensor::<f32>::new(&memory, output.dims(batch))?;
                binding.bind_output(names::IMAGE, &mut tensor)?;
                Place::Floats(tensor)
            }
            Pixels::Uint8 => {
                let mut tensor = Tensor::<u8>::new(&memory, output.dims(batch))?;
                binding.bind_output(names::IMAGE, &mut tensor)?;
                Place::Levels(tensor)
            }
        };
        let mut options = RunOptions::new()?;
        options.set(GRAPH_ID, batch.to_string())?;
        Ok(Bound { binding, floats, integers, output, options })
    }
}

impl Bound {
    /// Copies a batch into the bound inputs.
    fn fill(&mut self, inputs: &Inputs) -> ort::Result<()> {
        // Owned tensors: ort waits for itself for ever when borrowed numbers are copied within the host's memory.
        for (name, tensor) in &mut self.floats {
            let values = if *name == names::NOISE { &inputs.noise } else { &inputs.alpha };
            Tensor::from_array((tensor.shape().to_vec(), values.clone()))?.copy_into(tensor)?;
        }
        for (name, tensor) in &mut self.integers {
            let values = if *name == names::STYLE { &inputs.style } else { &inputs.class };
            Tensor::from_array((tensor.shape().to_vec(), values.clone()))?.copy_into(tensor)?;
        }
        Ok(())
    }
}
