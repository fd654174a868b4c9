//! Numbers that are part of a graph.

use std::borrow::Cow;

use candle_core::{DType as CandleType, Tensor};
use half::{bf16, f16};

use super::value::DType;
use super::{GraphError, Result};

/// The largest of the 8-bit integers that a weight becomes; as many below 0.
pub(crate) const INT8_MOST: f32 = 127.0;

/// A constant tensor: element type, sizes and numbers in row-major order.
///
/// The numbers of a weight stay where they are until they are written, so that a graph is small however large its
/// weights.
#[derive(Clone, Debug)]
pub struct Data {
    pub(super) dtype: DType,
    pub(super) dims: Vec<usize>,
    numbers: Numbers,
}

#[derive(Clone, Debug)]
enum Numbers {
    /// Little-endian.
    Bytes(Vec<u8>),
    /// f32 in any memory layout, written in the element type of the data.
    Weight(Tensor),
    /// The scales of a matrix `[in, out]` of f32 that is stored in 8 bits: one for each column.
    Scales(Tensor),
}

impl Data {
    /// Floats of shape `dims`; `None` if there are not as many as the shape says.
    #[must_use]
    pub fn floats(dims: &[usize], values: &[f32]) -> Option<Self> {
        (dims.iter().product::<usize>() == values.len())
            .then(|| Self::bytes_of(DType::F32, dims, little_endian(values)))
    }

    /// `count` times the float `value`.
    #[must_use]
    pub fn filled(count: usize, value: f32) -> Self {
        Self::bytes_of(DType::F32, &[count], value.to_le_bytes().repeat(count))
    }

    /// A float without dimensions.
    #[must_use]
    pub fn scalar(value: f32) -> Self {
        Self::bytes_of(DType::F32, &[], value.to_le_bytes().into())
    }

    /// A list of integers.
    #[must_use]
    pub fn integers(values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::bytes_of(DType::I64, &[values.len()], bytes)
    }

    /// A byte without dimensions.
    #[must_use]
    pub fn byte(value: u8) -> Self {
        Self::bytes_of(DType::U8, &[], vec![value])
    }

    /// A weight of f32, which is read when it is written.
    #[must_use]
    pub fn weight(tensor: Tensor) -> Self {
        Self { dtype: DType::F32, dims: tensor.dims().to_vec(), numbers: Numbers::Weight(tensor) }
    }

    fn bytes_of(dtype: DType, dims: &[usize], bytes: Vec<u8>) -> Self {
        Self { dtype, dims: dims.into(), numbers: Numbers::Bytes(bytes) }
    }

    /// Sizes.
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Bytes of all numbers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dims.iter().product::<usize>() * self.dtype.size()
    }

    /// Whether there are no numbers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers, little-endian; those of a weight are read now.
    ///
    /// # Errors
    /// A weight that cannot be read.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        let unreadable = |error: candle_core::Error| GraphError::new("a weight", error.to_string());
        Ok(Cow::Owned(match &self.numbers {
            Numbers::Bytes(bytes) => return Ok(Cow::Borrowed(bytes)),
            Numbers::Weight(tensor) => {
                let values = || tensor.flatten_all()?.to_vec1::<f32>();
                match self.dtype {
                    DType::F16 => values().map(|values| each(&values, |value| f16::from_f32(value).to_le_bytes())),
                    DType::Bf16 => values().map(|values| each(&values, |value| bf16::from_f32(value).to_le_bytes())),
                    DType::I8 => eight_bits(tensor),
                    _ => values().map(|values| little_endian(&values)),
                }
                .map_err(unreadable)?
            }
            Numbers::Scales(tensor) => little_endian(&scales(tensor).map_err(unreadable)?),
        }))
    }

    /// A weight whose numbers are rounded to `dtype` when they are written; anything else stays as it is.
    #[must_use]
    pub fn rounded(self, dtype: DType) -> Self {
        match self.numbers {
            Numbers::Weight(_) => Self { dtype, ..self },
            _ => self,
        }
    }

    /// The matrix `[in, out]` of a weight in 8-bit integers -127..=127, and the numbers `[out]` that bring its columns
    /// back; `None` for anything else.
    #[must_use]
    pub fn in_eight_bits(&self) -> Option<(Self, Self)> {
        let (Numbers::Weight(tensor), &[_, out]) = (&self.numbers, self.dims.as_slice()) else { return None };
        let scales = Self { dtype: DType::F32, dims: vec![out], numbers: Numbers::Scales(tensor.clone()) };
        Some((self.clone().rounded(DType::I8), scales))
    }

    /// The kernel `[height, width, in, out]` as `[out, in, height, width]`; anything of another rank stays as it is.
    #[must_use]
    pub fn channels_first(self) -> Self {
        let &[height, width, inner, out] = self.dims.as_slice() else { return self };
        let dims = vec![out, inner, height, width];
        if let Numbers::Weight(tensor) = &self.numbers {
            let tensor = tensor.clone();
            return Self { dims, ..self.viewed(&tensor, |tensor| tensor.permute((3, 2, 0, 1))) };
        }
        let (pixels, channels) = (height * width, inner * out);
        let matrix = Self { dims: vec![pixels, channels], ..self }.transposed();
        // Now [in, out] of squares.
        let size = matrix.dtype.size() * pixels;
        let Numbers::Bytes(bytes) = &matrix.numbers else { return matrix };
        let square = |i: usize, o: usize| &bytes[(i * out + o) * size..][..size];
        let bytes = (0..out).flat_map(|o| (0..inner).map(move |i| (i, o))).flat_map(|(i, o)| square(i, o)).copied();
        Self { dtype: matrix.dtype, dims, numbers: Numbers::Bytes(bytes.collect()) }
    }

    /// The matrix with rows and columns exchanged; anything that is no matrix stays as it is.
    #[must_use]
    pub fn transposed(self) -> Self {
        let &[rows, columns] = self.dims.as_slice() else { return self };
        let dims = vec![columns, rows];
        match &self.numbers {
            Numbers::Weight(tensor) => {
                let tensor = tensor.clone();
                Self { dims, ..self.viewed(&tensor, Tensor::t) }
            }
            Numbers::Scales(_) => self,
            Numbers::Bytes(old) => {
                let size = self.dtype.size();
                let mut bytes = Vec::with_capacity(old.len());
                for column in 0..columns {
                    for row in 0..rows {
                        let start = (row * columns + column) * size;
                        bytes.extend_from_slice(&old[start..start + size]);
                    }
                }
                Self { dtype: self.dtype, dims, numbers: Numbers::Bytes(bytes) }
            }
        }
    }

    /// A weight under another view, which has the same rank as before and so always exists.
    fn viewed(self, tensor: &Tensor, view: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Self {
        let numbers = view(tensor).map(Numbers::Weight);
        Self { dtype: self.dtype, dims: self.dims, numbers: numbers.unwrap_or(Numbers::Weight(tensor.clone())) }
    }

    /// What tells this constant from others; `None` for a weight, which is never one with another.
    pub(super) fn key(&self) -> Option<(DType, Vec<usize>, Vec<u8>)> {
        match &self.numbers {
            Numbers::Bytes(bytes) => Some((self.dtype, self.dims.clone(), bytes.clone())),
            Numbers::Weight(_) | Numbers::Scales(_) => None,
        }
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        let (own, others) = (self.bytes().ok(), other.bytes().ok());
        self.dtype == other.dtype && self.dims == other.dims && own.is_some() && own == others
    }
}

