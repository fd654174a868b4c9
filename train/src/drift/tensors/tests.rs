use candle_core::{DType, Device, Tensor};
use drifting_spec::Stream;

use super::super::{
    Coupling, Distances, DriftError, DriftSettings, Features, Kernel, KeyBatch, KeyOutcome, KeyShape, Mean, Measured,
    Reduction, ScaleScope, TemperatureAggregation, WeightPlacement, drift_key, pool,
};
use super::*;

const SHAPE: KeyShape = KeyShape { groups: 3, locations: 4, generated: 5, positives: 6, unconditional: 2, dim: 7 };
const WEIGHTS: [f32; 3] = [0.5, 0.0, 2.0];

struct Numbers {
    generated: Vec<f32>,
    positives: Vec<f32>,
    unconditional: Vec<f32>,
}

impl Numbers {
    fn of(shape: KeyShape) -> Self {
        let numbers = |name, images: usize| {
            let count = shape.groups * images * shape.locations * shape.dim;
            Stream::new(1, name, 0).normals(count).iter().map(|number| number + 3.0).collect::<Vec<_>>()
        };
        Self {
            generated: numbers("generated", shape.generated),
            positives: numbers("positives", shape.positives),
            unconditional: numbers("unconditional", shape.unconditional),
        }
    }

    fn on_host(&self, shape: KeyShape) -> KeyBatch<'_> {
        let Self { generated, positives, unconditional } = self;
        let weight = &WEIGHTS[..shape.groups];
        KeyBatch::new("test", shape, Features { generated, positives, unconditional, weight }).unwrap()
    }

    fn on_device<'a>(&self, shape: KeyShape, targets: &'a TensorTargets<'a>) -> Result<TensorBatch<'a>, DriftError> {
        let tensor = |numbers: &[f32]| {
            let images = numbers.len() / (shape.locations * shape.dim);
            Tensor::from_slice(numbers, (images, shape.locations, shape.dim), &Device::Cpu).unwrap()
        };
        let real = tensor(&[&self.positives[..], &self.unconditional[..]].concat());
        TensorBatch::new("test", shape, &tensor(&self.generated), &real, targets)
    }
}

fn targets(shape: KeyShape) -> TensorTargets<'static> {
    TensorTargets::new(shape, &WEIGHTS[..shape.groups], &Device::Cpu).unwrap()
}

/// Loss, gradient, distances and squares by tensors.
fn by_tensors(numbers: &Numbers, shape: KeyShape, settings: &DriftSettings) -> (KeyOutcome, Vec<Mean>, Vec<Vec<Mean>>) {
    let targets = targets(shape);
    let measured = TensorMeasured::new(numbers.on_device(shape, &targets).unwrap(), settings).unwrap();
    let distances = measured.distance_means();
    let drifts = measured.drifts(&distances.pool(settings.scale_scope).unwrap()).unwrap();
    let squares = drifts.square_means();
    let found = drifts.outcome(&squares.pool(settings.scale_scope).unwrap(), shape.groups).unwrap();
    let gradient = found.gradient.flatten_all().unwrap().to_vec1().unwrap();
    let outcome = KeyOutcome { gradient, loss: found.loss.to_scalar().unwrap() };
    (outcome, distances.read().unwrap().concat(), squares.read().unwrap())
}

/// Settings that differ from the official ones in one thing each.
fn variants() -> Vec<DriftSettings> {
    let official = DriftSettings::default;
    let mmd =
        || DriftSettings { normalize_over_x: false, normalize_over_y: false, coupling: Coupling::Mmd, ..official() };
    vec![
        official(),
        DriftSettings { kernel: Kernel::Gaussian, ..official() },
        DriftSettings { distances: Distances::Expanded, ..official() },
        DriftSettings { normalize_over_y: false, ..official() },
        DriftSettings { normalize_over_x: false, ..official() },
        DriftSettings { normalize_over_x: false, normalize_over_y: false, ..official() },
        DriftSettings { sinkhorn_iterations: 4, ..official() },
        DriftSettings { sinkhorn_iterations: 4, coupling: Coupling::Split, ..official() },
        DriftSettings { floor: 1e-2, ..official() },
        DriftSettings { mask_self_negatives: false, ..official() },
        DriftSettings { mask: 0.5, ..official() },
        DriftSettings { coupling: Coupling::Separate, ..official() },
        DriftSettings { coupling: Coupling::Split, ..official() },
        mmd(),
        DriftSettings { kernel: Kernel::Gaussian, ..mmd() },
        DriftSettings { attraction: 1.5, repulsion: 0.5, ..official() },
        DriftSettings { weight_placement: WeightPlacement::Logits, ..official() },
        DriftSettings { weight_placement: WeightPlacement::Logits, coupling: Coupling::Split, ..official() },
        DriftSettings { normalize_features: false, ..official() },
        DriftSettings { scale_temperature_by_sqrt_channels: false, ..official() },
        DriftSettings { normalize_drift: false, ..official() },
        DriftSettings { scale_scope: ScaleScope::Group, ..official() },
        DriftSettings { reduction: Reduction::Sum, ..official() },
        DriftSettings { temperature_aggregation: TemperatureAggregation::SumLosses, ..official() },
    ]
}

