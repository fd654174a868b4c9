//! Devices beside the processor.

use candle_core::{Device, Result};

/// The NVIDIA GPU of this number. What a step frees, the next one takes: nothing goes back to the driver in between, which would
/// cost more than the arithmetic of small operations.
///
/// # Errors
/// A program that was built without the feature `cuda`; a GPU that is not there.
pub fn cuda(number: usize) -> Result<Device> {
    let device = Device::new_cuda(number)?;
    #[cfg(feature = "cuda")]
    keep_memory(number)?;
    Ok(device)
}

#[cfg(feature = "cuda")]
fn keep_memory(number: usize) -> Result<()> {
    use candle_core::Error;
    use candle_core::cuda_backend::cudarc::driver::result::{device, mem_pool};
    use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;

    let number = i32::try_from(number).map_err(Error::wrap)?;
    let gpu = device::get(number).map_err(Error::wrap)?;
    let mut most = u64::MAX;
    #[allow(unsafe_code, reason = "the driver's interface is in C")]
    // SAFETY: the device is one that the driver gave, so its pool is there; this attribute is a 64-bit number.
    unsafe {
        let pool = device::get_default_mem_pool(gpu).map_err(Error::wrap)?;
        mem_pool::set_attribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, (&raw mut most).cast()).map_err(Error::wrap)
    }
}
