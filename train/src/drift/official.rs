//! From distances to coefficients for the official settings, in few passes over short rows (method step 5; paper Algorithm 2).
//!
//! The geometric mean of the two softmaxes of a kernel is taken from the roots of the kernel: with e = exp(-d / 2 tau) about the
//! nearest target of a sample and about the nearest sample of a target, it is the product of both over the norms of the rows of
//! the one and the columns of the other.

use drifting_models::ops::lanes::{LaneKernel, Lanes, dispatch_lanes};
use drifting_models::ops::simd::LANES;
use pulp::Simd;

use super::batch::Columns;
use super::settings::{Coupling, DriftSettings, Kernel, WeightPlacement};

/// Distance of what fills up a row; no kernel reaches so far.
const BEYOND: f32 = 1e30;

/// Logarithm of the least root of a kernel that is told from 0. Products of two of them, and of their shares, are still normal
/// numbers; with smaller ones some processors take many times as long.
const LEAST: f32 = -40.0;

/// Whether [`Official`] computes the coefficients of these settings.
pub(super) fn is_official(settings: &DriftSettings) -> bool {
    let DriftSettings { kernel, coupling, weight_placement, sinkhorn_iterations, .. } = settings;
    *kernel == Kernel::Exponential
        && matches!(coupling, Coupling::Joint | Coupling::Separate)
        && *weight_placement == WeightPlacement::AfterSoftmax
        && settings.normalize_over_y
        && settings.normalize_over_x
        && *sinkhorn_iterations == 0
}

/// Memory that is used for one problem after the other.
#[derive(Debug, Default)]
pub(super) struct Official {
    /// Distances in the kernel's unit, masked: `[Ng, stride]`.
    scaled: Vec<f32>,
    /// What belongs to rows and to columns, [`LANES`] at a time.
    rows: Vec<Row>,
    columns: Vec<Column>,
}

/// What belongs to [`LANES`] samples.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    /// Distance of the nearest target.
    nearest: [f32; LANES],
    /// Squares of the roots, then 1 / their norm.
    share: [f32; LANES],
    /// Affinities to all negatives, then what theirs are multiplied by.
    negative: [f32; LANES],
    /// As `negative`, of the positives.
    positive: [f32; LANES],
}

/// What belongs to [`LANES`] targets.
#[derive(Clone, Copy, Debug)]
struct Column {
    /// What is added to the distances.
    beyond: [f32; LANES],
    /// Weights as negatives, and as positives.
    negative: [f32; LANES],
    positive: [f32; LANES],
    /// Distance of the nearest sample.
    nearest: [f32; LANES],
    /// Squares of the roots, then 1 / their norm.
    share: [f32; LANES],
}

impl Official {
    /// The coefficients `[temperatures, Ng, stride]` from `distances` `[Ng, stride]`, of which `unit` is 1 for the kernel, and
    /// the weight of the unconditional targets. What fills up a row is 0.
    pub(super) fn find(
        &mut self,
        distances: &[f32],
        (unit, weight): (f32, f32),
        columns: Columns,
        settings: &DriftSettings,
        coefficients: &mut [f32],
    ) {
        self.scaled.resize(distances.len(), 0.0);
        self.rows.clear();
        self.rows.resize((distances.len() / columns.stride()).div_ceil(LANES), Row::default());
        self.mark(columns, weight);
        dispatch_lanes(Scale { memory: self, distances, per_unit: 1.0 / unit, own: columns.own, settings });
        for (&temperature, coefficients) in
            settings.temperatures.iter().zip(coefficients.chunks_exact_mut(distances.len()))
        {
            dispatch_lanes(BothAxes { memory: self, temperature, own: columns.own, settings, coefficients });
        }
    }

    /// Which columns are negatives and positives, and which only fill up the rows.
    fn mark(&mut self, Columns { own, negatives, targets }: Columns, weight: f32) {
        self.columns.clear();
        for first in (0..targets).step_by(LANES) {
            let [zeros, nearest] = [0.0, f32::INFINITY].map(|value| [value; LANES]);
            let mut column = Column { beyond: zeros, negative: zeros, positive: zeros, nearest, share: zeros };
            for lane in 0..LANES {
                match first + lane {
                    target if target < own => column.negative[lane] = 1.0,
                    target if target < negatives => column.negative[lane] = weight,
                    target if target < targets => column.positive[lane] = 1.0,
                    _ => column.beyond[lane] = BEYOND,
                }
            }
            self.columns.push(column);
        }
    }
}

/// Distances in the unit of the kernel, with a mask between a sample and itself, and the nearest of each row and column.
struct Scale<'a> {
    memory: &'a mut Official,
    distances: &'a [f32],
    per_unit: f32,
    own: usize,
    settings: &'a DriftSettings,
}

