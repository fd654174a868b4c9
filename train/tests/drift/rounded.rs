//! The objective with products of bfloat16 numbers, beside the exact one.

use drifting_train::drift::{Distances, DriftSettings, KeyShape, Products};

use crate::support::{Case, random_shape};

fn exact() -> DriftSettings {
    DriftSettings::default()
}

fn rounded() -> DriftSettings {
    DriftSettings { products: Products::Bf16, ..exact() }
}

/// Length of the difference of two gradients by that of the second.
fn apart(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>();
    let difference = squares(&mut found.iter().zip(expected).map(|(found, expected)| found - expected));
    (difference / squares(&mut expected.iter().copied()).max(1e-30)).sqrt()
}

/// Worst over a few seeds: gradient, loss and mean distance against the exact ones.
fn worst(shape: impl Fn(u64) -> KeyShape, seeds: u64) -> [f64; 3] {
    let mut worst = [0.0f64; 3];
    for seed in 0..seeds {
        let case = Case::random(seed, shape(seed));
        let (found, expected) = (case.outcome(&rounded()).unwrap(), case.outcome(&exact()).unwrap());
        let relative = |found: f64, expected: f64| (found / expected - 1.0).abs();
        let found = [
            apart(&found.gradient, &expected.gradient),
            relative(found.loss, expected.loss),
            relative(found.scale, expected.scale),
        ];
        worst.iter_mut().zip(found).for_each(|(worst, found)| *worst = found.max(*worst));
    }
    worst
}

/// Roundings of independent numbers cancel, so longer vectors are nearer.
#[test]
fn rounded_products_are_near_the_exact_ones() {
    for (dim, bars) in
        [(3, [2e-2, 2e-3, 2e-4]), (32, [8e-3, 1e-3, 1e-4]), (256, [4e-3, 5e-4, 5e-5]), (1024, [3e-3, 2e-4, 3e-5])]
    {
        let shape = KeyShape { groups: 2, locations: 2, generated: 24, positives: 30, unconditional: 5, dim };
        let found = worst(|_| shape, 3);
        assert!(found.iter().zip(bars).all(|(&found, bar)| found < bar), "{dim}: {found:?}, bars {bars:?}");
        // They are rounded.
        assert!(found[0] > 1e-4, "{dim}: {found:?}");
    }
    let found = worst(random_shape, 200);
    assert!(found.iter().zip([8e-2, 4e-2, 5e-3]).all(|(&found, bar)| found < bar), "{found:?}");
}

#[test]
fn where_the_origin_is_does_not_matter_to_what_is_rounded() {
    let shape = KeyShape { groups: 2, locations: 2, generated: 24, positives: 30, unconditional: 5, dim: 70 };
    let case = Case::random(1, shape);
    let moved = |values: &[f32]| values.iter().map(|value| value + 30.0).collect::<Vec<_>>();
    let far = Case {
        generated: moved(&case.generated),
        positives: moved(&case.positives),
        unconditional: moved(&case.unconditional),
        ..case.clone()
    };
    let [far, near] = [far, case].map(|case| case.outcome(&rounded()).unwrap().gradient);
    assert!(apart(&far, &near) < 1e-3, "{:.1e}", apart(&far, &near));
}

#[test]
fn official_formula_and_rounded_products_exclude_each_other() {
    let both = DriftSettings { distances: Distances::Expanded, ..rounded() };
    let message = both.validate().unwrap_err().to_string();
    assert!(message.contains("drift.products") && message.contains("distances = \"accurate\""), "{message}");
}
