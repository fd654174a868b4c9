//! What the builder knows about a value: its name, element type and shape.

use std::fmt;

use crate::proto::DataType;

/// Element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// 16-bit float with the range of f32.
    Bf16,
    /// 64-bit integer: indices and shapes.
    I64,
    /// 32-bit integer: sums of products of 8-bit integers.
    I32,
    /// 8-bit integer: a weight.
    I8,
    /// 8-bit level of a pixel, or of a number that is multiplied with 8-bit weights.
    U8,
}

impl DType {
    /// Bytes of one element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::I64 => 8,
            Self::I8 | Self::U8 => 1,
        }
    }

    /// Whether these are floating-point numbers.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    pub(crate) fn proto(self) -> DataType {
        match self {
            Self::F32 => DataType::Float,
            Self::F16 => DataType::Float16,
            Self::Bf16 => DataType::Bfloat16,
            Self::I32 => DataType::Int32,
            Self::I8 => DataType::Int8,
            Self::I64 => DataType::Int64,
            Self::U8 => DataType::Uint8,
        }
    }
}

/// One dimension of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    /// The batch, known when the model runs.
    Batch,
    /// A size that is part of the model.
    Size(usize),
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch => f.write_str("batch"),
            Self::Size(size) => write!(f, "{size}"),
        }
    }
}

/// Dimensions, outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(Vec<Dim>);

impl Shape {
    /// A shape without batch.
    #[must_use]
    pub fn fixed(sizes: &[usize]) -> Self {
        Self(sizes.iter().copied().map(Dim::Size).collect())
    }

    /// `[batch, sizes...]`.
    #[must_use]
    pub fn batched(sizes: &[usize]) -> Self {
        Self([Dim::Batch].into_iter().chain(sizes.iter().copied().map(Dim::Size)).collect())
    }

    /// The dimensions.
    #[must_use]
    pub fn dims(&self) -> &[Dim] {
        &self.0
    }

    /// Number of dimensions.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The size of dimension `axis`, unless it is the batch or does not exist.
    #[must_use]
    pub fn size(&self, axis: usize) -> Option<usize> {
        match self.0.get(axis) {
            Some(&Dim::Size(size)) => Some(size),
            _ => None,
        }
    }

    /// Elements of one image of the batch: the product of all dimensions but the batch.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.0.iter().map(|dim| if let Dim::Size(size) = dim { *size } else { 1 }).product()
    }

    /// How often the batch is a dimension.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.0.iter().filter(|dim| **dim == Dim::Batch).count()
    }

    /// This shape with dimension `axis` replaced; itself if there is no such dimension.
    #[must_use]
    pub fn with(mut self, axis: usize, dim: Dim) -> Self {
        if let Some(place) = self.0.get_mut(axis) {
            *place = dim;
        }
        self
    }

    /// The common shape of two operands under ONNX's (NumPy's) broadcasting, if there is one.
    #[must_use]
    pub fn broadcast(&self, other: &Self) -> Option<Self> {
        let rank = self.rank().max(other.rank());
        let dim = |shape: &Self, axis: usize| match (axis + shape.rank()).checked_sub(rank) {
            Some(own) => shape.0[own],
            None => Dim::Size(1),
        };
        let common = |axis| match (dim(self, axis), dim(other, axis)) {
            (a, b) if a == b => Some(a),
            (a, Dim::Size(1)) => Some(a),
            (Dim::Size(1), b) => Some(b),
            _ => None,
        };
        (0..rank).map(common).collect::<Option<_>>().map(Self)
    }
}

impl FromIterator<Dim> for Shape {
    fn from_iter<I: IntoIterator<Item = Dim>>(dims: I) -> Self {
        Self(dims.into_iter().collect())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        write!(f, "[{}]", dims.join(", "))
    }
}

/// An input, an initializer or the result of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) shape: Shape,
}

impl Value {
    /// Name in the graph.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Shape.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_lines_up_the_last_dimensions() {
        let tokens = Shape::batched(&[5, 8]);
        assert_eq!(tokens.broadcast(&Shape::fixed(&[8])), Some(tokens.clone()));
        assert_eq!(Shape::fixed(&[1, 5, 1]).broadcast(&Shape::batched(&[1, 8])), Some(tokens.clone()));
        assert_eq!(Shape::fixed(&[]).broadcast(&tokens), Some(tokens.clone()));
        assert_eq!(tokens.broadcast(&Shape::fixed(&[4, 8])), None);
        assert_eq!(tokens.broadcast(&Shape::fixed(&[3, 5, 8])), None, "the batch is not known to be 3");
    }

    #[test]
    fn shapes_print_as_people_write_them() {
        let shape = Shape::batched(&[4, 8]);
        assert_eq!((shape.to_string().as_str(), shape.elements()), ("[batch, 4, 8]", 32));
        assert_eq!(shape.with(1, Dim::Size(2)).size(1), Some(2));
    }
}
