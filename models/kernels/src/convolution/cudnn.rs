//! Convolutions on an NVIDIA GPU.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::cuda_backend::DeviceId;
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Error, Result, Storage, Tensor};
use candle_cudarc::cudnn::result::{self, CudnnResult};
use candle_cudarc::cudnn::sys;
use candle_cudarc::driver::CudaStream;

use super::super::gpu::{address, pointer};
use super::choice::{Choice, Math, best};
use super::ways::{Chosen, Images, Kernel, OneWay, Results};
use super::{Plan, Task, Way};

pub(super) fn compute(device: &CudaDevice, task: &Task) -> Result<Tensor> {
    let computed = match task.way {
        Way::Results => by::<Results>(device, task),
        Way::Images => by::<Images>(device, task),
        Way::Kernel => by::<Kernel>(device, task),
    };
    computed.map_err(|error| Error::msg(format!("cuDNN: {:?} of {:?}: {error}", task.way, task.sizes)))
}

fn by<W: OneWay>(device: &CudaDevice, task: &Task) -> Result<Tensor> {
    device.cuda_stream().context().bind_to_thread().map_err(Error::wrap)?;
    let (handle, told, choice) = ready::<W>(device, task).map_err(Error::wrap)?;
    // SAFETY: cuDNN writes all numbers of the result, and reads of its own memory what it wrote. An allocation of nothing has no
    // address.
    #[allow(unsafe_code)]
    let (made, workspace) = unsafe {
        let numbers = task.shape.iter().product::<usize>();
        (device.alloc::<f32>(numbers.max(1))?, device.alloc::<u8>(choice.workspace.max(1))?)
    };
    let [first, second] = task.factors.each_ref().map(|factor| pointer(device, factor));
    let pointers = [first?, second?, address(device, &made), address(device, &workspace)];
    // SAFETY: the pointers are those of tensors of the sizes told on this device, and of the allocations above; they live until the
    // stream, which frees in order, is there.
    #[allow(unsafe_code)]
    unsafe { W::run(&handle, &told, choice, pointers) }.map_err(Error::wrap)?;
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(made, device.clone()));
    Ok(Tensor::from_storage(storage, &task.shape, BackpropOp::none(), false))
}

/// All that a call wants but pointers.
fn ready<W: OneWay>(device: &CudaDevice, task: &Task) -> CudnnResult<(Rc<Handle>, Told, Choice<W::Algorithm>)> {
    let (handle, told) = (handle(device)?, Told::new(&task.plan)?);
    let choice = chosen::<W>(&handle, &told, task)?;
    told.set_math(choice.math)?;
    Ok((handle, told, choice))
}

/// What was chosen before for these sizes, as asking takes its time; else the best of what cuDNN proposes, or what always does.
fn chosen<W: OneWay>(handle: &Handle, told: &Told, task: &Task) -> CudnnResult<Choice<W::Algorithm>> {
    let key = (task.sizes, task.digits);
    if let Some(choice) = W::chosen(handle).borrow().get(&key) {
        return Ok(*choice);
    }
    let math = task.digits.math();
    told.set_math(math)?;
    let choice = match best(&W::proposals(handle, told)?, task.digits) {
        Some(choice) => choice,
        None => Choice { algorithm: W::FIXED, math, workspace: W::workspace(handle, told, W::FIXED)? },
    };
    W::chosen(handle).borrow_mut().insert(key, choice);
    Ok(choice)
}

/// cuDNN on a device's stream, and what was chosen there.
pub(super) struct Handle {
    pub(super) raw: sys::cudnnHandle_t,
    _stream: Arc<CudaStream>,
    pub(super) results: Chosen<sys::cudnnConvolutionFwdAlgo_t>,
    pub(super) images: Chosen<sys::cudnnConvolutionBwdDataAlgo_t>,
    pub(super) kernel: Chosen<sys::cudnnConvolutionBwdFilterAlgo_t>,
}

