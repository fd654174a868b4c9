//! Operators of images `[batch, channels, height, width]`.

use super::{DType, Data, Dim, GraphError, Result, Scope, Shape, Value};
use crate::proto::{ints, text};

impl Scope<'_> {
    /// Convolution by `weight` `[out, in, side, side]`, plus `bias` `[out]`; zeros around the image keep its sides, but for
    /// the `stride`.
    ///
    /// # Errors
    /// Shapes or element types that do not go together, an even side, a stride of 0.
    pub fn conv(&self, x: &Value, weight: &Value, bias: Option<&Value>, stride: usize) -> Result<Value> {
        let (&[batch, channels, ..], &[out, inner, ..]) = (x.shape.dims(), weight.shape.dims()) else {
            return Err(self.mismatch("Conv", x, weight));
        };
        let sides = (weight.shape.size(2), weight.shape.size(3));
        let (Some(height), Some(width), (Some(side), Some(other))) = (x.shape.size(2), x.shape.size(3), sides) else {
            return Err(self.mismatch("Conv", x, weight));
        };
        let biased = bias.is_none_or(|bias| bias.shape.dims() == [out] && bias.dtype == x.dtype);
        let fits = channels == inner && side == other && side % 2 == 1 && stride > 0 && biased;
        if !fits || x.dtype != weight.dtype {
            return Err(self.mismatch("Conv", x, weight));
        }
        let (pad, side) = ((side / 2) as i64, side as i64);
        let attributes =
            vec![ints("kernel_shape", &[side; 2]), ints("pads", &[pad; 4]), ints("strides", &[stride as i64; 2])];
        let size = |length: usize| Dim::Size(length.div_ceil(stride));
        let shape: Shape = [batch, out, size(height), size(width)].into_iter().collect();
        let inputs: Vec<&Value> = [x, weight].into_iter().chain(bias).collect();
        Ok(self.node("Conv", &inputs, attributes, &shape))
    }

    /// Every pixel four times: sides twice as long.
    ///
    /// # Errors
    /// A value without two sides.
    pub fn upsample2(&self, x: &Value) -> Result<Value> {
        let (4, Some(height), Some(width)) = (x.shape.rank(), x.shape.size(2), x.shape.size(3)) else {
            return Err(GraphError::new(self.full_name("Resize"), format!("{} is no image", x.shape)));
        };
        let scales = Data::floats(&[4], &[1.0, 1.0, 2.0, 2.0]);
        let scales = scales.ok_or_else(|| GraphError::new(self.full_name("Resize"), "four scales are needed"))?;
        let (absent, scales) = (self.absent(), self.constant("constant.twice", scales));
        // The one way that candle-onnx knows, and the one that ONNX Runtime has a fast path for.
        let attributes = vec![
            text("coordinate_transformation_mode", "asymmetric"),
            text("mode", "nearest"),
            text("nearest_mode", "floor"),
        ];
        let shape = x.shape.clone().with(2, Dim::Size(2 * height)).with(3, Dim::Size(2 * width));
        Ok(self.node("Resize", &[x, &absent, &scales], attributes, &shape))
    }

    /// The larger of x and 0.
    #[must_use]
    pub fn relu(&self, x: &Value) -> Value {
        self.unary("Relu", x)
    }

    /// Hyperbolic tangent.
    #[must_use]
    pub fn tanh(&self, x: &Value) -> Value {
        self.unary("Tanh", x)
    }

    /// The largest whole number that is not above x.
    #[must_use]
    pub fn floor(&self, x: &Value) -> Value {
        self.unary("Floor", x)
    }

    /// x, or the nearer end of the range that it is outside of.
    #[must_use]
    pub fn clip(&self, x: &Value, least: f32, most: f32) -> Value {
        let (least, most) = (self.scalar(least), self.scalar(most));
        self.node("Clip", &[x, &least, &most], Vec::new(), &x.shape)
    }

    /// Whole numbers from 0 to 255 as bytes.
    #[must_use]
    pub fn bytes(&self, x: &Value) -> Value {
        self.cast(x, DType::U8)
    }

    /// Mean over the dimensions `axes`, which stay with size 1.
    ///
    /// # Errors
    /// One of them does not exist or is the batch.
    pub fn mean_over(&self, x: &Value, axes: &[usize]) -> Result<Value> {
        if let Some(axis) = axes.iter().find(|axis| x.shape.size(**axis).is_none()) {
            let problem = format!("{} has no dimension {axis} whose mean can be taken", x.shape);
            return Err(GraphError::new(self.full_name("ReduceMean"), problem));
        }
        let shape = axes.iter().fold(x.shape.clone(), |shape, &axis| shape.with(axis, Dim::Size(1)));
        let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
        Ok(self.reduce("ReduceMean", x, &axes, &shape))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Builder;
    use super::*;

    #[test]
    fn shapes_of_images_are_inferred() {
        let builder = Builder::new("test", "batch", BTreeMap::new());
        let g = builder.root();
        let x = builder.input("x", DType::F32, Shape::batched(&[3, 7, 4]));
        let weight = |dims: &[usize]| {
            let count = dims.iter().product();
            let data = Data::floats(dims, &vec![0.5; count]).unwrap();
            g.constant(&format!("{dims:?}"), data)
        };
        let square = weight(&[5, 3, 3, 3]);
        assert_eq!(g.conv(&x, &square, None, 2).unwrap().shape(), &Shape::batched(&[5, 4, 2]));
        assert_eq!(g.conv(&x, &square, Some(&g.filled(5, 0.0)), 1).unwrap().shape(), &Shape::batched(&[5, 7, 4]));
        for wrong in [&[5, 2, 3, 3][..], &[5, 3, 2, 2], &[5, 3, 3, 1], &[5, 3]] {
            g.conv(&x, &weight(wrong), None, 1).unwrap_err();
        }
        g.conv(&x, &square, Some(&g.filled(4, 0.0)), 1).unwrap_err();
        g.conv(&x, &square, None, 0).unwrap_err();
        assert_eq!(g.upsample2(&x).unwrap().shape(), &Shape::batched(&[3, 14, 8]));
        g.upsample2(&g.filled(4, 0.0)).unwrap_err();
        assert_eq!(g.mean_over(&x, &[1, 3]).unwrap().shape(), &Shape::batched(&[1, 7, 1]));
        g.mean_over(&x, &[0]).unwrap_err();
        assert_eq!(g.bytes(&g.clip(&x, 0.0, 255.0)).dtype(), DType::U8);
    }
}
