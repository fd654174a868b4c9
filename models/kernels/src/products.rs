//! Products of bfloat16 matrices with results in single precision, by cuBLAS: no rounding to bfloat16 on the way out.

use candle_core::{D, Result, Tensor, bail};

/// How the matrices of a factor lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(any(feature = "cuda", test)), allow(dead_code))]
struct Factor {
    rows: usize,
    columns: usize,
    /// Column after column rather than row after row.
    turned: bool,
    batch: usize,
}

impl Factor {
    /// `None` if they lie otherwise.
    fn of(tensor: &Tensor) -> Result<Option<Self>> {
        let (rows, columns) = (tensor.dim(D::Minus2)?, tensor.dim(D::Minus1)?);
        let (dims, strides) = (tensor.dims(), tensor.stride());
        let outer = dims.len() - 2;
        let mut expected = rows * columns;
        for (&dim, &stride) in dims[..outer].iter().zip(&strides[..outer]).rev() {
            if dim != 1 && stride != expected {
                return Ok(None);
            }
            expected *= dim;
        }
        let lies = |inner: [(usize, usize); 2]| {
            let [(dim, stride), (last, last_stride)] = inner;
            (last_stride == 1 || last == 1) && (stride == last || dim == 1)
        };
        let (row, column) = ((rows, strides[outer]), (columns, strides[outer + 1]));
        let turned = match (lies([row, column]), lies([column, row])) {
            (true, _) => false,
            (false, true) => true,
            (false, false) => return Ok(None),
        };
        Ok(Some(Self { rows, columns, turned, batch: dims[..outer].iter().product() }))
    }

    /// Numbers from one line to the next.
    #[cfg(any(feature = "cuda", test))]
    fn line(&self) -> usize {
        if self.turned { self.rows } else { self.columns }
    }
}

/// A tensor whose matrices lie one after the other, and how.
fn laid(x: &Tensor) -> Result<(Tensor, Factor)> {
    if let Some(factor) = Factor::of(x)? {
        return Ok((x.clone(), factor));
    }
    let x = x.contiguous()?;
    match Factor::of(&x)? {
        Some(factor) => Ok((x, factor)),
        None => bail!("a factor {:?} does not lie row after row", x.dims()),
    }
}

/// The product of bfloat16 tensors `[.., m, k]` and `[.., k, n]` on a GPU, in single precision.
///
/// # Errors
/// Shapes that do not fit each other, other devices, what cuBLAS says.
pub fn product(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let ((x, of_x), (y, of_y)) = (laid(x)?, laid(y)?);
    if of_x.columns != of_y.rows || of_x.batch != of_y.batch {
        bail!("a product of {:?} and {:?}", x.dims(), y.dims());
    }
    let outer = x.rank() - 2;
    let shape = [&x.dims()[..outer], &[of_x.rows, of_y.columns]].concat();
    #[cfg(feature = "cuda")]
    if let candle_core::Device::Cuda(device) = x.device() {
        return gpu::product(device, (&x, of_x), (&y, of_y), &shape);
    }
    bail!("a product {shape:?} of bfloat16 on {:?}", x.device().location())
}

#[cfg(feature = "cuda")]
mod gpu {
    use candle_core::cuda_backend::cudarc::cublas::{result, sys};
    use candle_core::op::BackpropOp;
    use candle_core::{CudaDevice, CudaStorage, Error, Result, Storage, Tensor};

    use super::super::gpu::{address, pointer};
    use super::Factor;

