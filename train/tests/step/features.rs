//! Every feature key of the authors' encoder.

use candle_core::{Device, Tensor, Var};
use drifting_spec::Stream;
use drifting_train::features::{FeatureKey, Gradients};

use crate::support::{LATENT, channels_first, difference, io, numbers, space};

#[test]
fn golden_features() {
    let (space, io) = (space(), io("mae"));
    let images = channels_first(&io["input"]);
    let encoded = space.encode(&images).unwrap();
    let views = encoded.views().unwrap();
    let names: Vec<_> = space.keys().iter().map(|key| key.name()).collect();
    let expected: Vec<_> = io.keys().filter_map(|name| name.strip_prefix("feature.")?.strip_suffix(".sum")).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    let mut worst = 0.0f64;
    for key in space.keys() {
        let name = key.name();
        let expected = |what: &str| numbers(&io[&format!("feature.{name}.{what}")]);
        assert_eq!(expected("shape")[1..], [key.locations() as f64, key.dim() as f64], "{name}");
        let features = views.features(&space, key);
        let (mut head, mut sums, mut squares) = (Vec::new(), Vec::new(), Vec::new());
        for image in features.chunks(key.locations() * key.dim()) {
            // The image itself lies in another order here.
            let first =
                if name == "global" { vec![0, 1024, 2048, 3072, 1, 1025, 2049, 3073] } else { (0..8).collect() };
            head.extend(first.into_iter().take(image.len()).map(|i: usize| f64::from(image[i])));
            sums.push(image.iter().map(|&value| f64::from(value)).sum());
            squares.push(image.iter().map(|&value| f64::from(value).powi(2)).sum());
        }
        // A sum of numbers of both signs is held against the size of its terms.
        let size = |squares: &[f64]| (squares[0] * (key.locations() * key.dim()) as f64).sqrt();
        let of_sum = sums.iter().zip(expected("sum")).map(|(a, b): (&f64, f64)| (a - b).abs()).fold(0.0, f64::max);
        let found = [
            difference(name, &head, &expected("head")),
            of_sum / size(&squares),
            difference(name, &squares, &expected("sumsq")),
        ];
        let found = found.into_iter().fold(0.0, f64::max);
        assert!(found <= 1e-4, "{name}: relative difference {found:.2e}");
        worst = worst.max(found);
    }
    println!("golden features: {} keys, largest relative difference {worst:.2e}", names.len());
}

/// What the training step does with gradients on features, against differences of the features themselves.
#[test]
fn gradients_go_through_the_encoder() {
    let space = space();
    let images = Stream::new(1, "images", 0).normals(2 * LATENT.len());
    let tensor = |images: &[f32]| Tensor::from_slice(images, (2, 4, 32, 32), &Device::Cpu).unwrap();
    let probe = |key: &FeatureKey| Stream::new(2, key.name(), 0).normals(2 * key.locations() * key.dim());
    let value = |images: &[f32]| {
        let encoded = space.encode(&tensor(images)).unwrap();
        let views = encoded.views().unwrap();
        let of_key = |key: &FeatureKey| {
            let features = views.features(&space, key);
            let terms = features.iter().zip(probe(key)).map(|(&feature, probe)| f64::from(feature) * f64::from(probe));
            terms.sum::<f64>()
        };
        space.keys().iter().map(of_key).sum::<f64>()
    };
    let var = Var::from_tensor(&tensor(&images)).unwrap();
    let encoded = space.encode(&var).unwrap();
    let mut gradients = Gradients::new(&space);
    let views = encoded.views().unwrap();
    space.keys().iter().for_each(|key| gradients.add(&space, &views, key, probe(key)));
    drop(views);
    let store = gradients.seed(&encoded).unwrap().unwrap().backward().unwrap();
    let gradient = numbers(store.get(&var).unwrap());
    // Along the gradient, where the kinks of the networks weigh least.
    let size = (gradient.iter().map(|g| g * g).sum::<f64>() / gradient.len() as f64).sqrt();
    let moved =
        |step: f64| -> Vec<f32> { images.iter().zip(&gradient).map(|(x, g)| x + (step * g / size) as f32).collect() };
    let slope = (value(&moved(3e-4)) - value(&moved(-3e-4))) / 6e-4;
    let expected = gradient.iter().map(|g| g * g / size).sum::<f64>();
    assert!((slope / expected - 1.0).abs() < 2e-2, "{slope} {expected}");
}
