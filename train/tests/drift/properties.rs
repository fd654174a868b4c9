//! What holds whatever the features are.

use drifting_spec::Stream;
use drifting_train::drift::{DriftSettings, KeyShape, Negatives, Products, field};

use crate::reference::objective;
use crate::support::{Case, assert_close, random_shape};

fn points(seed: u64, name: &str, count: usize, dim: usize) -> Vec<f32> {
    Stream::new(seed, name, 0).normals(count * dim)
}

/// The largest of the absolute values.
fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// Algorithm 2 with a floor, as the official code has it.
fn plain() -> DriftSettings {
    DriftSettings { floor: 1e-6, ..DriftSettings::plain(0.5) }
}

#[test]
fn positives_and_negatives_in_each_others_place_turn_the_drift_around() {
    for seed in 0..100 {
        let dim = 1 + seed as usize % 9;
        let x = points(seed, "x", 6, dim);
        let (p, q) = (points(seed, "p", 5, dim), points(seed, "q", 8, dim));
        let forth = field(&x, &p, Negatives::Others(&q), dim, &plain()).unwrap();
        let back = field(&x, &q, Negatives::Others(&p), dim, &plain()).unwrap();
        let turned: Vec<f32> = back.iter().map(|value| -value).collect();
        assert!(largest(&forth) > 1e-4);
        assert_close(&forth, &turned, 1e-6);
    }
}

#[test]
fn equal_sets_do_not_move_anything() {
    for seed in 0..100 {
        let x = points(seed, "x", 7, 5);
        let settings = DriftSettings { mask_self_negatives: false, ..plain() };
        assert!(largest(&field(&x, &x, Negatives::Own, 5, &settings).unwrap()) < 1e-6);
        // With the mask a sample is drawn to the place where it is not repelled from.
        assert!(largest(&field(&x, &x, Negatives::Own, 5, &plain()).unwrap()) > 1e-3);
    }
}

#[test]
fn drifts_do_not_depend_on_where_the_origin_is() {
    for seed in 0..100 {
        let case = Case::random(seed, random_shape(seed));
        let dim = case.shape.dim;
        let offset = points(seed, "offset", 1, dim);
        let mut moved = case.clone();
        for set in [&mut moved.generated, &mut moved.positives, &mut moved.unconditional] {
            set.iter_mut().zip(offset.iter().cycle()).for_each(|(value, offset)| *value += 8.0 * offset);
        }
        let settings = DriftSettings { temperatures: vec![0.2], attraction: 1.5, ..DriftSettings::default() };
        let (here, there) = (case.outcome(&settings).unwrap(), moved.outcome(&settings).unwrap());
        assert_close(&[there.scale, there.loss], &[here.scale, here.loss], 1e-4);
        assert_close(&there.gradient, &here.gradient, 1e-3 * f64::from(largest(&here.gradient)).max(1e-3));
    }
}

#[test]
fn the_order_of_samples_is_irrelevant() {
    for seed in 0..100 {
        let case = Case::random(seed, random_shape(seed));
        let shape = case.shape;
        let len = shape.locations * shape.dim;
        // Within each group the images go the other way round.
        let turned = |set: &[f32], images: usize| -> Vec<f32> {
            let groups = set.chunks_exact((images * len).max(1));
            groups.flat_map(|group| group.chunks_exact(len).rev().flatten().copied()).collect()
        };
        let other = Case {
            generated: turned(&case.generated, shape.generated),
            positives: turned(&case.positives, shape.positives),
            unconditional: turned(&case.unconditional, shape.unconditional),
            ..case.clone()
        };
        let settings = DriftSettings { temperatures: vec![0.2, 0.1], ..DriftSettings::default() };
        let (expected, found) = (case.outcome(&settings).unwrap(), other.outcome(&settings).unwrap());
        assert_close(&[found.loss, found.scale], &[expected.loss, expected.scale], 1e-5);
        let back = turned(&found.gradient, shape.generated);
        assert_close(&back, &expected.gradient, 1e-4 * f64::from(largest(&expected.gradient)).max(1e-3));
    }
}

