//! What kernels take and make.

use candle_core::{DType, Result, Tensor, bail};

/// One argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Argument<'a> {
    /// Pointer to numbers that are read, row after row.
    Input(&'a Tensor),
    /// Pointer to numbers that are changed where they are.
    Changed(&'a Tensor),
    /// `int`
    Count(usize),
    /// `int` that may be negative.
    Offset(isize),
    /// `float`
    Number(f32),
}

impl Argument<'_> {
    /// The tensor that it points to, if it does.
    pub(crate) fn tensor(&self) -> Result<Option<&Tensor>> {
        match self {
            Self::Input(tensor) | Self::Changed(tensor) if !tensor.is_contiguous() => {
                bail!("a kernel's argument {:?} does not lie row after row", tensor.dims())
            }
            Self::Input(tensor) | Self::Changed(tensor) => Ok(Some(tensor)),
            Self::Count(_) | Self::Offset(_) | Self::Number(_) => Ok(None),
        }
    }

    /// The bytes of an argument that is no pointer.
    pub(crate) fn number(&self) -> Result<[u8; 4]> {
        match *self {
            Self::Count(count) => match i32::try_from(count) {
                Ok(count) => Ok(count.to_ne_bytes()),
                Err(_) => bail!("a kernel's argument {count} is too large"),
            },
            Self::Offset(offset) => match i32::try_from(offset) {
                Ok(offset) => Ok(offset.to_ne_bytes()),
                Err(_) => bail!("a kernel's argument {offset} is too large"),
            },
            Self::Number(number) => Ok(number.to_ne_bytes()),
            Self::Input(_) | Self::Changed(_) => Ok([0; 4]),
        }
    }
}

/// Shape and type of a tensor that a kernel makes.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    pub(crate) shape: &'a [usize],
    pub(crate) dtype: DType,
}

impl<'a> Output<'a> {
    /// Single precision.
    #[must_use]
    pub fn f32(shape: &'a [usize]) -> Self {
        Self { shape, dtype: DType::F32 }
    }

    /// Double precision.
    #[must_use]
    pub fn f64(shape: &'a [usize]) -> Self {
        Self { shape, dtype: DType::F64 }
    }

    /// bfloat16 if `narrow`, else single precision.
    #[must_use]
    pub fn factor(shape: &'a [usize], narrow: bool) -> Self {
        Self { shape, dtype: if narrow { DType::BF16 } else { DType::F32 } }
    }
}
