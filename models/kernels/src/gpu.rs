//! Kernels on an NVIDIA GPU.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, LaunchConfig, PushKernelArg};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Result, Storage, Tensor, bail};
use half::bf16;

use super::{Argument, Kernel, Launch, Output};

/// Numbers that a kernel makes.
enum Made {
    F32(CudaSlice<f32>),
    F64(CudaSlice<f64>),
    Bf16(CudaSlice<bf16>),
}

pub(super) fn launch<const N: usize>(
    kernel: Kernel,
    launch: Launch,
    device: &CudaDevice,
    outputs: [Output<'_>; N],
    arguments: &[Argument<'_>],
) -> Result<[Tensor; N]> {
    let made = outputs.iter().map(|output| allocated(device, output)).collect::<Result<Vec<_>>>()?;
    let mut pointers: Vec<u64> = made.iter().map(|made| made.pointer(device)).collect();
    for argument in arguments {
        if let Some(tensor) = argument.tensor()? {
            pointers.push(pointer(device, tensor)?);
        }
    }
    let numbers = arguments.iter().map(Argument::number).collect::<Result<Vec<_>>>()?;
    let numbers: Vec<u32> = numbers.into_iter().map(u32::from_ne_bytes).collect();
    if !launch.grid.contains(&0) {
        let function = device.get_or_load_custom_func(kernel.function, kernel.source.name, kernel.source.ptx)?;
        let mut builder = function.builder();
        let mut pointers = pointers.iter();
        for pointer in pointers.by_ref().take(N) {
            builder.arg(pointer);
        }
        for (argument, number) in arguments.iter().zip(&numbers) {
            match (argument, argument.tensor()?) {
                (_, Some(_)) => pointers.next().map(|pointer| builder.arg(pointer)),
                _ => Some(builder.arg(number)),
            };
        }
        let [x, y, z] = launch.grid.map(u32::try_from);
        let (Ok(x), Ok(y), Ok(z), Ok(threads), Ok(shared)) =
            (x, y, z, u32::try_from(launch.threads), u32::try_from(launch.shared))
        else {
            bail!("kernel {}: {launch:?} is too large", kernel.function)
        };
        let config = LaunchConfig { grid_dim: (x, y, z), block_dim: (threads, 1, 1), shared_mem_bytes: shared };
        // SAFETY: the pointers are those of tensors and of what was allocated above, all on this device, and live until the stream,
        // which frees in order, has run the kernel. That a kernel keeps within them is what the emulator checks.
        #[allow(unsafe_code)]
        let launched = unsafe { builder.launch(config) };
        if let Err(error) = launched {
            bail!("kernel {}: {error}", kernel.function);
        }
    }
    let mut tensors = made.into_iter().zip(outputs).map(|(made, output)| {
        let storage = Storage::Cuda(made.storage(device));
        Tensor::from_storage(storage, output.shape, BackpropOp::none(), false)
    });
    let tensors: [Option<Tensor>; N] = std::array::from_fn(|_| tensors.next());
    let mut all = Vec::with_capacity(N);
    all.extend(tensors.into_iter().flatten());
    all.try_into().map_err(|_| candle_core::Error::Msg(format!("kernel {}: an output was lost", kernel.function)))
}

fn allocated(device: &CudaDevice, output: &Output<'_>) -> Result<Made> {
    // An allocation of nothing has no address.
    let len = output.shape.iter().product::<usize>().max(1);
    // SAFETY: a kernel writes all numbers of its outputs.
    #[allow(unsafe_code)]
    unsafe {
        match output.dtype {
            DType::BF16 => Ok(Made::Bf16(device.alloc(len)?)),
            DType::F64 => Ok(Made::F64(device.alloc(len)?)),
            _ => Ok(Made::F32(device.alloc(len)?)),
        }
    }
}

impl Made {
    fn pointer(&self, device: &CudaDevice) -> u64 {
        match self {
            Self::F32(slice) => address(device, slice),
            Self::F64(slice) => address(device, slice),
            Self::Bf16(slice) => address(device, slice),
        }
    }

    fn storage(self, device: &CudaDevice) -> CudaStorage {
        match self {
            Self::F32(slice) => CudaStorage::wrap_cuda_slice(slice, device.clone()),
            Self::F64(slice) => CudaStorage::wrap_cuda_slice(slice, device.clone()),
            Self::Bf16(slice) => CudaStorage::wrap_cuda_slice(slice, device.clone()),
        }
    }
}

/// Where what was allocated begins.
pub(super) fn address<T>(device: &CudaDevice, slice: &CudaSlice<T>) -> u64 {
    slice.device_ptr(&device.cuda_stream()).0
}

/// Where a tensor's numbers begin.
pub(super) fn pointer(device: &CudaDevice, tensor: &Tensor) -> Result<u64> {
    fn of<T: CudaDType>(device: &CudaDevice, storage: &CudaStorage, first: usize) -> Result<u64> {
        let slice = storage.as_cuda_slice::<T>()?;
        Ok(address(device, slice) + (first * size_of::<T>()) as u64)
    }
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) if storage.device().id() != device.id() => {
            bail!("a kernel's argument is on another GPU")
        }
        Storage::Cuda(storage) => match tensor.dtype() {
            DType::F32 => of::<f32>(device, storage, layout.start_offset()),
            DType::BF16 => of::<bf16>(device, storage, layout.start_offset()),
            other => bail!("a kernel's argument of type {other:?}"),
        },
        _ => bail!("a kernel's argument is not on the GPU"),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::source;

    /// Registers of a multiprocessor, of which the threads of a block have their share.
    const REGISTERS: usize = 1 << 16;

    /// What the driver does with kernels when they are first used, by the toolkit's assembler.
    #[test]
    fn kernels_become_machine_code_that_keeps_its_numbers_in_registers() {
        let folder = tempfile::tempdir().unwrap();
        for source in source::ALL {
            let path = folder.path().join(source.name).with_extension("ptx");
            std::fs::write(&path, source.ptx).unwrap();
            // Whatever GPU they were compiled for, one of that kind takes them.
            let target = source.ptx.lines().find_map(|line| line.strip_prefix(".target ")).unwrap();
            let arch = target.split(',').next().unwrap().trim();
            let mut assembler = Command::new("ptxas");
            let output = assembler.args(["-v", "-arch", arch, "-o", "/dev/null"]).arg(&path).output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {told}", source.name);
            let kernels = source.text.matches("KERNEL void ").count();
            assert_eq!(told.matches("Compiling entry function").count(), kernels, "{}: {told}", source.name);
            assert_eq!(told.matches("0 bytes spill stores, 0 bytes spill loads").count(), kernels, "{told}");
            for line in told.lines().filter_map(|line| line.split("Used ").nth(1)) {
                let registers: usize = line.split(' ').next().unwrap().parse().unwrap();
                assert!(registers * 256 <= REGISTERS, "{}: {line}", source.name);
            }
        }
    }
}
