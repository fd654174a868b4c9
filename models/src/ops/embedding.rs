//! Sums of table rows, the style embedding of the generator.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::simd;
use super::storage::{Values, slice};
use crate::profile;

/// For each image the sum of the table rows that it names.
///
/// Shapes: table `[rows, hidden]`, indices `[batch, per image]` i64, result `[batch, hidden]`.
///
/// # Errors
/// An index outside the table (on the CPU; elsewhere as the device treats it).
pub fn sum_of_rows(table: &Tensor, indices: &Tensor) -> Result<Tensor> {
    if !table.device().is_cpu() {
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
        let mut out = vec![0.0; self.batch * hidden];
        let per_image = self.indices.len() / self.batch.max(1);
        out.par_chunks_mut(hidden).zip(self.indices.par_chunks(per_image)).for_each(|(out, indices)| {
            for &index in indices {
                let row = &table[index * hidden..(index + 1) * hidden];
                out.iter_mut().zip(row).for_each(|(out, value)| *out += value);
            }
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

#[cfg(test)]
mod tests {
    use super::super::testing::{agrees, random};
    use super::*;
    use candle_core::Device;

    #[test]
    fn agrees_with_plain_operations() {
        let table = random("table", &[4, 5]);
        let indices = |values: &[i64]| Tensor::from_slice(values, (values.len() / 3, 3), &Device::Cpu).unwrap();
        let good = indices(&[0, 3, 3, 1, 2, 0]);
        agrees(std::slice::from_ref(&table), |t| sum_of_rows(&t[0], &good), |t| plain(&t[0], &good));
        assert!(sum_of_rows(&table, &indices(&[0, 4, 0])).is_err());
        assert!(sum_of_rows(&table, &indices(&[0, -1, 0])).is_err());
    }
}