#[test]
fn the_gradient_is_that_of_the_squared_distance_to_the_frozen_goal() {
    let shape = KeyShape { groups: 2, locations: 2, generated: 3, positives: 4, unconditional: 2, dim: 3 };
    for seed in 0..5 {
        let case = Case::random(seed, shape);
        let settings = DriftSettings::default();
        let gradient = case.outcome(&settings).unwrap().gradient;
        let expected = objective(&case, &settings);
        let scale = expected.feature[0];
        let start: Vec<f64> = case.generated.iter().map(|&value| f64::from(value)).collect();
        let goal: Vec<f64> = start.iter().zip(&expected.force).map(|(g, f)| g / scale + f).collect();
        let loss = |features: &[f64]| {
            let squares = features.iter().zip(&goal).map(|(g, goal)| (g / scale - goal).powi(2));
            squares.sum::<f64>() / goal.len() as f64
        };
        assert_close(&[loss(&start)], &[expected.loss], 1e-9);
        for i in 0..start.len() {
            let [ahead, behind] = [1e-4, -1e-4].map(|step| {
                let mut features = start.clone();
                features[i] += step;
                loss(&features)
            });
            assert_close(&[gradient[i]], &[(ahead - behind) / 2e-4], 1e-4);
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let shape = KeyShape { groups: 4, locations: 9, generated: 6, positives: 20, unconditional: 3, dim: 33 };
    let case = Case::random(3, shape);
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let many = rayon::ThreadPoolBuilder::new().num_threads(7).build().unwrap();
    for products in [Products::F32, Products::Bf16] {
        let settings = DriftSettings { products, ..DriftSettings::default() };
        let expected = alone.install(|| case.outcome(&settings)).unwrap();
        for _ in 0..20 {
            assert_eq!(many.install(|| case.outcome(&settings)).unwrap(), expected);
        }
    }
}

#[test]
fn without_guidance_unconditional_samples_exert_no_force() {
    let shape = KeyShape { groups: 1, locations: 1, generated: 4, positives: 4, unconditional: 2, dim: 3 };
    let case = Case::random(1, shape);
    assert_eq!(case.weight, [0.0]);
    let moved = Case { unconditional: case.unconditional.iter().map(|value| value + 1e4).collect(), ..case.clone() };
    let far = moved.outcome(&DriftSettings::default()).unwrap();
    let none = Case { shape: KeyShape { unconditional: 0, ..shape }, unconditional: vec![], ..case };
    let none = none.outcome(&DriftSettings::default()).unwrap();
    // So far away they are not even in the denominators.
    assert_close(&[far.scale, far.loss], &[none.scale, none.loss], 1e-2);
}

#[test]
fn extreme_features_give_finite_numbers_or_errors() {
    let shape = KeyShape { groups: 2, locations: 2, generated: 3, positives: 2, unconditional: 2, dim: 4 };
    let case = Case::random(5, shape);
    let with = |change: &dyn Fn(f32) -> f32| Case {
        generated: case.generated.iter().map(|&v| change(v)).collect(),
        positives: case.positives.iter().map(|&v| change(v)).collect(),
        unconditional: case.unconditional.iter().map(|&v| change(v)).collect(),
        ..case.clone()
    };
    for scale in [0.0, 1e-30, 1e-8, 1e8, 1e14] {
        let scaled = with(&|value| value * scale);
        let rounded = DriftSettings { products: Products::Bf16, ..DriftSettings::default() };
        for settings in [DriftSettings::default(), DriftSettings::plain(0.5), rounded] {
            let outcome = scaled.outcome(&settings).unwrap();
            assert!(outcome.loss.is_finite() && outcome.gradient.iter().all(|value| value.is_finite()), "{scale}");
        }
    }
    for products in [Products::F32, Products::Bf16] {
        let settings = DriftSettings { products, ..DriftSettings::default() };
        let error = with(&|value| value * 1e20).outcome(&settings).unwrap_err();
        assert_eq!(
            error.to_string(),
            "feature key test: class group 0, location 0: generated features hold NaN, infinite or huge numbers"
        );
    }
}

#[test]
fn features_that_are_not_numbers_are_found_in_each_set() {
    let shape = KeyShape { groups: 2, locations: 2, generated: 3, positives: 2, unconditional: 2, dim: 4 };
    for bad in [f32::NAN, f32::INFINITY] {
        let mut cases = [Case::random(5, shape), Case::random(5, shape), Case::random(5, shape)];
        // The last number of each set: group 1, location 1.
        *cases[0].generated.last_mut().unwrap() = bad;
        *cases[1].unconditional.last_mut().unwrap() = bad;
        *cases[2].positives.last_mut().unwrap() = bad;
        for (case, set) in cases.iter().zip(["generated", "unconditional", "positive"]) {
            for products in [Products::F32, Products::Bf16] {
                let settings = DriftSettings { products, ..DriftSettings::default() };
                let error = case.outcome(&settings).unwrap_err().to_string();
                assert!(error.contains("class group 1, location 1") && error.contains("feature key test"), "{error}");
                assert!(error.contains(set), "{error}");
            }
        }
    }
}

#[test]
fn one_sample_alone_and_one_dimension_are_fine() {
    let shape = KeyShape { groups: 1, locations: 1, generated: 1, positives: 1, unconditional: 0, dim: 1 };
    let case = Case { generated: vec![0.0], positives: vec![2.0], ..Case::random(0, shape) };
    let gradient = case.outcome(&DriftSettings::default()).unwrap().gradient;
    // Only the floor lets it move at all, and it moves to its positive.
    assert!(gradient[0] < 0.0 && gradient[0].is_finite());
    let still = case.outcome(&DriftSettings { floor: 0.0, ..DriftSettings::default() }).unwrap();
    assert!(still.gradient[0].abs() < 1e-9 && still.loss < 1e-9, "{still:?}");
}

#[test]
fn empty_sets_are_errors() {
    let settings = DriftSettings::plain(0.5);
    assert!(field(&[], &[1.0], Negatives::Own, 1, &settings).is_err());
    assert!(field(&[1.0], &[], Negatives::Own, 1, &settings).is_err());
    assert!(field(&[1.0], &[1.0], Negatives::Others(&[]), 1, &settings).is_err());
    assert!(field(&[1.0], &[1.0], Negatives::Own, 0, &settings).is_err());
    assert!(field(&[1.0, 2.0, 3.0], &[1.0, 2.0], Negatives::Own, 2, &settings).is_err());
}
