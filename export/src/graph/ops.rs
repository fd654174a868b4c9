//! Arithmetic: operators whose results are new numbers.

use super::{Data, Dim, GraphError, Result, Scope, Shape, Value};
use crate::proto::int;

impl Scope<'_> {
    /// `a + b`, broadcasting.
    ///
    /// # Errors
    /// Shapes or element types that do not go together; so do all binary operators.
    pub fn add(&self, a: &Value, b: &Value) -> Result<Value> {
        self.binary("Add", a, b)
    }

    /// `a - b`, broadcasting.
    ///
    /// # Errors
    /// As [`Scope::add`].
    pub fn sub(&self, a: &Value, b: &Value) -> Result<Value> {
        self.binary("Sub", a, b)
    }

    /// `a * b`, broadcasting.
    ///
    /// # Errors
    /// As [`Scope::add`].
    pub fn mul(&self, a: &Value, b: &Value) -> Result<Value> {
        self.binary("Mul", a, b)
    }

    /// `a / b`, broadcasting.
    ///
    /// # Errors
    /// As [`Scope::add`].
    pub fn div(&self, a: &Value, b: &Value) -> Result<Value> {
        self.binary("Div", a, b)
    }

    fn binary(&self, op: &str, a: &Value, b: &Value) -> Result<Value> {
        let shape = a.shape.broadcast(&b.shape).filter(|_| a.dtype == b.dtype);
        let shape = shape.ok_or_else(|| self.mismatch(op, a, b))?;
        Ok(self.node(op, &[a, b], Vec::new(), &shape))
    }

    pub(super) fn mismatch(&self, op: &str, a: &Value, b: &Value) -> GraphError {
        let problem = format!("{:?} {} and {:?} {} do not go together", a.dtype, a.shape, b.dtype, b.shape);
        GraphError::new(self.full_name(op), problem)
    }

    /// `x^2`, as the power that ONNX Runtime looks for when it fuses norms.
    #[must_use]
    pub fn square(&self, x: &Value) -> Value {
        let two = self.scalar(2.0);
        self.node("Pow", &[x, &two], Vec::new(), &x.shape)
    }

    /// Square root of floats.
    #[must_use]
    pub fn sqrt(&self, x: &Value) -> Value {
        self.unary("Sqrt", x)
    }

    /// `1 / (1 + exp(-x))`.
    #[must_use]
    pub fn sigmoid(&self, x: &Value) -> Value {
        self.unary("Sigmoid", x)
    }

    /// Cosine of radians.
    #[must_use]
    pub fn cos(&self, x: &Value) -> Value {
        self.unary("Cos", x)
    }

    /// Sine of radians.
    #[must_use]
    pub fn sin(&self, x: &Value) -> Value {
        self.unary("Sin", x)
    }

    pub(super) fn unary(&self, op: &str, x: &Value) -> Value {
        self.node(op, &[x], Vec::new(), &x.shape)
    }

    /// The larger of `x` and `least`. Clip, since candle-onnx has no Max.
    #[must_use]
    pub fn at_least(&self, x: &Value, least: f32) -> Value {
        let least = self.scalar(least);
        self.node("Clip", &[x, &least], Vec::new(), &x.shape)
    }

    /// Softmax over the last dimension.
    #[must_use]
    pub fn softmax(&self, x: &Value) -> Value {
        self.node("Softmax", &[x], vec![int("axis", -1)], &x.shape)
    }

    /// Mean over the last dimension, which stays with size 1.
    ///
    /// # Errors
    /// A value without dimensions.
    pub fn mean(&self, x: &Value) -> Result<Value> {
        let last = self.last_axis("ReduceMean", x)?;
        Ok(self.reduce("ReduceMean", x, &[-1], &x.shape.clone().with(last, Dim::Size(1))))
    }

    /// Sum over dimension `axis`, which stays with size 1 if `keep` says so.
    ///
    /// # Errors
    /// There is no such dimension, or it is the batch.
    pub fn sum(&self, x: &Value, axis: usize, keep: bool) -> Result<Value> {
        if x.shape.size(axis).is_none() {
            let problem = format!("{} has no dimension {axis} that can be summed", x.shape);
            return Err(GraphError::new(self.full_name("ReduceSum"), problem));
        }
        // A positive axis: candle-onnx does not count from the end here.
        let axes = self.integers(&[axis as i64]);
        let dims = x.shape.dims().iter().enumerate();
        let dims = dims.filter(|(i, _)| keep || *i != axis);
        let shape = dims.map(|(i, dim)| if i == axis { Dim::Size(1) } else { *dim }).collect();
        Ok(self.node("ReduceSum", &[x, &axes], vec![int("keepdims", keep.into())], &shape))
    }

    /// Matrix product `[.., m, k] x [.., k, n]`.
    ///
    /// # Errors
    /// Shapes or element types that do not go together.
    pub fn matmul(&self, a: &Value, b: &Value) -> Result<Value> {
        let shape = matmul_shape(&a.shape, &b.shape).filter(|_| a.dtype == b.dtype && a.dtype.is_float());
        let shape = shape.ok_or_else(|| self.mismatch("MatMul", a, b))?;
        Ok(self.node("MatMul", &[a, b], Vec::new(), &shape))
    }

    /// `count` times the number `value`.
    #[must_use]
    pub fn filled(&self, count: usize, value: f32) -> Value {
        self.constant(&format!("constant.{value:e}x{count}"), Data::filled(count, value))
    }

    pub(super) fn last_axis(&self, op: &str, x: &Value) -> Result<usize> {
        let none = || GraphError::new(self.full_name(op), format!("{} has no last dimension", x.name));
        x.shape.rank().checked_sub(1).ok_or_else(none)
    }
}

fn matmul_shape(a: &Shape, b: &Shape) -> Option<Shape> {
    let ([outer_a @ .., m, k], [outer_b @ .., other_k, n]) = (a.dims(), b.dims()) else { return None };
    let outer = |dims: &[Dim]| dims.iter().copied().collect::<Shape>();
    let outer = outer(outer_a).broadcast(&outer(outer_b))?;
    (k == other_k && *k != Dim::Batch).then(|| outer.dims().iter().copied().chain([*m, *n]).collect())
}