impl LaneKernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let Self { memory: Official { scaled, rows, columns }, distances, per_unit, own, settings } = self;
        let mask = if settings.mask_self_negatives { settings.mask } else { 0.0 };
        let per_unit = Lanes::<S, N>::splat(simd, per_unit);
        let stride = columns.len() * LANES;
        let matrix = scaled.chunks_exact_mut(stride).zip(distances.chunks_exact(stride));
        for (i, (scaled, distances)) in matrix.enumerate() {
            let (scaled, distances) = (scaled.as_chunks_mut::<LANES>().0, distances.as_chunks::<LANES>().0);
            for ((scaled, distance), column) in scaled.iter_mut().zip(distances).zip(&*columns) {
                let beyond = Lanes::load(simd, &column.beyond);
                Lanes::<S, N>::load(simd, distance).mul_add(simd, per_unit, beyond).store(scaled);
            }
            // No generated sample is a target of its own unless they all are.
            if i < own {
                scaled[i / LANES][i % LANES] += mask;
            }
            let mut nearest = Lanes::<S, N>::splat(simd, f32::INFINITY);
            for (scaled, column) in scaled.iter().zip(&mut *columns) {
                let scaled = Lanes::load(simd, scaled);
                nearest = nearest.min(simd, scaled);
                Lanes::load(simd, &column.nearest).min(simd, scaled).store(&mut column.nearest);
            }
            rows[i / LANES].nearest[i % LANES] = nearest.smallest(simd);
        }
    }
}

/// The coefficients of one temperature: negative for negatives, positive for positives, and where a sample is a target, less
/// the sum of all for itself.
struct BothAxes<'a> {
    memory: &'a mut Official,
    temperature: f32,
    own: usize,
    settings: &'a DriftSettings,
    /// `[Ng, stride]`.
    coefficients: &'a mut [f32],
}

impl LaneKernel for BothAxes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, const N: usize>(self, simd: S) {
        let Self { memory: Official { scaled, rows, columns }, temperature, own, settings, coefficients } = self;
        let stride = columns.len() * LANES;
        let (zero, one) = (Lanes::<S, N>::splat(simd, 0.0), Lanes::<S, N>::splat(simd, 1.0));
        let slope = Lanes::<S, N>::splat(simd, -0.5 / temperature);
        let least = Lanes::splat(simd, LEAST);
        for column in &mut *columns {
            zero.store(&mut column.share);
        }
        let matrix = coefficients.chunks_exact_mut(stride).zip(scaled.chunks_exact(stride));
        for (i, (products, scaled)) in matrix.enumerate() {
            let nearest = Lanes::splat(simd, rows[i / LANES].nearest[i % LANES]);
            let mut squares = zero;
            let products = products.as_chunks_mut::<LANES>().0.iter_mut();
            for ((product, scaled), column) in products.zip(scaled.as_chunks::<LANES>().0).zip(&mut *columns) {
                let scaled = Lanes::<S, N>::load(simd, scaled);
                let over_y = scaled.sub(simd, nearest).mul(simd, slope).max(simd, least).exp_of_negative(simd);
                let over_x = scaled.sub(simd, Lanes::load(simd, &column.nearest)).mul(simd, slope).max(simd, least);
                let over_x = over_x.exp_of_negative(simd);
                over_y.mul(simd, over_x).store(product);
                squares = over_y.mul_add(simd, over_y, squares);
                over_x.mul_add(simd, over_x, Lanes::load(simd, &column.share)).store(&mut column.share);
            }
            rows[i / LANES].share[i % LANES] = squares.sum(simd);
        }
        for share in rows.iter_mut().map(|row| &mut row.share).chain(columns.iter_mut().map(|column| &mut column.share))
        {
            one.div(simd, Lanes::load(simd, share)).sqrt(simd).store(share);
        }
        let floor = Lanes::<S, N>::splat(simd, settings.floor.sqrt());
        for (i, products) in coefficients.chunks_exact_mut(stride).enumerate() {
            let row_share = Lanes::splat(simd, rows[i / LANES].share[i % LANES]);
            let (mut negative, mut positive) = (zero, zero);
            for (product, column) in products.as_chunks_mut::<LANES>().0.iter_mut().zip(&*columns) {
                let share = Lanes::load(simd, &column.share);
                let affinity =
                    Lanes::<S, N>::load(simd, product).mul(simd, row_share).mul(simd, share).max(simd, floor);
                negative = affinity.mul_add(simd, Lanes::load(simd, &column.negative), negative);
                positive = affinity.mul_add(simd, Lanes::load(simd, &column.positive), positive);
                affinity.store(product);
            }
            rows[i / LANES].negative[i % LANES] = negative.sum(simd);
            rows[i / LANES].positive[i % LANES] = positive.sum(simd);
        }
        for Row { negative, positive, .. } in rows.iter_mut() {
            for (negative, positive) in negative.iter_mut().zip(positive) {
                (*negative, *positive) = settings.factors(*negative, *positive);
            }
        }
        for (i, affinities) in coefficients.chunks_exact_mut(stride).enumerate() {
            let Row { negative, positive, .. } = &rows[i / LANES];
            let (push, pull) = (Lanes::splat(simd, negative[i % LANES]), Lanes::splat(simd, positive[i % LANES]));
            let mut sum = zero;
            for (affinity, column) in affinities.as_chunks_mut::<LANES>().0.iter_mut().zip(&*columns) {
                let positive = Lanes::load(simd, &column.positive).mul(simd, pull);
                let factor = Lanes::<S, N>::load(simd, &column.negative).mul_add(simd, push, positive);
                let coefficient = Lanes::load(simd, affinity).mul(simd, factor);
                sum = sum.add(simd, coefficient);
                coefficient.store(affinity);
            }
            if i < own {
                affinities[i] -= sum.sum(simd);
            }
        }
    }
}
