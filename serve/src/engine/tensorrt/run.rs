//! A plan on a GPU.
//!
//! Written against TensorRT-RTX 1.7 and CUDA 13; no GPU has been at hand to run it.

#![allow(unsafe_code, reason = "addresses of the GPU's memory are handed to TensorRT, which takes pointers")]

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DriverError};
use drifting_spec::{GeneratorConfig, Inputs, Pixels, names};
use trtx::trtx_sys::Dims64;
use trtx::{CudaEngine, ExecutionContext, Runtime};

use super::library::{logger, reason};
use super::{NAME, Plan};
use crate::engine::interface::{Output, check_inputs, interface, numbers};
use crate::engine::{Engine, EngineError, EngineInfo, EngineSettings};
use crate::model::Model;

/// What computes, as `/info` and the response headers tell it.
const PROVIDER: &str = "TensorRT-RTX";

/// A generator in TensorRT. The order of the fields is that in which they may be dropped.
pub(super) struct TensorRt {
    context: ExecutionContext<'static>,
    _engine: CudaEngine<'static>,
    _runtime: Runtime<'static>,
    stream: Arc<CudaStream>,
    batches: Vec<usize>,
    config: GeneratorConfig,
    output: Output,
    info: EngineInfo,
}

// SAFETY: the handles are used by one thread at a time, which owns them; TensorRT and CUDA allow that to be any thread as
// long as the device's context is bound to it, which `run` does. The one part of the context that is not `Send` is an
// optional configuration behind an `Rc`, of which there is none.
unsafe impl Send for TensorRt {}

impl TensorRt {
    /// Loads `plan` onto the GPU.
    ///
    /// # Errors
    /// There is no such GPU, or TensorRT refuses the plan.
    pub(super) fn load(model: &Model, plan: &Plan, settings: &EngineSettings) -> Result<Self, EngineError> {
        let device = settings.provider.device;
        let driver = |error: DriverError| EngineError::TensorRt(format!("GPU {device}: {error}"));
        let refused = |error: trtx::Error| EngineError::Load { engine: NAME, problem: reason(&error) };
        let cuda = CudaContext::new(device as usize).map_err(driver)?;
        let stream = cuda.new_stream().map_err(driver)?;
        let mut runtime = Runtime::new(logger()?).map_err(refused)?;
        let mut engine = runtime.deserialize_cuda_engine(&plan.bytes).map_err(refused)?;
        let context = engine.create_execution_context().map_err(refused)?;
        let info = EngineInfo {
            name: NAME,
            version: plan.card.tensorrt.clone(),
            provider: PROVIDER,
            threads: 1,
            library: None,
            fallback: None,
        };
        let (config, batches) = (model.manifest.generator.clone(), plan.card.batches.clone());
        let output = Output::of(&model.manifest)?;
        Ok(Self { context, _engine: engine, _runtime: runtime, stream, batches, config, output, info })
    }

    /// Runs a batch whose lengths fit, with the profile of its size.
    fn compute(&mut self, profile: i32, inputs: &Inputs) -> Result<Vec<f32>, Failure> {
        self.stream.context().bind_to_thread()?;
        let queue: *mut c_void = self.stream.cu_stream().cast();
        // SAFETY: the stream lives as long as `self`.
        if !unsafe { self.context.set_optimization_profile_async(profile, queue) } {
            return Err(Failure::Other(format!("profile {profile} was refused")));
        }
        let batch = inputs.batch();
        // The numbers stay on the GPU until the stream is done with them.
        let (mut floats, mut integers) = (Vec::new(), Vec::new());
        for (name, dimensions) in interface(&self.config) {
            let shape: Vec<i64> = std::iter::once(batch).chain(dimensions).map(|size| size as i64).collect();
            self.context.set_input_shape(name, &Dims64::from_slice(&shape))?;
            match name {
                names::NOISE => floats.push(self.bind(name, &inputs.noise)?),
                names::ALPHA => floats.push(self.bind(name, &inputs.alpha)?),
                names::STYLE => integers.push(self.bind(name, &inputs.style)?),
                _ => integers.push(self.bind(name, &inputs.class)?),
            }
        }
        let image = match self.output.pixels {
            Pixels::Float => self.image(batch, queue)?,
            Pixels::Uint8 => numbers(&self.image::<u8>(batch, queue)?),
        };
        drop((floats, integers));
        Ok(image)
    }

    /// Computes a batch whose inputs are bound.
    fn image<T>(&mut self, batch: usize, queue: *mut c_void) -> Result<Vec<T>, Failure>
    where
        T: cudarc::driver::DeviceRepr + cudarc::driver::ValidAsZeroBits + Clone,
    {
        let mut image: CudaSlice<T> = self.stream.alloc_zeros(batch * self.output.shape.len())?;
        {
            let (address, _order) = image.device_ptr_mut(&self.stream);
            // SAFETY: the memory holds the whole output and outlives the work that is enqueued below.
            unsafe { self.context.set_output_tensor_address(names::IMAGE, address as *mut c_void)? };
        }
        // SAFETY: every input and the output is bound to memory of its size, and the stream is alive.
        unsafe { self.context.enqueue_v3(queue)? };
        let image = self.stream.clone_dtoh(&image)?;
        self.stream.synchronize()?;
        Ok(image)
    }

    /// Copies an input to the GPU and tells TensorRT where it is.
    fn bind<T: cudarc::driver::DeviceRepr + Clone>(
        &mut self,
        name: &str,
        values: &[T],
    ) -> Result<CudaSlice<T>, Failure> {
        let memory = self.stream.clone_htod(values)?;
        {
            let (address, _order) = memory.device_ptr(&self.stream);
            // SAFETY: the memory holds the whole input and is kept until the stream is done.
            unsafe { self.context.set_input_tensor_address(name, address as *const c_void)? };
        }
        Ok(memory)
    }
}

/// What can go wrong in a batch.
enum Failure {
    Driver(DriverError),
    TensorRt(trtx::Error),
    Other(String),
}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

impl From<trtx::Error> for Failure {
    fn from(error: trtx::Error) -> Self {
        Self::TensorRt(error)
    }
}

impl Engine for TensorRt {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn run(&mut self, inputs: &Inputs) -> Result<Vec<f32>, EngineError> {
        check_inputs(NAME, &self.config, inputs)?;
        let batch = inputs.batch();
        let failed = |problem: String| EngineError::Run { engine: NAME, problem };
        let profile = self.batches.iter().position(|&size| size == batch).and_then(|at| i32::try_from(at).ok());
        let profile =
            profile.ok_or_else(|| failed(format!("the plan was built for batches {:?}, not {batch}", self.batches)))?;
        let image = self.compute(profile, inputs).map_err(|failure| match failure {
            Failure::Driver(error) => failed(error.to_string()),
            Failure::TensorRt(error) => failed(reason(&error)),
            Failure::Other(problem) => failed(problem),
        })?;
        self.output.check(batch, image.len())?;
        Ok(image)
    }
}
