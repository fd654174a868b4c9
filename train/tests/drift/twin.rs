//! Every combination of switches gives what the plain twin gives.

use drifting_train::drift::{
    Coupling, DriftSettings, Kernel, KeyShape, Reduction, ScaleScope, TemperatureAggregation, WeightPlacement,
};

use crate::reference::objective;
use crate::support::{Case, assert_close, random_shape};

/// Asserts agreement, the gradient relative to its largest entry.
#[track_caller]
fn assert_same(case: &Case, settings: &DriftSettings) {
    let found = case.outcome(settings).unwrap();
    let expected = objective(case, settings);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    assert_close(&[found.scale], &[mean(&expected.scale)], 1e-5);
    for (found, expected) in found.drift_norms.iter().zip(&expected.norms) {
        let expected = mean(expected);
        assert!((found - expected).abs() <= 2e-4 * expected + 1e-12, "{found} {expected} {settings:?}");
    }
    assert!((found.loss - expected.loss).abs() <= 2e-4 * expected.loss + 1e-9, "{} {}", found.loss, expected.loss);
    let largest = expected.gradient.iter().fold(1e-6, |largest: f64, value| largest.max(value.abs()));
    let relative = |value: f64| value / largest;
    let found: Vec<_> = found.gradient.iter().map(|&value| relative(f64::from(value))).collect();
    let expected: Vec<_> = expected.gradient.iter().map(|&value| relative(value)).collect();
    let difference = crate::support::difference(&found, &expected);
    assert!(difference < 2e-4, "{difference:.1e} {:?} {settings:?}", case.shape);
}

/// Couplings and normalisations that go together, with every other switch of the field.
fn fields() -> Vec<DriftSettings> {
    let mut fields = Vec::new();
    for (over_y, over_x, sinkhorn) in
        [(true, true, 0), (true, true, 4), (true, false, 0), (false, true, 0), (false, false, 0)]
    {
        for coupling in [Coupling::Joint, Coupling::Separate, Coupling::Split, Coupling::Mmd] {
            for switches in 0..16 {
                let on = |bit: u32| switches >> bit & 1 == 1;
                fields.push(DriftSettings {
                    temperatures: vec![0.5, 0.2],
                    normalize_over_y: over_y,
                    normalize_over_x: over_x,
                    sinkhorn_iterations: sinkhorn,
                    coupling,
                    kernel: if on(0) { Kernel::Gaussian } else { Kernel::Exponential },
                    weight_placement: if on(1) { WeightPlacement::Logits } else { WeightPlacement::AfterSoftmax },
                    mask_self_negatives: on(2),
                    floor: if on(3) { 1e-6 } else { 0.0 },
                    ..DriftSettings::default()
                });
            }
        }
    }
    fields.retain(|settings| settings.validate().is_ok());
    fields
}

#[test]
fn every_field_agrees_with_its_twin() {
    let shape = KeyShape { groups: 3, locations: 2, generated: 5, positives: 6, unconditional: 3, dim: 7 };
    let fields = fields();
    assert_eq!(fields.len(), 16 * (4 * 3 + 4));
    for (seed, settings) in fields.iter().enumerate() {
        assert_same(&Case::random(seed as u64, shape), settings);
    }
}

#[test]
fn every_normalisation_and_reduction_agrees_with_its_twin() {
    let shape = KeyShape { groups: 3, locations: 2, generated: 5, positives: 6, unconditional: 3, dim: 7 };
    for switches in 0..64 {
        let on = |bit: u32| switches >> bit & 1 == 1;
        let settings = DriftSettings {
            normalize_features: on(0),
            scale_temperature_by_sqrt_channels: on(1),
            normalize_drift: on(2),
            scale_scope: if on(3) { ScaleScope::Group } else { ScaleScope::Batch },
            reduction: if on(4) { Reduction::Sum } else { Reduction::Mean },
            temperature_aggregation: if on(5) {
                TemperatureAggregation::SumLosses
            } else {
                TemperatureAggregation::SumDrifts
            },
            attraction: 1.5,
            ..DriftSettings::default()
        };
        assert_same(&Case::random(switches, shape), &settings);
    }
}

#[test]
fn every_shape_agrees_with_its_twin() {
    for seed in 0..200 {
        assert_same(&Case::random(seed, random_shape(seed)), &DriftSettings::default());
    }
}

/// Of long vectors the drifts are squared by distances, unless points lie in one place.
#[test]
fn long_vectors_agree_with_their_twin() {
    let shape = KeyShape { groups: 2, locations: 2, generated: 6, positives: 9, unconditional: 3, dim: 70 };
    let settings = DriftSettings::default();
    for seed in 0..10 {
        let case = Case::random(seed, shape);
        assert_same(&case, &settings);
        assert_same(&case, &DriftSettings { attraction: 1.5, scale_scope: ScaleScope::Group, ..settings.clone() });
        let far = case.positives.iter().map(|value| value + 30.0).collect();
        assert_same(&Case { positives: far, ..case.clone() }, &settings);
        let mut twice = case.clone();
        let image = shape.locations * shape.dim;
        twice.positives.copy_within(..image, image);
        assert_same(&twice, &settings);
        twice.generated.copy_within(..image, image);
        assert_same(&twice, &settings);
    }
}
