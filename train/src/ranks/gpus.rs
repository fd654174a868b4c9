//! Sums of the numbers of several GPUs by NCCL, which do not pass through the host.

use std::ffi::c_char;
use std::fmt::Debug;

use candle_core::cuda_backend::cudarc::nccl::{Comm, Id, ReduceOp};
use candle_core::{CpuStorage, CudaDevice, CudaStorage, InplaceOp1, Layout, Result, Tensor, bail};

/// The GPUs of all ranks, one each.
#[derive(Debug)]
pub(super) struct Gpus(Comm);

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
        Comm::from_rank(device.cuda_stream(), rank, size, id).map(Self).map_err(failed)
    }

    /// Adds up the numbers of all ranks in a tensor that nothing else holds.
    pub(super) fn sum(&self, tensor: &Tensor) -> Result<()> {
        tensor.inplace_op1(&Sum(&self.0))
    }
}

fn failed(error: impl Debug) -> candle_core::Error {
    let help = "each rank needs a GPU of its own (docs/cuda.md); NCCL_DEBUG=INFO says more";
    candle_core::Error::Msg(format!("NCCL: {error:?}: {help}"))
}

struct Sum<'a>(&'a Comm);

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
        self.0.all_reduce_in_place(&mut values, &ReduceOp::Sum).map(drop).map_err(failed)
    }
}