    pub(super) fn product(
        device: &CudaDevice,
        (x, of_x): (&Tensor, Factor),
        (y, of_y): (&Tensor, Factor),
        shape: &[usize],
    ) -> Result<Tensor> {
        // SAFETY: cuBLAS writes all numbers.
        #[allow(unsafe_code)]
        let made = unsafe { device.alloc::<f32>(shape.iter().product::<usize>().max(1)) }?;
        let (m, n, k, batch) = (of_x.rows, of_y.columns, of_x.columns, of_x.batch);
        if m * n * batch > 0 {
            let int = |number: usize| i32::try_from(number).map_err(Error::wrap);
            let op = |factor: Factor| match factor.turned {
                true => sys::cublasOperation_t::CUBLAS_OP_T,
                false => sys::cublasOperation_t::CUBLAS_OP_N,
            };
            let (one, zero) = (1f32, 0f32);
            let (x, y) = (pointer(device, x)?, pointer(device, y)?);
            let handle = device.cublas_handle();
            // cuBLAS counts column after column, where the transposed product is: y' x' = (x y)'.
            // SAFETY: the pointers are those of tensors of these sizes on this device, and of the allocation above.
            #[allow(unsafe_code)]
            unsafe {
                result::gemm_strided_batched_ex(
                    *handle.handle(),
                    op(of_y),
                    op(of_x),
                    int(n)?,
                    int(m)?,
                    int(k)?,
                    (&raw const one).cast(),
                    y as *const _,
                    sys::cudaDataType::CUDA_R_16BF,
                    int(of_y.line().max(1))?,
                    (k * n) as i64,
                    x as *const _,
                    sys::cudaDataType::CUDA_R_16BF,
                    int(of_x.line().max(1))?,
                    (m * k) as i64,
                    (&raw const zero).cast(),
                    address(device, &made) as *mut _,
                    sys::cudaDataType::CUDA_R_32F,
                    int(n)?,
                    (m * n) as i64,
                    int(batch)?,
                    sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                    sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
                )
            }
            .map_err(Error::wrap)?;
        }
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(made, device.clone()));
        Ok(Tensor::from_storage(storage, shape, BackpropOp::none(), false))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use drifting_spec::Stream;

    use super::*;

    /// What cuBLAS does with column after column: C = op(A) op(B), of sizes `[m, k]`, `[k, n]`.
    fn gemm((a, of_a): (&[f32], Factor), (b, of_b): (&[f32], Factor), [m, n, k]: [usize; 3]) -> Vec<f32> {
        // A matrix that lies row after row is, column after column, its transposed.
        let at = |values: &[f32], factor: Factor, row: usize, column: usize| match factor.turned {
            true => values[column + row * factor.line()],
            false => values[row + column * factor.line()],
        };
        let mut c = vec![0.0; m * n];
        for (column, c) in c.chunks_mut(m).enumerate() {
            for (row, c) in c.iter_mut().enumerate() {
                *c = (0..k).map(|i| at(a, of_a, row, i) * at(b, of_b, i, column)).sum();
            }
        }
        c
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        let (storage, layout) = tensor.storage_and_layout();
        match &*storage {
            candle_core::Storage::Cpu(storage) => storage.as_slice().unwrap()[layout.start_offset()..].to_vec(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn products_of_any_views_are_those_of_candle() {
        let tensor = |name, shape: &[usize]| {
            let values = Stream::new(1, name, 0).normals(shape.iter().product());
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        let views = |name, outer: &[usize], rows: usize, columns: usize| {
            let plain = tensor(name, &[outer, &[rows, columns]].concat());
            let turned = tensor(name, &[outer, &[columns, rows]].concat()).t().unwrap();
            let wide = tensor(name, &[outer, &[rows, columns + 2]].concat());
            [plain, turned, wide.narrow(D::Minus1, 1, columns).unwrap()]
        };
        for (outer, [m, n, k]) in [(&[][..], [3, 4, 5]), (&[2, 3], [4, 1, 2]), (&[3], [1, 5, 1])] {
            for x in views("x", outer, m, k) {
                for y in views("y", outer, k, n) {
                    let ((x, of_x), (y, of_y)) = (laid(&x).unwrap(), laid(&y).unwrap());
                    let expected = x.contiguous().unwrap().matmul(&y.contiguous().unwrap()).unwrap();
                    let expected = expected.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    let (in_x, in_y) = (numbers(&x), numbers(&y));
                    let found: Vec<f32> = (0..of_x.batch)
                        .flat_map(|i| gemm((&in_y[i * k * n..], of_y), (&in_x[i * m * k..], of_x), [n, m, k]))
                        .collect();
                    assert_eq!(found.len(), expected.len());
                    assert!(found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 1e-5));
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::BF16, &Device::Cpu).unwrap();
        let error = |x: &[usize], y: &[usize]| product(&zeros(x), &zeros(y)).unwrap_err().to_string();
        assert!(error(&[2, 3], &[4, 5]).contains("a product of [2, 3] and [4, 5]"));
        assert!(error(&[2, 3], &[3, 5]).contains("[2, 5] of bfloat16 on Cpu"));
    }
}
