//! The emulator itself: it tells what is wrong with kernels that are.

use super::super::{Kernel, Source};
use super::*;

static WRONG: Source = Source {
    name: "wrong",
    text: r#"
#include "common.cuh"
KERNEL void doubled(float *y, const float *x, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) y[i] = 2 * x[i];
}
KERNEL void added(float *x, float more) { x[threadIdx.x] += more; }
KERNEL void sums(float *y, const float *x) {
  SHARED(float, shared);
  const float sum = block_sum(x[threadIdx.x], shared);
  if (threadIdx.x == 0) y[0] = sum;
}
KERNEL void beyond(float *y, const float *x) { y[threadIdx.x + 1] = x[threadIdx.x]; }
KERNEL void race(float *y, const float *x) { y[0] = x[threadIdx.x]; }
KERNEL void hang(float *y) {
  if (threadIdx.x < 7) __syncthreads();
  else __syncwarp();
  y[threadIdx.x] = 0;
}
KERNEL void unasked(float *y, float *x) { y[threadIdx.x] = x[threadIdx.x] = 1; }
KERNEL void unwritten(float *y) { if (threadIdx.x != 3) y[threadIdx.x] = 1; }
KERNEL void unset(float *y) { SHARED(float, shared); y[threadIdx.x] = shared[threadIdx.x]; }
"#,
    #[cfg(feature = "cuda")]
    ptx: "",
};

fn wrong(function: &'static str) -> Kernel {
    WRONG.kernel(function)
}

const WARP: Launch = Launch { grid: [1, 1, 1], threads: 32, shared: 0 };

fn counted(len: usize) -> Tensor {
    Tensor::arange(0f32, len as f32, &Device::Cpu).unwrap()
}

fn error<const N: usize>(result: Result<[Tensor; N]>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn threads_and_blocks_run() {
    let x = counted(70);
    let arguments = [Argument::Input(&x), Argument::Count(70)];
    let [y] = launch(wrong("doubled"), Launch::over(70, 32), [Output::f32(&[7, 10])], &arguments).unwrap();
    let expected: Vec<f32> = (0..70).map(|i| 2.0 * i as f32).collect();
    assert_eq!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
    let part = x.narrow(0, 32, 32).unwrap();
    let [] = launch(wrong("added"), WARP, [], &[Argument::Changed(&part), Argument::Number(0.5)]).unwrap();
    assert_eq!(x.narrow(0, 31, 3).unwrap().to_vec1::<f32>().unwrap(), [31.0, 32.5, 33.5]);
    let launch_of = |threads| Launch { threads, shared: 64, ..WARP };
    let [sum] = launch(wrong("sums"), launch_of(64), [Output::f32(&[1])], &[Argument::Input(&counted(64))]).unwrap();
    assert_eq!(sum.to_vec1::<f32>().unwrap(), [2016.0]);
}

#[test]
fn what_is_wrong_with_a_kernel_is_said() {
    let x = counted(32);
    let [whole, one] = [&[32usize][..], &[1]].map(Output::f32);
    let run = |name, output| error(launch(wrong(name), WARP, [output], &[Argument::Input(&x)]));
    assert!(run("beyond", whole).contains("parameter 0 was written out of its bounds"));
    assert!(run("race", one).contains("parameter 0 depends on the order of threads"));
    assert!(run("unasked", whole).contains("parameter 1 was written, and is only to be read"));
    assert!(error(launch(wrong("hang"), WARP, [whole], &[])).contains("some threads wait where others never come"));
    let columns = Tensor::zeros((4, 8), DType::F32, &Device::Cpu).unwrap();
    let turned = error(launch(wrong("race"), WARP, [one], &[Argument::Input(&columns.t().unwrap())]));
    assert!(turned.contains("does not lie row after row"), "{turned}");
    let nan = |name| {
        let shared = Launch { shared: 128, ..WARP };
        let [y] = launch(wrong(name), shared, [whole], &[]).unwrap();
        y.to_vec1::<f32>().unwrap().iter().filter(|y| y.is_nan()).count()
    };
    assert_eq!([nan("unwritten"), nan("unset")], [1, 32]);
}

#[test]
fn every_file_of_kernels_compiles() {
    for source in crate::source::ALL {
        Compiled::of(source).unwrap();
    }
}
