//! Operators that move numbers and make none.

use super::{DType, Dim, GraphError, Result, Scope, Shape, Value};
use crate::proto::{int, ints};

impl Scope<'_> {
    /// `[batch, ..]` as `[batch, sizes..]`.
    ///
    /// # Errors
    /// Sizes that do not hold as many numbers, or a value whose first and only batch dimension is not the outermost.
    pub fn reshape(&self, x: &Value, sizes: &[usize]) -> Result<Value> {
        let shape = Shape::batched(sizes);
        let batched = x.shape.dims().first() == Some(&Dim::Batch) && x.shape.batches() == 1;
        if !batched || x.shape.elements() != shape.elements() || sizes.contains(&0) {
            let problem = format!("{} cannot become {shape}", x.shape);
            return Err(GraphError::new(self.full_name("Reshape"), problem));
        }
        // 0 keeps the batch: unlike -1 it leaves nothing for engines to find out.
        let target: Vec<i64> = [0].into_iter().chain(sizes.iter().map(|&size| size as i64)).collect();
        let target = self.integers(&target);
        Ok(self.node("Reshape", &[x, &target], Vec::new(), &shape))
    }

    /// The dimensions in the order `axes`.
    ///
    /// # Errors
    /// `axes` does not name each dimension once.
    pub fn transpose(&self, x: &Value, axes: &[usize]) -> Result<Value> {
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..x.shape.rank()) {
            let problem = format!("{axes:?} does not name each dimension of {} once", x.shape);
            return Err(GraphError::new(self.full_name("Transpose"), problem));
        }
        let shape = axes.iter().map(|&axis| x.shape.dims()[axis]).collect();
        let order: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
        Ok(self.node("Transpose", &[x], vec![ints("perm", &order)], &shape))
    }

    /// `a` followed by `b` along dimension `axis`.
    ///
    /// # Errors
    /// Values that differ in another dimension or in element type.
    pub fn concat(&self, a: &Value, b: &Value, axis: usize) -> Result<Value> {
        let sizes = a.shape.size(axis).zip(b.shape.size(axis));
        let joined = sizes.and_then(|(first, second)| {
            let joined = |shape: &Shape| shape.clone().with(axis, Dim::Size(first + second));
            (a.dtype == b.dtype && joined(&a.shape) == joined(&b.shape)).then(|| joined(&a.shape))
        });
        let shape = joined.ok_or_else(|| self.mismatch("Concat", a, b))?;
        Ok(self.node("Concat", &[a, b], vec![int("axis", axis as i64)], &shape))
    }

    /// `N` equal parts of the last dimension.
    ///
    /// # Errors
    /// The last dimension cannot be divided so.
    pub fn split<const N: usize>(&self, x: &Value) -> Result<[Value; N]> {
        let last = self.last_axis("Split", x)?;
        let Some(part) = x.shape.size(last).filter(|size| N > 0 && size % N == 0).map(|size| size / N) else {
            let problem = format!("the last dimension of {} cannot be cut into {N} equal parts", x.shape);
            return Err(GraphError::new(self.full_name("Split"), problem));
        };
        let sizes = self.integers(&[part as i64; N]);
        let shape = x.shape.clone().with(last, Dim::Size(part));
        Ok(self.node_with("Split", &[x, &sizes], vec![int("axis", last as i64)], &shape))
    }

    /// `x` without the first `count` entries of dimension `axis`.
    ///
    /// # Errors
    /// There are no more than `count`.
    pub fn skip(&self, x: &Value, axis: usize, count: usize) -> Result<Value> {
        let Some(size) = x.shape.size(axis).filter(|&size| size > count) else {
            let problem = format!("{} cannot lose {count} entries of dimension {axis}", x.shape);
            return Err(GraphError::new(self.full_name("Slice"), problem));
        };
        let [start, end, axes] = [count, size, axis].map(|bound| self.integers(&[bound as i64]));
        let shape = x.shape.clone().with(axis, Dim::Size(size - count));
        Ok(self.node("Slice", &[x, &start, &end, &axes], Vec::new(), &shape))
    }

    /// Rows of `table` `[rows, width]` by number: indices `[..]` become `[.., width]`.
    ///
    /// # Errors
    /// A table that is no matrix, or indices that are no integers.
    pub fn gather(&self, table: &Value, indices: &Value) -> Result<Value> {
        let (&[_, width], DType::I64) = (table.shape.dims(), indices.dtype) else {
            return Err(self.mismatch("Gather", table, indices));
        };
        let shape = indices.shape.dims().iter().copied().chain([width]).collect();
        Ok(self.node("Gather", &[table, indices], vec![int("axis", 0)], &shape))
    }
}