fn each<const N: usize>(values: &[f32], bytes: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    let mut all = Vec::with_capacity(values.len() * N);
    values.iter().for_each(|value| all.extend_from_slice(&bytes(*value)));
    all
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    each(values, f32::to_le_bytes)
}

/// The largest number of each column of `[in, out]` as 127; 1 for a column of zeros.
fn scales(matrix: &Tensor) -> candle_core::Result<Vec<f32>> {
    let most = matrix.abs()?.max(0)?.to_vec1::<f32>()?;
    Ok(most.into_iter().map(|most| if most > 0.0 { most / INT8_MOST } else { 1.0 }).collect())
}

fn eight_bits(matrix: &Tensor) -> candle_core::Result<Vec<u8>> {
    debug_assert_eq!(matrix.dtype(), CandleType::F32);
    let (scales, values) = (scales(matrix)?, matrix.flatten_all()?.to_vec1::<f32>()?);
    let rows = values.chunks(scales.len().max(1));
    let level = |(value, scale): (&f32, &f32)| (value / scale).round().clamp(-INT8_MOST, INT8_MOST) as i8;
    Ok(rows.flat_map(|row| row.iter().zip(&scales).map(level)).flat_map(i8::to_le_bytes).collect())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn transposing_exchanges_rows_and_columns() {
        let matrix = Data::floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!(Some(matrix.clone().transposed()), Data::floats(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
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
        assert_eq!(Some(&moved), Data::floats(&[out, inner, rows, columns], &expected).as_ref());
        let tensor = Tensor::from_vec(values, (rows, columns, inner, out), &Device::Cpu).unwrap();
        assert_eq!(Data::weight(tensor).channels_first(), moved);
    }

    #[test]
    fn a_weight_is_written_as_the_same_numbers_would_be() {
        let values = [1.0f32, -2.0, 3.5, 0.1, 5.0, 6.0];
        let weight = Data::weight(Tensor::from_slice(&values, (2, 3), &Device::Cpu).unwrap());
        let numbers = Data::floats(&[2, 3], &values).unwrap();
        assert_eq!(weight, numbers);
        assert_eq!(weight.clone().transposed(), numbers.clone().transposed());
        assert!(numbers.key().is_some() && weight.key().is_none());
        let half = weight.clone().rounded(DType::F16);
        assert_eq!((half.len(), half.bytes().unwrap().len()), (12, 12));
        assert_eq!(half.bytes().unwrap()[6..8], f16::from_f32(0.1).to_le_bytes());
        let brain = weight.rounded(DType::Bf16);
        assert_eq!(brain.bytes().unwrap()[6..8], bf16::from_f32(0.1).to_le_bytes());
        assert_eq!(numbers.clone().rounded(DType::F16), numbers);
    }

    #[test]
    fn eight_bits_hold_each_column_to_half_a_step() {
        let values = [[0.5f32, 0.0, -3.0], [-0.3, 0.0, 1.0]];
        let (levels, scales) = Data::weight(Tensor::new(&values, &Device::Cpu).unwrap()).in_eight_bits().unwrap();
        assert_eq!(
            levels.bytes().unwrap().iter().map(|&byte| byte as i8).collect::<Vec<_>>(),
            [127, 0, -127, -76, 0, 42]
        );
        assert_eq!(Some(scales), Data::floats(&[3], &[0.5 / 127.0, 1.0, 3.0 / 127.0]));
    }
}
