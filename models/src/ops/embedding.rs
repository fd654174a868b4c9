//! Sums of table rows, the style embedding of the generator.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::operations::fused;
use super::simd::{self, Kernel};
use super::storage::{PIECE, Values, slice, written};
use crate::profile;

/// For each image the sum of the table rows that it names.
///
/// Shapes: table `[rows, hidden]`, indices `[batch, per image]` i64, result `[batch, hidden]`.
///
/// # Errors
/// An index outside the table (on the CPU; elsewhere as the device treats it).
pub fn sum_of_rows(table: &Tensor, indices: &Tensor) -> Result<Tensor> {
    if !fused(table.device()) {
        return plain(table, indices);
    }
    let (rows, _) = table.dims2()?;
    let (batch, _) = indices.dims2()?;
    let mut checked = Vec::with_capacity(indices.elem_count());
    for index in indices.flatten_all()?.to_vec1::<i64>()? {
        match usize::try_from(index) {
            Ok(index) if index < rows => checked.push(index),
            _ => candle_core::bail!("index {index} outside a table of {rows} rows"),
        }
    }
    table.contiguous()?.apply_op1(SumOfRows { indices: checked, batch })
}

fn plain(table: &Tensor, indices: &Tensor) -> Result<Tensor> {
    let (batch, per_image) = indices.dims2()?;
    let rows = table.index_select(&indices.flatten_all()?, 0)?;
    rows.reshape((batch, per_image, table.dim(1)?))?.sum(1)
}

struct SumOfRows {
    indices: Vec<usize>,
    batch: usize,
}

impl CustomOp1 for SumOfRows {
    fn name(&self) -> &'static str {
        "sum-of-rows"
    }

    fn cpu_fwd(&self, table: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let _span = profile::span("embedding");
        let (_, hidden) = layout.shape().dims2()?;
        let table = slice(table, layout)?;
        let per_image = self.indices.len() / self.batch.max(1);
        let images = (4 * PIECE).div_ceil(hidden.max(1) * per_image.max(1));
        let [out] = written(self.batch * hidden, images * hidden, |start, [out]| {
            let indices = &self.indices[start / hidden * per_image..];
            simd::dispatch_kernel(Sums { table, indices, per_image, hidden, out });
        });
        Ok((CpuStorage::F32(out), (self.batch, hidden).into()))
    }

    fn bwd(&self, table: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let _span = profile::span("embedding, backward");
        let grad = grad.contiguous()?;
        let dy = Values::of(&grad)?;
        let (rows, hidden) = table.dims2()?;
        let per_image = self.indices.len() / self.batch.max(1);
        let mut table_grad = vec![0.0; rows * hidden];
        simd::dispatch(|| {
            for (i, &index) in self.indices.iter().enumerate() {
                let dy = &dy[i / per_image * hidden..][..hidden];
                let row = &mut table_grad[index * hidden..(index + 1) * hidden];
                row.iter_mut().zip(dy).for_each(|(grad, dy)| *grad += dy);
            }
        });
        Ok(Some(Tensor::from_vec(table_grad, (rows, hidden), table.device())?))
    }
}

/// Columns whose sums stay in registers.
const BLOCK: usize = 64;

struct Sums<'a> {
    table: &'a [f32],
    indices: &'a [usize],
    per_image: usize,
    hidden: usize,
    /// Whole images.
    out: &'a mut [f32],
}

impl Kernel for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { table, indices, per_image, hidden, out } = self;
        for (image, out) in out.chunks_exact_mut(hidden).enumerate() {
            let indices = &indices[image * per_image..][..per_image];
            let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
            let whole = blocks.len() * BLOCK;
            for (i, block) in blocks.iter_mut().enumerate() {
                let mut sums = [0.0f32; BLOCK];
                for index in indices {
                    let row = &table[index * hidden + i * BLOCK..][..BLOCK];
                    for k in 0..BLOCK {
                        sums[k] += row[k];
                    }
                }
                *block = sums;
            }
            for index in indices {
                let row = &table[index * hidden + whole..][..rest.len()];
                rest.iter_mut().zip(row).for_each(|(out, value)| *out += value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, random};
    use super::*;
    use candle_core::Device;

    #[test]
    fn agrees_with_plain_operations() {
        for hidden in [1, 64, 200] {
            let table = random("table", &[9, hidden]);
            let indices: Vec<i64> = (0..7 * 70).map(|i| i * 5 % 9).collect();
            let indices = Tensor::from_vec(indices, (70, 7), &Device::Cpu).unwrap();
            agrees(&[table], |t| sum_of_rows(&t[0], &indices), |t| plain(&t[0], &indices));
        }
        let table = random("table", &[4, 5]);
        let indices = |values: &[i64]| Tensor::from_slice(values, (values.len() / 3, 3), &Device::Cpu).unwrap();
        let good = indices(&[0, 3, 3, 1, 2, 0]);
        agrees(std::slice::from_ref(&table), |t| sum_of_rows(&t[0], &good), |t| plain(&t[0], &good));
        assert!(sum_of_rows(&table, &indices(&[0, 4, 0])).is_err());
        assert!(sum_of_rows(&table, &indices(&[0, -1, 0])).is_err());
    }
}
