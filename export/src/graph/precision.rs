//! Numbers of fewer bits: where they begin and where they end.

use super::data::INT8_MOST;
use super::{DType, Data, Dim, GraphError, Result, Scope, Shape, Value};
use crate::proto::int;
use crate::settings::Profile;

/// What follows the name of a matrix `[in, out]` in 8-bit integers.
pub const EIGHT_BITS: &str = ".int8";

/// What follows the name of the numbers `[out]` that bring the columns of such a matrix back.
pub const SCALES: &str = ".scales";

/// The 8-bit level of 0.
const ZERO_LEVEL: u8 = 128;

/// Keeps the quotient finite where a token is all zero.
const LEAST_SCALE: f32 = 1e-30;

impl Scope<'_> {
    /// The element type of matrix products.
    #[must_use]
    pub fn product_type(&self) -> DType {
        match self.profile() {
            Profile::Fp16 => DType::F16,
            Profile::Bf16 => DType::Bf16,
            Profile::Portable | Profile::Ort | Profile::Int8 => DType::F32,
        }
    }

    /// The element type of convolutions: ONNX knows them in bfloat16 only since opset 22.
    #[must_use]
    pub fn convolution_type(&self) -> DType {
        if self.product_type() == DType::F16 { DType::F16 } else { DType::F32 }
    }

    /// x in the element type of matrix products.
    #[must_use]
    pub fn low(&self, x: &Value) -> Value {
        self.cast(x, self.product_type())
    }

    /// x in f32.
    #[must_use]
    pub fn full(&self, x: &Value) -> Value {
        self.cast(x, DType::F32)
    }

    /// x with another element type; each value is cast once.
    #[must_use]
    pub fn cast(&self, x: &Value, dtype: DType) -> Value {
        if x.dtype == dtype {
            return x.clone();
        }
        self.remembered(x, &format!("{dtype:?}"), || {
            let to = int("to", i64::from(i32::from(dtype.proto())));
            let value = self.node("Cast", &[x], vec![to], &x.shape);
            [self.retyped(value, dtype), self.absent()]
        })[0]
            .clone()
    }

    /// `x W` for the parameter `name` `[out, in]` in 8-bit integers and tokens x `[.., in]` of f32, each of which is
    /// brought to 8 bits by its own largest number: so an image does not depend on its batch.
    ///
    /// # Errors
    /// The parameter is not there or has another shape than `dims`, or x has no numbers for it.
    pub fn product_in_eight_bits(&self, x: &Value, name: &str, dims: &[usize]) -> Result<Value> {
        let [levels, scales] = self.parameter_in_eight_bits(name, dims)?;
        let last = self.last_axis("MatMulInteger", x)?;
        if x.dtype != DType::F32 || x.shape.size(last) != levels.shape.size(0) {
            return Err(self.mismatch("MatMulInteger", x, &levels));
        }
        let [steps, token_scales] = self.tokens_in_eight_bits(x, last)?;
        let zero = self.constant("constant.zero_level", Data::byte(ZERO_LEVEL));
        let width = levels.shape.dims().get(1).copied().unwrap_or(Dim::Size(1));
        let shape = x.shape.clone().with(last, width);
        let sums = self.node("MatMulInteger", &[&steps, &levels, &zero], Vec::new(), &shape);
        let sums = self.full(&self.retyped(sums, DType::I32));
        self.mul(&self.mul(&sums, &token_scales)?, &scales)
    }

    /// The levels of tokens as bytes, and the number that each token's are multiplied with.
    fn tokens_in_eight_bits(&self, x: &Value, last: usize) -> Result<[Value; 2]> {
        if let Some(known) = self.known(x, "levels") {
            return Ok(known);
        }
        let most = self.reduce("ReduceMax", &self.unary("Abs", x), &[-1], &x.shape.clone().with(last, Dim::Size(1)));
        let scale = self.div(&self.add(&most, &self.scalar(LEAST_SCALE))?, &self.scalar(INT8_MOST))?;
        // The cast cuts off what is behind the point: half a level more rounds to the nearest.
        let levels = self.add(&self.div(x, &scale)?, &self.scalar(f32::from(ZERO_LEVEL) + 0.5))?;
        let levels = self.cast(&levels, DType::U8);
        Ok(self.remembered(x, "levels", || [levels, scale]))
    }

    fn parameter_in_eight_bits(&self, name: &str, dims: &[usize]) -> Result<[Value; 2]> {
        let full_name = self.full_name(name);
        let data = self.take(&full_name, dims)?.transposed();
        let halves = data.in_eight_bits();
        let (levels, scales) = halves.ok_or_else(|| GraphError::new(&full_name, "is no matrix of weights"))?;
        Ok([
            self.stored(format!("{full_name}{}{EIGHT_BITS}", super::TRANSPOSED), levels),
            self.stored(format!("{full_name}{SCALES}"), scales),
        ])
    }

    /// A reduction over `axes`, counted from the end; the dimensions stay with size 1.
    pub(super) fn reduce(&self, op: &str, x: &Value, axes: &[i64], shape: &Shape) -> Value {
        use crate::proto::ints;
        match self.profile() {
            // Axes are an input since opset 18.
            Profile::Ort => self.node(op, &[x, &self.integers(axes)], vec![int("keepdims", 1)], shape),
            // Axes as attribute: candle-onnx ignores the input of later opsets and takes the mean over everything.
            _ => self.node(op, &[x], vec![ints("axes", axes), int("keepdims", 1)], shape),
        }
    }
}
