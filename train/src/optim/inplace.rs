//! Access to the numbers of CPU tensors, read in place and written in place.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp2, Layout, Storage, Tensor};

/// Numbers that one task works on: small enough for the second-level cache, large enough to be worth a task.
///
/// Sums over tensors are taken chunk by chunk in order, so they do not depend on the number of threads.
pub(super) const CHUNK: usize = 16 * 1024;

/// Calls `read` with the numbers of a contiguous f32 CPU tensor.
pub(super) fn with_slice<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> candle_core::Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(read(slice(storage, layout)?)),
        _ => candle_core::bail!("expected a tensor on the CPU"),
    }
}

/// Calls `write(destination, source)` with the numbers of two contiguous f32 CPU tensors of the same length.
pub(super) fn update(
    destination: &Tensor,
    source: &Tensor,
    write: impl FnMut(&mut [f32], &[f32]),
) -> candle_core::Result<()> {
    destination.inplace_op2(source, &Update(RefCell::new(write)))
}

/// candle hands an operation out by shared reference; it is called once, so the borrow cannot fail.
struct Update<F>(RefCell<F>);

impl<F: FnMut(&mut [f32], &[f32])> InplaceOp2 for Update<F> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(
        &self,
        destination: &mut CpuStorage,
        destination_layout: &Layout,
        source: &CpuStorage,
        source_layout: &Layout,
    ) -> candle_core::Result<()> {
        let source = slice(source, source_layout)?;
        let (Some((start, end)), CpuStorage::F32(destination)) = (destination_layout.contiguous_offsets(), destination)
        else {
            candle_core::bail!("update: expected a contiguous f32 tensor")
        };
        let destination = &mut destination[start..end];
        if destination.len() != source.len() {
            candle_core::bail!("update: {} numbers from {}", destination.len(), source.len())
        }
        (self.0.borrow_mut())(destination, source);
        Ok(())
    }
}

/// The numbers of a contiguous f32 CPU tensor inside an operation.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => candle_core::bail!("expected a contiguous tensor"),
    }
}
