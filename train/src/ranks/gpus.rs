//! Sums of the numbers of several GPUs by NCCL, which do not pass through the host.

use std::ffi::c_char;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::CudaStream;
use candle_core::cuda_backend::cudarc::nccl::{Comm, Id, ReduceOp};
use candle_core::{CpuStorage, CudaDevice, CudaStorage, InplaceOp1, Layout, Result, Tensor, bail};

use super::Sums;

/// The GPUs of all ranks, one each.
#[derive(Clone, Debug)]
pub(super) struct Gpus {
    comm: Arc<Mutex<Communicator>>,
    /// Where the network computes.
    computes: Arc<CudaStream>,
    /// Where sums are: what is queued there runs beside what computes.
    adds: Arc<CudaStream>,
}

#[derive(Debug)]
struct Communicator(Comm);

// SAFETY: NCCL takes calls from any thread, one at a time, which a mutex sees to.
#[allow(unsafe_code)]
unsafe impl Send for Communicator {}

/// Bytes of the name by which GPUs find each other.
pub(super) type Name = [u8; 128];

impl Gpus {
    /// Joins those of the other ranks, which do the same. `share` hands all ranks what rank 0 has.
    ///
    /// # Errors
    /// What NCCL says, such as that two ranks have the same GPU.
    pub(super) fn join(
        device: &CudaDevice,
        (rank, size): (usize, usize),
        share: impl FnOnce(&mut Name),
    ) -> Result<Self> {
        let mut name = [0; 128];
        if rank == 0 {
            name = Id::new().map_err(failed)?.internal().map(|byte| byte.to_ne_bytes()[0]);
        }
        share(&mut name);
        let id = Id::uninit(name.map(|byte| c_char::from_ne_bytes([byte])));
        let computes = device.cuda_stream();
        let adds = computes.fork().map_err(candle_core::Error::wrap)?;
        let comm = Comm::from_rank(Arc::clone(&adds), rank, size, id).map_err(failed)?;
        Ok(Self { comm: Arc::new(Mutex::new(Communicator(comm))), computes, adds })
    }
}

fn failed(error: impl Debug) -> candle_core::Error {
    let help = "each rank needs a GPU of its own (docs/cuda.md); NCCL_DEBUG=INFO says more";
    candle_core::Error::Msg(format!("NCCL: {error:?}: {help}"))
}

/// Sums that are queued as soon as they are begun.
#[derive(Debug)]
pub(super) struct Queued {
    gpus: Gpus,
    begun: Vec<Tensor>,
}

impl Queued {
    pub(super) fn new(gpus: Gpus) -> Self {
        Self { gpus, begun: Vec::new() }
    }
}

impl Sums for Queued {
    fn begin(&mut self, tensor: Tensor) -> Result<()> {
        // Sums are written in place.
        let tensor = tensor.copy()?;
        // Not before its numbers are there.
        self.gpus.adds.join(&self.gpus.computes).map_err(candle_core::Error::wrap)?;
        tensor.inplace_op1(&Sum(&self.gpus))?;
        self.begun.push(tensor);
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Tensor>> {
        self.gpus.computes.join(&self.gpus.adds).map_err(candle_core::Error::wrap)?;
        Ok(std::mem::take(&mut self.begun))
    }
}

struct Sum<'a>(&'a Gpus);

impl InplaceOp1 for Sum<'_> {
    fn name(&self) -> &'static str {
        "sum over GPUs"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("{} of numbers on the processor", self.name())
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let Some((first, end)) = layout.contiguous_offsets() else { bail!("{} of scattered numbers", self.name()) };
        let mut values = storage.as_cuda_slice_mut::<f32>()?.slice_mut(first..end);
        let Communicator(comm) = &*self.0.comm.lock().unwrap_or_else(PoisonError::into_inner);
        comm.all_reduce_in_place(&mut values, &ReduceOp::Sum).map(drop).map_err(failed)
    }
}
