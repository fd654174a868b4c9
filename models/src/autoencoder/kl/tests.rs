use candle_core::{Device, Tensor};
use drifting_spec::{ImageShape, Stream};

use super::super::open;
use super::*;
use crate::testing::{SMOOTH, flat, gradient_is_slope, random};

fn tiny_config() -> AutoencoderKlConfig {
    let mut config = AutoencoderKlConfig::stable_diffusion();
    (config.block_out_channels, config.layers_per_block, config.norm_num_groups) = (vec![8, 16], 1, 4);
    config
}

fn tiny() -> AutoencoderKl {
    AutoencoderKl::new(tiny_config(), Source::Seed(1), &Device::Cpu).unwrap()
}

/// A published folder with made-up weights, which `rename` may give other names.
fn folder(rename: impl Fn(&str) -> String) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config =
        r#"{"_class_name": "AutoencoderKL", "block_out_channels": [8, 16], "norm_num_groups": 4, "sample_size": 16}"#;
    std::fs::write(folder.path().join(CONFIG), config).unwrap();
    let shapes = AutoencoderKl::shapes(tiny_config()).unwrap();
    let tensors =
        shapes.into_iter().map(|(name, shape)| (rename(&name), (random(&name, &shape) * 0.2).unwrap())).collect();
    weights::write(&folder.path().join(WEIGHTS), &tensors, &BTreeMap::new()).unwrap();
    folder
}

#[test]
fn the_published_size_is_reached() {
    let shapes = AutoencoderKl::shapes(AutoencoderKlConfig::stable_diffusion()).unwrap();
    let elements: usize = shapes.values().map(|shape| shape.iter().product::<usize>()).sum();
    assert_eq!((shapes.len(), elements), (248, 83_653_863));
}

#[test]
fn gradients_reach_images_and_latents() {
    let model = tiny();
    gradient_is_slope(&[2, 3, 8, 8], SMOOTH, |images| {
        let Posterior { mean, logvar } = model.posterior(images)?;
        Ok(vec![mean, logvar])
    });
    gradient_is_slope(&[2, 4, 4, 4], SMOOTH, |latents| Ok(vec![model.decode(latents)?]));
}

#[test]
fn a_sample_depends_on_its_image_and_stream_only() {
    let model = tiny();
    let images = random("images", &[3, 3, 8, 8]);
    let mut streams: Vec<Stream> = (0..3).map(|i| Stream::new(1, "posterior", i)).collect();
    let all = model.sample(&images, &mut streams).unwrap();
    let last = model.sample(&images.narrow(0, 2, 1).unwrap(), &mut [Stream::new(1, "posterior", 2)]).unwrap();
    assert_eq!(flat(&all.get(2).unwrap()), flat(&last));
    let Posterior { mean, logvar } = model.posterior(&images.narrow(0, 2, 1).unwrap()).unwrap();
    let noise = Stream::new(1, "posterior", 2).normals(mean.elem_count());
    for (((found, mean), logvar), noise) in flat(&last).into_iter().zip(flat(&mean)).zip(flat(&logvar)).zip(noise) {
        let expected = 0.18215 * (mean + (0.5 * logvar).exp() * noise);
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
    assert!(model.sample(&images, &mut streams[..2]).is_err());
}

#[test]
fn latents_are_scaled_on_both_sides() {
    let mut config = tiny_config();
    (config.scaling_factor, config.shift_factor) = (0.5, Some(0.25));
    let model = AutoencoderKl::new(config, Source::Seed(1), &Device::Cpu).unwrap();
    let images = random("images", &[1, 3, 8, 8]);
    let (latents, mean) = (model.encode(&images).unwrap(), model.posterior(&images).unwrap().mean);
    for (latent, mean) in flat(&latents).into_iter().zip(flat(&mean)) {
        assert!((latent - (mean - 0.25) * 0.5).abs() < 1e-6);
    }
    let difference = (model.decode(&latents).unwrap() - model.decode_unscaled(&mean).unwrap()).unwrap();
    assert!(flat(&difference).iter().all(|value| value.abs() < 1e-4));
}

#[test]
fn shapes_are_those_of_the_results() {
    let model = tiny();
    let image = ImageShape { channels: 3, height: 8, width: 12 };
    let latent = model.latent_shape(image).unwrap();
    assert_eq!(model.image_shape(latent).unwrap(), image);
    let latents = model.encode(&random("images", &[1, 3, 8, 12])).unwrap();
    assert_eq!(latents.dims(), [1, latent.channels, latent.height, latent.width]);
    assert_eq!(model.decode(&latents).unwrap().dims(), [1, 3, 8, 12]);
    for wrong in [[1, 3, 9, 8], [1, 1, 8, 8], [1, 3, 0, 8]] {
        let images = Tensor::zeros(&wrong, candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(matches!(model.encode(&images), Err(Error::Input { .. })), "{wrong:?}");
    }
    assert!(model.decode(&random("latents", &[1, 3, 4, 4])).is_err());
}

#[test]
fn old_and_new_names_are_the_same_network() {
    let old = |name: &str| {
        let pairs = [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")];
        pairs
            .into_iter()
            .fold(name.to_owned(), |name, (new, old)| name.replace(&format!("0.{new}."), &format!("0.{old}.")))
    };
    let (now, before) = (folder(str::to_owned), folder(old));
    let images = random("images", &[1, 3, 8, 8]);
    let latents = |folder: &tempfile::TempDir| {
        let model = open(folder.path(), &Device::Cpu).unwrap();
        assert_eq!((model.name(), model.sha256().len()), ("autoencoder-kl", 64));
        flat(&model.encode(&images).unwrap())
    };
    assert_eq!(latents(&now), latents(&before));
}

#[test]
fn what_does_not_fit_is_named_with_its_file() {
    let folder = folder(str::to_owned);
    let message = |config: &str| {
        std::fs::write(folder.path().join(CONFIG), config).unwrap();
        open(folder.path(), &Device::Cpu).unwrap_err().to_string()
    };
    for (config, problem) in [
        (
            r#"{"block_out_channels": [8, 16], "norm_num_groups": 3}"#,
            "config.json: block_out_channels: 8 is no multiple of 3",
        ),
        (r#"{"block_out_channels": [8, 16], "norm_num_groups": 4, "act_fn": "relu"}"#, "config.json: act_fn: relu"),
        (r#"{"block_out_channels": []}"#, "config.json: block_out_channels: 0 stages"),
        (r#"{"block_out_channels": [8, 16], "norm_num_groups": 0}"#, "config.json: channels, layers and groups"),
        ("{}", "config.json: missing field `block_out_channels`"),
        (r#"{"block_out_channels": [8, 16, 16], "norm_num_groups": 4}"#, "model.safetensors: weights: tensor"),
    ] {
        let message = message(config);
        assert!(message.contains(problem), "{message}");
    }
    let empty = tempfile::tempdir().unwrap();
    let message = open(empty.path(), &Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("holds no autoencoder"), "{message}");
}
