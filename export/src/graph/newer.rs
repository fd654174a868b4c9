//! Operators of the newer operator set.

use super::{DType, GraphError, Result, Scope, Shape, Value};
use crate::proto::{float, int};

impl Scope<'_> {
    /// `x / sqrt(mean(x^2) + epsilon) * gain` over the last dimension, in one operator.
    #[must_use]
    pub fn rms_normalization(&self, x: &Value, gain: &Value, epsilon: f32) -> Value {
        let attributes = vec![int("axis", -1), float("epsilon", epsilon)];
        self.node("RMSNormalization", &[x, gain], attributes, &x.shape)
    }

    /// `(x - mean) / sqrt(variance + epsilon) * gain + bias` over the last dimension, in one operator.
    #[must_use]
    pub fn layer_normalization(&self, x: &Value, gain: &Value, bias: &Value, epsilon: f32) -> Value {
        let attributes = vec![int("axis", -1), float("epsilon", epsilon)];
        self.node("LayerNormalization", &[x, gain, bias], attributes, &x.shape)
    }

    /// Turns the pairs (i, i + half) of each head of x `[batch, tokens, heads * size]` by the angles whose cosines and
    /// sines stand in the rows `positions` `[batch, tokens]` of the tables `[rows, size / 2]`.
    ///
    /// # Errors
    /// Shapes or element types that do not go together.
    pub fn rotary_embedding(&self, x: &Value, tables: &[Value; 2], positions: &Value, heads: usize) -> Result<Value> {
        let half = tables[0].shape.size(1).filter(|_| tables[0].shape == tables[1].shape);
        let fits = half.is_some_and(|half| x.shape.size(2) == Some(2 * half * heads)) && positions.dtype == DType::I64;
        if !fits || x.shape.dims().get(..2) != Some(positions.shape.dims()) {
            return Err(self.mismatch("RotaryEmbedding", x, &tables[0]));
        }
        let [cos, sin] = tables;
        let attributes = vec![int("interleaved", 0), int("num_heads", heads as i64)];
        Ok(self.node("RotaryEmbedding", &[x, cos, sin, positions], attributes, &x.shape))
    }

    /// Attention of all tokens to all: queries, keys and values `[batch, tokens, heads * size]`, result the same.
    ///
    /// # Errors
    /// Shapes or element types that do not go together.
    pub fn attention(&self, [q, k, v]: [&Value; 3], heads: usize, scale: f32) -> Result<Value> {
        let same = q.shape == k.shape && k.shape == v.shape && q.dtype == k.dtype && k.dtype == v.dtype;
        if !same || q.shape.rank() != 3 || !q.shape.size(2).is_some_and(|width| width.is_multiple_of(heads.max(1))) {
            return Err(self.mismatch("Attention", q, k));
        }
        let heads = heads as i64;
        let attributes = vec![int("kv_num_heads", heads), int("q_num_heads", heads), float("scale", scale)];
        Ok(self.node("Attention", &[q, k, v], attributes, &q.shape))
    }

    /// Row numbers `[batch, tokens]` that count the tokens of every image; `example` `[batch]` of integers tells the batch.
    ///
    /// # Errors
    /// An example that is not one integer for each image.
    pub fn positions(&self, example: &Value, tokens: usize) -> Result<Value> {
        if example.dtype != DType::I64 || example.shape != Shape::batched(&[]) {
            let problem = format!("{} does not hold one integer for each image", example.name);
            return Err(GraphError::new(self.full_name("positions"), problem));
        }
        let counted: Vec<i64> = (0..tokens as i64).collect();
        let none = self.mul(&self.reshape(example, &[1])?, &self.integers(&[0]))?;
        self.add(&none, &self.integers(&counted))
    }
}
