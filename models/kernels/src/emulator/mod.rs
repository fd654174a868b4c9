//! Kernels on the processor, to test them.
//!
//! Every launch but the largest runs twice, with the threads of a block in opposite orders, from the same numbers: results that differ are an
//! error, as are barriers that not all threads reach and writes before or behind a tensor. What a kernel reads there, or leaves unwritten, is NaN.

mod library;

use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Tensor, bail};
use half::bf16;

use self::library::Compiled;
use super::{Argument, Kernel, Launch, Output};

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
}

static EVERYWHERE: AtomicBool = AtomicBool::new(false);

pub(super) fn on() -> bool {
    ON.get() || EVERYWHERE.load(Ordering::Relaxed)
}

/// From now on tensors on the processor go through kernels in all threads.
pub fn emulate_everywhere() {
    EVERYWHERE.store(true, Ordering::Relaxed);
}

/// What `f` gives while tensors of this thread on the processor go through kernels.
pub fn emulated<T>(f: impl FnOnce() -> T) -> T {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            ON.set(self.0);
        }
    }
    let _before = Before(ON.replace(true));
    f()
}

/// Bytes before and behind the numbers of a tensor.
const MARGIN: usize = 256;
/// Blocks of a launch that runs twice, at most: what races does so with few blocks too.
const CHECKED: usize = 1 << 12;
/// All bits set is NaN in every type that has one.
const NOTHING: u8 = 0xff;

/// A tensor's bytes, with margins.
#[derive(Clone)]
struct Buffer {
    /// Words, so that any number lies where its type wants it.
    words: Vec<u128>,
    len: usize,
}

impl Buffer {
    fn new(len: usize) -> Self {
        let words = vec![u128::from_ne_bytes([NOTHING; 16]); (len + 2 * MARGIN).div_ceil(16)];
        Self { words, len }
    }

    fn of(tensor: &Tensor) -> Result<Self> {
        let flat = tensor.flatten_all()?;
        match tensor.dtype() {
            DType::F32 => Ok(Self::holding(flat.to_vec1::<f32>()?, f32::to_ne_bytes)),
            DType::BF16 => Ok(Self::holding(flat.to_vec1::<bf16>()?, bf16::to_ne_bytes)),
            other => bail!("a kernel's argument of type {other:?}"),
        }
    }

    fn holding<T, const N: usize>(values: Vec<T>, bytes_of: impl Fn(T) -> [u8; N]) -> Self {
        let mut buffer = Self::new(values.len() * N);
        let (places, _) = buffer.bytes_mut()[MARGIN..].as_chunks_mut();
        places.iter_mut().zip(values).for_each(|(place, value)| *place = bytes_of(value));
        buffer
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: any bytes are bytes.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.words.as_ptr().cast(), self.words.len() * 16)
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: any bytes are bytes, and words.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), self.words.len() * 16)
        }
    }

    fn numbers(&self) -> &[u8] {
        &self.bytes()[MARGIN..][..self.len]
    }

    fn address(&mut self) -> *mut c_void {
        self.bytes_mut()[MARGIN..].as_mut_ptr().cast()
    }

    fn kept_margins(&self) -> bool {
        let (before, rest) = self.bytes().split_at(MARGIN);
        before.iter().chain(&rest[self.len..]).all(|&byte| byte == NOTHING)
    }

    fn tensor(&self, output: &Output<'_>) -> Result<Tensor> {
        let numbers = self.numbers();
        match output.dtype {
            DType::BF16 => {
                let (values, _) = numbers.as_chunks();
                let values: Vec<bf16> = values.iter().map(|&bytes| bf16::from_ne_bytes(bytes)).collect();
                Tensor::from_vec(values, output.shape, &Device::Cpu)
            }
            DType::F64 => {
                let (values, _) = numbers.as_chunks();
                let values: Vec<f64> = values.iter().map(|&bytes| f64::from_ne_bytes(bytes)).collect();
                Tensor::from_vec(values, output.shape, &Device::Cpu)
            }
            _ => Tensor::from_vec(self.floats(), output.shape, &Device::Cpu),
        }
    }

    fn floats(&self) -> Vec<f32> {
        self.numbers().as_chunks().0.iter().map(|&bytes| f32::from_ne_bytes(bytes)).collect()
    }
}

pub(super) fn launch<const N: usize>(
    kernel: Kernel,
    launch: Launch,
    outputs: [Output<'_>; N],
    arguments: &[Argument<'_>],
) -> Result<[Tensor; N]> {
    let name = kernel.function;
    let compiled = Compiled::of(kernel.source)?;
    let mut buffers: Vec<Buffer> = Vec::new();
    for output in &outputs {
        buffers.push(Buffer::new(output.shape.iter().product::<usize>() * output.dtype.size_in_bytes()));
    }
    for argument in arguments {
        buffers.push(match argument.tensor()? {
            Some(tensor) => Buffer::of(tensor)?,
            None => Buffer::new(0),
        });
    }
    let mut numbers = arguments.iter().map(Argument::number).collect::<Result<Vec<_>>>()?;
    let mut run = |mut buffers: Vec<Buffer>, backwards: bool| {
        let mut addresses: Vec<*mut c_void> = buffers.iter_mut().map(Buffer::address).collect();
        let mut pointers: Vec<*mut c_void> = Vec::new();
        for (i, address) in addresses.iter_mut().enumerate() {
            let argument = i.checked_sub(N).and_then(|at| Some((arguments.get(at)?, numbers.get_mut(at)?)));
            pointers.push(match argument {
                Some((Argument::Count(_) | Argument::Offset(_) | Argument::Number(_), number)) => {
                    number.as_mut_ptr().cast()
                }
                _ => std::ptr::from_mut(address).cast(),
            });
        }
        if launch.grid.contains(&0) {
            return Ok(buffers);
        }
        if !compiled.run(name, &mut pointers, launch, backwards)? {
            bail!("kernel {name}: some threads wait where others never come");
        }
        match buffers.iter().position(|buffer| !buffer.kept_margins()) {
            Some(at) => bail!("kernel {name}: parameter {at} was written out of its bounds"),
            None => Ok(buffers),
        }
    };
    let first = run(buffers.clone(), false)?;
    let checked = launch.grid.iter().product::<usize>() <= CHECKED;
    let second = if checked { run(buffers.clone(), true)? } else { first.clone() };
    for (at, ((first, second), before)) in first.iter().zip(&second).zip(&buffers).enumerate() {
        if first.bytes() != second.bytes() {
            bail!("kernel {name}: parameter {at} depends on the order of threads");
        }
        match at.checked_sub(N).and_then(|at| arguments.get(at)) {
            Some(Argument::Changed(tensor)) => tensor.inplace_op1(&Replace(first.floats()))?,
            Some(Argument::Input(_)) if first.bytes() != before.bytes() => {
                bail!("kernel {name}: parameter {at} was written, and is only to be read")
            }
            _ => {}
        }
    }
    let tensors =
        first.iter().zip(&outputs).map(|(buffer, output)| buffer.tensor(output)).collect::<Result<Vec<_>>>()?;
    tensors.try_into().map_err(|_| candle_core::Error::Msg(format!("kernel {name}: an output was lost")))
}

/// Takes the place of all numbers of a tensor.
struct Replace(Vec<f32>);

impl InplaceOp1 for Replace {
    fn name(&self) -> &'static str {
        "replace"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match storage {
            CpuStorage::F32(values) => {
                values[layout.start_offset()..][..self.0.len()].copy_from_slice(&self.0);
                Ok(())
            }
            _ => bail!("only single precision is changed in place"),
        }
    }
}

#[cfg(test)]
mod tests;
