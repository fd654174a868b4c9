//! Numbers that are part of a graph.

use super::value::DType;

/// A constant tensor: element type, sizes and little-endian bytes in row-major order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Data {
    pub(super) dtype: DType,
    pub(super) dims: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

impl Data {
    /// Floats of shape `dims`; `None` if there are not as many as the shape says.
    #[must_use]
    pub fn floats(dims: &[usize], values: &[f32]) -> Option<Self> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        (dims.iter().product::<usize>() == values.len()).then(|| Self { dtype: DType::F32, dims: dims.into(), bytes })
    }

    /// `count` times the float `value`.
    #[must_use]
    pub fn filled(count: usize, value: f32) -> Self {
        Self { dtype: DType::F32, dims: vec![count], bytes: value.to_le_bytes().repeat(count) }
    }

    /// A float without dimensions.
    #[must_use]
    pub fn scalar(value: f32) -> Self {
        Self { dtype: DType::F32, dims: Vec::new(), bytes: value.to_le_bytes().into() }
    }

    /// A list of integers.
    #[must_use]
    pub fn integers(values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: DType::I64, dims: vec![values.len()], bytes }
    }

    /// Sizes.
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The numbers, little-endian.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The kernel `[height, width, in, out]` as `[out, in, height, width]`; anything of another rank stays as it is.
    #[must_use]
    pub fn channels_first(self) -> Self {
        let &[height, width, inner, out] = self.dims.as_slice() else { return self };
        let (pixels, channels) = (height * width, inner * out);
        let matrix = Self { dims: vec![pixels, channels], ..self }.transposed();
        // Now [in, out] of squares.
        let size = matrix.dtype.size() * pixels;
        let square = |i: usize, o: usize| &matrix.bytes[(i * out + o) * size..][..size];
        let bytes = (0..out).flat_map(|o| (0..inner).map(move |i| (i, o))).flat_map(|(i, o)| square(i, o)).copied();
        Self { dtype: matrix.dtype, dims: vec![out, inner, height, width], bytes: bytes.collect() }
    }

    /// The matrix with rows and columns exchanged; anything that is no matrix stays as it is.
    #[must_use]
    pub fn transposed(self) -> Self {
        let &[rows, columns] = self.dims.as_slice() else { return self };
        let size = self.dtype.size();
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for column in 0..columns {
            for row in 0..rows {
                let start = (row * columns + column) * size;
                bytes.extend_from_slice(&self.bytes[start..start + size]);
            }
        }
        Self { dims: vec![columns, rows], bytes, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_exchanges_rows_and_columns() {
        let matrix = Data::floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!(matrix.clone().transposed(), Data::floats(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]).unwrap());
        assert_eq!(matrix.clone().transposed().transposed(), matrix);
        assert_eq!(Data::floats(&[2, 2], &[1.0]), None);
    }

    #[test]
    fn kernels_get_their_channels_to_the_front() {
        // The number of a weight tells row, column, in and out.
        let at = |[row, column, i, o]: [usize; 4]| (1000 * row + 100 * column + 10 * i + o) as f32;
        let (rows, columns, inner, out) = (2, 3, 4, 5);
        let mut values = Vec::new();
        for n in 0..rows * columns * inner * out {
            let (o, n) = (n % out, n / out);
            let (i, n) = (n % inner, n / inner);
            values.push(at([n / columns, n % columns, i, o]));
        }
        let moved = Data::floats(&[rows, columns, inner, out], &values).unwrap().channels_first();
        let mut expected = Vec::new();
        for n in 0..rows * columns * inner * out {
            let (column, n) = (n % columns, n / columns);
            let (row, n) = (n % rows, n / rows);
            expected.push(at([row, column, n % inner, n / inner]));
        }
        assert_eq!(moved, Data::floats(&[out, inner, rows, columns], &expected).unwrap());
    }
}