thread_local! {
    /// Of each device that this thread computes on. cuDNN's handles are for one thread at a time.
    static HANDLES: RefCell<Vec<(DeviceId, Rc<Handle>)>> = const { RefCell::new(Vec::new()) };
}

/// This thread's for a device.
fn handle(device: &CudaDevice) -> CudnnResult<Rc<Handle>> {
    HANDLES.with_borrow_mut(|handles| {
        if let Some((_, handle)) = handles.iter().find(|(id, _)| *id == device.id()) {
            return Ok(handle.clone());
        }
        let handle = Rc::new(Handle::new(device.cuda_stream())?);
        handles.push((device.id(), handle.clone()));
        Ok(handle)
    })
}

impl Handle {
    fn new(stream: Arc<CudaStream>) -> CudnnResult<Self> {
        let (raw, cu_stream) = (result::create_handle()?, stream.cu_stream());
        let (results, images, kernel) = Default::default();
        let handle = Self { raw, _stream: stream, results, images, kernel };
        // SAFETY: both were made and live as long as the handle.
        #[allow(unsafe_code)]
        unsafe { result::set_stream(handle.raw, cu_stream.cast()) }?;
        Ok(handle)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: nothing else destroys it. That it fails has no consequence that anybody could act on.
        #[allow(unsafe_code)]
        let _ = unsafe { result::destroy_handle(self.raw) };
    }
}

/// One of cuDNN's descriptors, and what destroys it.
pub(super) struct Descriptor<D: Copy> {
    pub(super) raw: D,
    destroy: unsafe fn(D) -> CudnnResult<()>,
}

impl<D: Copy> Drop for Descriptor<D> {
    fn drop(&mut self) {
        // SAFETY: nothing else destroys it. That it fails has no consequence that anybody could act on.
        #[allow(unsafe_code)]
        let _ = unsafe { (self.destroy)(self.raw) };
    }
}

/// A plan in cuDNN's own words.
pub(super) struct Told {
    pub(super) images: Descriptor<sys::cudnnTensorDescriptor_t>,
    pub(super) kernel: Descriptor<sys::cudnnFilterDescriptor_t>,
    pub(super) results: Descriptor<sys::cudnnTensorDescriptor_t>,
    pub(super) convolution: Descriptor<sys::cudnnConvolutionDescriptor_t>,
}

const FORMAT: sys::cudnnTensorFormat_t = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
const F32: sys::cudnnDataType_t = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;

impl Told {
    fn new(plan: &Plan) -> CudnnResult<Self> {
        let (tensor, filter) = (result::destroy_tensor_descriptor, result::destroy_filter_descriptor);
        let told = Self {
            images: Descriptor { raw: result::create_tensor_descriptor()?, destroy: tensor },
            kernel: Descriptor { raw: result::create_filter_descriptor()?, destroy: filter },
            results: Descriptor { raw: result::create_tensor_descriptor()?, destroy: tensor },
            convolution: Descriptor {
                raw: result::create_convolution_descriptor()?,
                destroy: result::destroy_convolution_descriptor,
            },
        };
        let ([rows, columns], stride) = (plan.padding, plan.stride);
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        // SAFETY: all four were made above.
        #[allow(unsafe_code)]
        unsafe {
            result::set_tensor4d_descriptor(told.images.raw, FORMAT, F32, plan.images)?;
            result::set_tensor4d_descriptor(told.results.raw, FORMAT, F32, plan.results)?;
            result::set_filter4d_descriptor(told.kernel.raw, F32, FORMAT, plan.kernel)?;
            let raw = told.convolution.raw;
            result::set_convolution2d_descriptor(raw, rows, columns, stride, stride, 1, 1, mode, F32)?;
        }
        Ok(told)
    }

    fn set_math(&self, math: Math) -> CudnnResult<()> {
        // SAFETY: the descriptor was made.
        #[allow(unsafe_code)]
        unsafe {
            result::set_convolution_math_type(self.convolution.raw, math.into())
        }
    }
}
