//! Encoders behind a decoder, and ConvNeXt-V2 beside a masked autoencoder: gradients reach the latents.

use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use drifting_models::autoencoder::{self, Autoencoder};
use drifting_models::convnext::{ConvNext, ConvNextConfig};
use drifting_models::{Mae, nn};
use drifting_spec::{ImageShape, MaeConfig, Stream};
use drifting_train::features::{ConvNextEncoder, Decoded, Encoder, FeatureSpace, Gradients, MaeEncoder};

use crate::support::{golden, numbers};

#[test]
fn gradients_go_through_encoders_and_decoder() {
    let autoencoder: Arc<dyn Autoencoder> = autoencoder::open(&golden("vae"), &Device::Cpu).unwrap().into();
    let latent = ImageShape { channels: 4, height: 8, width: 8 };
    let image = autoencoder.image_shape(latent).unwrap();
    assert_eq!(image, ImageShape { channels: 3, height: 16, width: 16 });
    let mae = MaeConfig { blocks: [1, 2, 1, 1], norm_groups: 2, ..MaeConfig::new(image, 2, 4, 3) };
    let mae = Mae::frozen(mae, nn::Source::Seed(3), &Device::Cpu).unwrap();
    let config = r#"{"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 32], "image_size": 64}"#;
    let config: ConvNextConfig = serde_json::from_str(config).unwrap();
    let convnext = ConvNext::new(config, nn::Source::Seed(4), &Device::Cpu).unwrap();
    let encoders: Vec<Box<dyn Encoder>> =
        vec![Box::new(MaeEncoder::new(mae)), Box::new(ConvNextEncoder::new(convnext))];
    let decoded = Box::new(Decoded::new(autoencoder, encoders));
    let space = FeatureSpace::new(latent, vec![decoded], &["all".to_owned()]).unwrap();
    let convnext_keys = space.keys().iter().filter(|key| key.name().starts_with("convnext")).count();
    assert_eq!((convnext_keys, space.keys().last().unwrap().name()), (11, "global_std"));

    let images = Stream::new(1, "latents", 0).normals(2 * latent.len());
    let tensor = |images: &[f32]| Tensor::from_slice(images, (2, 4, 8, 8), &Device::Cpu).unwrap();
    let probe = |name: &str, count: usize| Stream::new(2, name, 0).normals(count);
    let value = |images: &[f32]| {
        let encoded = space.encode(&tensor(images)).unwrap();
        let views = encoded.views().unwrap();
        let dot = |(feature, probe): (&f32, f32)| f64::from(*feature) * f64::from(probe);
        let of_key = |key| {
            let features: std::borrow::Cow<'_, [f32]> = views.features(&space, key);
            features.iter().zip(probe(key.name(), features.len())).map(dot).sum::<f64>()
        };
        space.keys().iter().map(of_key).sum::<f64>()
    };
    let var = Var::from_tensor(&tensor(&images)).unwrap();
    let encoded = space.encode(&var).unwrap();
    let mut gradients = Gradients::new(&space);
    let views = encoded.views().unwrap();
    for key in space.keys() {
        gradients.add(&space, &views, key, probe(key.name(), 2 * key.locations() * key.dim()));
    }
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
