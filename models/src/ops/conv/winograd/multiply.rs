//! The squares' numbers times the weights, point by point.

use pulp::{Simd, WithSimd};

#[cfg(target_arch = "x86_64")]
use super::super::super::matmul::Matrix;
use super::super::super::matmul::bf16;
#[cfg(target_arch = "x86_64")]
use super::super::super::matmul::kernel::Place;
use super::super::super::matmul::native::multiply;
use super::super::super::matmul::packed::{Left, Right, Unit};
use super::super::kernel::{NARROW, PIXELS, Runs, WIDE, longest};
use super::{POINTS, Transformed, Weights};

/// Products of some squares with one block of outputs after the other.
pub(super) struct Multiply<'a> {
    channels: usize,
    /// Outputs in a block.
    block: usize,
    /// Numbers from a point to the next, and from its products.
    strides: (usize, usize),
    way: Way<'a>,
}

enum Way<'a> {
    Single {
        /// `[blocks, points, channels, block]`.
        weights: &'a [f32],
        /// Whether the squares' numbers are rounded first.
        rounded: bool,
        /// Where the squares begin, and their products.
        starts: Vec<usize>,
        places: Vec<usize>,
    },
    #[cfg(target_arch = "x86_64")]
    Packed {
        unit: Unit,
        /// `[blocks, points]`.
        weights: &'a [Right],
        /// Of each point.
        points: Vec<Left>,
    },
}

impl<'a> Multiply<'a> {
    /// For `together` squares of `channels` numbers at most.
    pub(super) fn new(
        transformed: &'a Transformed,
        (channels, together): (usize, usize),
        strides: (usize, usize),
    ) -> Self {
        let block = transformed.block;
        let single = |weights, rounded| Way::Single {
            weights,
            rounded,
            starts: (0..together).map(|square| square * channels).collect(),
            places: (0..together).map(|square| square * block).collect(),
        };
        let way = match &transformed.weights {
            Weights::Full(weights) => single(weights, false),
            Weights::Rounded(weights) => single(weights, true),
            #[cfg(target_arch = "x86_64")]
            Weights::Packed(unit, weights) => {
                Way::Packed { unit: *unit, weights, points: vec![Left::default(); POINTS] }
            }
        };
        Self { channels, block, strides, way }
    }

    /// Makes `squares` squares `[points, squares, channels]` ready to be multiplied.
    pub(super) fn begin(&mut self, points: &mut [f32], squares: usize) {
        match &mut self.way {
            Way::Single { rounded: false, .. } => {}
            Way::Single { rounded: true, .. } => bf16::round(points),
            #[cfg(target_arch = "x86_64")]
            Way::Packed { unit, points: packed, .. } => {
                for (packed, points) in packed.iter_mut().zip(points.chunks_exact(self.strides.0)) {
                    packed.pack(*unit, Matrix::new(points, squares, self.channels));
                }
            }
        }
    }

    /// Writes the products `[points, squares, block]` of a block.
    pub(super) fn block(&self, number: usize, points: &[f32], products: &mut [f32], squares: usize) {
        let Self { channels, block, strides, way } = self;
        match way {
            Way::Single { weights, starts, places, .. } => pulp::Arch::new().dispatch(Single {
                channels: *channels,
                points,
                starts: &starts[..squares],
                weights: &weights[number * POINTS * channels * block..][..POINTS * channels * block],
                block: *block,
                products,
                places: &places[..squares],
                strides: *strides,
            }),
            #[cfg(target_arch = "x86_64")]
            Way::Packed { weights, points, .. } => {
                let weights = &weights[number * POINTS..][..POINTS];
                for ((left, right), values) in points.iter().zip(weights).zip(products.chunks_exact_mut(strides.1)) {
                    multiply(left, right, &mut Place { values, stride: *block, add: false, scale: 1.0 });
                }
            }
        }
    }
}

/// All points of a block of outputs.
struct Single<'a> {
    channels: usize,
    /// `[points, squares, channels]`.
    points: &'a [f32],
    /// Where the squares begin.
    starts: &'a [usize],
    /// `[points, channels, block]`.
    weights: &'a [f32],
    block: usize,
    /// `[points, squares, block]`.
    products: &'a mut [f32],
    /// Where the squares' products begin.
    places: &'a [usize],
    /// Numbers from a point to the next, and from its products.
    strides: (usize, usize),
}

impl WithSimd for Single<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.block / S::F32_LANES {
            WIDE => self.run::<S, WIDE>(simd),
            _ => self.run::<S, NARROW>(simd),
        }
    }
}

impl Single<'_> {
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize>(self, simd: S) {
        let Self { channels, points, starts, weights, block, products, places, strides } = self;
        let each = points.chunks_exact(strides.0).zip(products.chunks_exact_mut(strides.1));
        for ((points, products), weights) in each.zip(weights.chunks_exact(channels * block)) {
            for first in (0..channels).step_by(longest(block)) {
                let runs = Runs {
                    offset: first,
                    row: 0,
                    lines: 1,
                    len: longest(block).min(channels - first),
                    weights: &weights[first * block..],
                    line: 0,
                    begun: first > 0,
                };
                for (starts, places) in starts.chunks(PIXELS).zip(places.chunks(PIXELS)) {
                    runs.add::<S, VECTORS>(simd, (points, starts), 0, (&mut *products, places));
                }
            }
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    #[test]
    fn every_processor_computes_the_same() {
        let (channels, block, squares, outputs) = (2 * super::super::lanes(), 2 * super::super::lanes(), 45, 2);
        let full = numbers(outputs * POINTS * channels * block, 1);
        let mut rounded = full.clone();
        bf16::round(&mut rounded);
        let strides = (squares * channels, squares * block);
        let products = |weights| {
            let transformed = Transformed { weights, block };
            let mut points = numbers(POINTS * strides.0, 2);
            let mut multiply = Multiply::new(&transformed, (channels, squares), strides);
            multiply.begin(&mut points, squares);
            let mut products = vec![0.0; POINTS * strides.1];
            multiply.block(1, &points, &mut products, squares);
            products
        };
        let expected = products(Weights::Rounded(rounded));
        assert!(expected.iter().any(|product| product.abs() > 0.1));
        for unit in Unit::all() {
            let found = products(Weights::packed(unit, &full, channels, block));
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-4, "{unit:?}: {found} {expected}");
            }
        }
    }
}