#[track_caller]
fn close(what: &str, settings: &DriftSettings, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(0.0f64, |size, value| size.max(value.abs()));
    let bar = match settings {
        // Without the centre each program has its own rounding.
        DriftSettings { distances: Distances::Expanded, .. } => 1e-3,
        // Its logits are in the thousands, of which single precision knows four places.
        DriftSettings { kernel: Kernel::Gaussian, .. } => 1e-4,
        _ => 2e-5,
    };
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= bar * size, "{what}: {found} {expected} of {size} with {settings:?}");
    }
}

#[test]
fn every_setting_gives_the_numbers_of_the_processor() {
    agree(&[SHAPE, KeyShape { groups: 1, locations: 1, unconditional: 0, ..SHAPE }]);
}

#[cfg(feature = "emulator")]
#[test]
fn every_setting_gives_the_numbers_of_the_processor_by_kernels() {
    let more = KeyShape { groups: 2, locations: 2, generated: 37, positives: 34, unconditional: 5, dim: 45 };
    drifting_kernels::emulator::emulated(|| {
        agree(&[SHAPE, KeyShape { groups: 1, locations: 1, unconditional: 0, ..SHAPE }, more]);
    });
}

fn agree(shapes: &[KeyShape]) {
    let wide = |numbers: &[f32]| numbers.iter().map(|&number| f64::from(number)).collect::<Vec<_>>();
    for &shape in shapes {
        let numbers = Numbers::of(shape);
        for settings in variants() {
            let (found, distances, squares) = by_tensors(&numbers, shape, &settings);
            let batch = numbers.on_host(shape);
            let (expected, _) = drift_key(&batch, &settings).unwrap();
            let host = Measured::new(&batch, &settings).unwrap();
            let host_drifts = host.drifts(&pool(host.distance_means(), settings.scale_scope)).unwrap();
            let values = |means: &[Mean]| means.iter().map(Mean::value).collect::<Vec<_>>();
            let all = |means: &[Vec<Mean>]| means.iter().flat_map(|means| values(means)).collect::<Vec<_>>();
            close("distances", &settings, &values(&distances), &values(host.distance_means()));
            for (found, expected) in squares.iter().zip(host_drifts.square_means()) {
                close("squares", &settings, &values(found), &values(expected));
            }
            assert_eq!(all(&squares).len(), settings.temperatures.len() * shape.groups);
            close("loss", &settings, &[found.loss], &[expected.loss]);
            close("gradient", &settings, &wide(&found.gradient), &wide(&expected.gradient));
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let mut numbers = Numbers::of(SHAPE);
    let settings = DriftSettings::default();
    let place = (SHAPE.positives + 1) * SHAPE.locations * SHAPE.dim + 2 * SHAPE.dim + 3;
    numbers.positives[place] = f32::NAN;
    let all = targets(SHAPE);
    let measured = TensorMeasured::new(numbers.on_device(SHAPE, &all).unwrap(), &settings).unwrap();
    let means = measured.distance_means().read().unwrap().concat();
    let error = measured.check(&means).unwrap_err().to_string();
    assert!(error.contains("feature key test: class group 1, location 2: positive features hold NaN"), "{error}");
    let other = KeyShape { dim: 8, ..SHAPE };
    let tensor = Tensor::zeros((15, 4, 7), DType::F32, &Device::Cpu).unwrap();
    let error = TensorBatch::new("test", other, &tensor, &tensor, &all).unwrap_err().to_string();
    assert!(error.contains("generated features [15, 4, 7], expected [15, 4, 8]"), "{error}");
    let none = KeyShape { positives: 0, ..SHAPE };
    let error = TensorBatch::new("test", none, &tensor, &tensor, &all).unwrap_err().to_string();
    assert!(error.contains("needs at least one of its positives"), "{error}");
    let more = KeyShape { positives: 7, ..SHAPE };
    let error = Numbers::of(more).on_device(more, &all).unwrap_err().to_string();
    assert!(error.contains("targets: 14") && error.contains("targets: 13"), "{error}");
    let measured = TensorMeasured::new(Numbers::of(SHAPE).on_device(SHAPE, &all).unwrap(), &settings).unwrap();
    let means = measured.distance_means().read().unwrap().concat();
    measured.check(&means).unwrap();
    let one = Tensor::ones(1, DType::F64, &Device::Cpu).unwrap();
    assert!(measured.drifts(&one).unwrap_err().to_string().contains("1 mean distances for 3 class groups"));
}
