//! Gradients, maps and masking of small networks.

use std::collections::BTreeSet;

use candle_core::{DType, Device, Tensor, Var};
use drifting_spec::{ImageShape, MaeBlock, MaeConfig, Stream};

use super::*;

fn tiny() -> MaeConfig {
    let image = ImageShape { channels: 2, height: 9, width: 12 };
    MaeConfig { blocks: [1, 2, 2, 1], norm_groups: 4, ..MaeConfig::new(image, 1, 8, 3) }
}

fn variants() -> Vec<MaeConfig> {
    let patched = MaeConfig { image: ImageShape { channels: 1, height: 28, width: 28 }, input_patch: 2, ..tiny() };
    vec![
        tiny(),
        patched,
        MaeConfig { block: MaeBlock::Bottleneck, ..tiny() },
        MaeConfig { stage_norm: false, stem_tap: false, up_blocks: 3, ..tiny() },
    ]
}

fn random(name: &str, shape: &[usize]) -> Tensor {
    Tensor::from_vec(Stream::new(3, name, 0).normals(shape.iter().product()), shape, &Device::Cpu).unwrap()
}

fn images(config: &MaeConfig, n: usize) -> Tensor {
    random("images", &[n, config.image.channels, config.image.height, config.image.width])
}

fn mask(config: &MaeConfig, n: usize) -> Tensor {
    let (rows, columns) = config.grid();
    random("mask", &[n, rows, columns]).ge(0.0).unwrap().to_dtype(DType::F32).unwrap()
}

fn sum_of_squares(tensor: &Tensor) -> f32 {
    tensor.sqr().unwrap().sum_all().unwrap().to_scalar().unwrap()
}

#[test]
fn every_parameter_gets_a_gradient() {
    for config in variants() {
        let mae = Mae::new(config.clone(), Source::Seed(1), &Device::Cpu).unwrap();
        let mask = mask(&config, 3);
        let found = mae.reconstruct(&images(&config, 3), &mask).unwrap();
        let of_classes = found.logits.sqr().unwrap().sum_all().unwrap();
        let loss = (found.loss(&mask).unwrap().sum_all() + of_classes).unwrap();
        let gradients = loss.backward().unwrap();
        for (name, var) in mae.params().iter() {
            let size = sum_of_squares(gradients.get(var).unwrap_or_else(|| panic!("{name} has no gradient")));
            assert!(size.is_finite() && size > 0.0, "{name}: {size}");
        }
    }
}

#[test]
fn a_frozen_encoder_hands_gradients_to_its_input_alone() {
    for config in variants() {
        let trained = Mae::new(config.clone(), Source::Seed(1), &Device::Cpu).unwrap();
        let source = Source::Tensors(trained.params().tensors());
        let frozen = Mae::frozen(config.clone(), source, &Device::Cpu).unwrap();
        assert!(frozen.params().is_empty());
        let input = Var::from_tensor(&images(&config, 2)).unwrap();
        let gradient = |mae: &Mae| {
            let maps = mae.encode(&input).unwrap();
            let total = maps.iter().map(|map| map.map.sqr().unwrap().sum_all().unwrap());
            let gradients = total.reduce(|a, b| (a + b).unwrap()).unwrap().backward().unwrap();
            let of_weights = mae.params().iter().filter(|(_, var)| gradients.get(var).is_some()).count();
            (gradients.get(&input).unwrap().clone(), of_weights)
        };
        let ((through, none), (expected, some)) = (gradient(&frozen), gradient(&trained));
        assert_eq!(none, 0);
        assert!(some > 30);
        assert_eq!(sum_of_squares(&(through - &expected).unwrap()), 0.0);
        assert!(sum_of_squares(&expected) > 0.0);
    }
}

#[test]
fn gradients_are_slopes() {
    let config = tiny();
    let mae = Mae::frozen(config.clone(), Source::Seed(1), &Device::Cpu).unwrap();
    let input = Var::from_tensor(&images(&config, 1)).unwrap();
    let value = |x: &Tensor| {
        let maps = mae.encode(x).unwrap();
        let probe = |map: &FeatureMap| (&map.map * random(&map.name, map.map.dims())).unwrap().mean_all().unwrap();
        maps.iter().map(probe).reduce(|a, b| (a + b).unwrap()).unwrap()
    };
    let gradient = value(&input).backward().unwrap().get(&input).unwrap().clone();
    let direction = random("direction", input.dims());
    let at = |step: f64| {
        let x = (input.as_tensor() + (&direction * step).unwrap()).unwrap();
        f64::from(value(&x).to_scalar::<f32>().unwrap())
    };
    let expected = (at(2e-4) - at(-2e-4)) / 4e-4;
    let found = (gradient * direction).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
    assert!((f64::from(found) - expected).abs() < 2e-2 * expected.abs().max(0.1), "{found} {expected}");
}

#[test]
fn maps_have_the_announced_names_and_shapes() {
    for config in variants() {
        let mae = Mae::frozen(config.clone(), Source::Seed(1), &Device::Cpu).unwrap();
        let maps = mae.encode(&images(&config, 2)).unwrap();
        let found: Vec<_> = maps.iter().map(|map| (map.name.clone(), map.map.dims().to_vec())).collect();
        let announced = mae.map_shapes().into_iter().map(|(name, [h, w, c])| (name, vec![2, h, w, c]));
        assert_eq!(found, announced.collect::<Vec<_>>());
    }
    let names = |config: &MaeConfig| mae_map_shapes(config).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let official = names(&MaeConfig::published("mae_latent_256").unwrap());
    let expected = "x conv1 layer1 layer1_blk2 layer2 layer2_blk2 layer2_blk4 layer3 layer3_blk2 layer3_blk4 \
                    layer3_blk6 layer4 layer4_blk2";
    assert_eq!(official.join(" "), expected);
    let seed = MaeConfig { stage_norm: false, stem_tap: false, ..MaeConfig::published("mae_latent_256").unwrap() };
    let missing: BTreeSet<_> = official.iter().cloned().collect::<BTreeSet<_>>();
    let left: BTreeSet<_> = names(&seed).into_iter().collect();
    let dropped: Vec<_> = missing.difference(&left).cloned().collect();
    assert_eq!(dropped, ["conv1", "layer2_blk4", "layer3_blk6"]);
}

#[test]
fn masked_positions_are_not_seen_and_alone_are_judged() {
    let config = tiny();
    let mae = Mae::frozen(config.clone(), Source::Seed(1), &Device::Cpu).unwrap();
    let (x, mask) = (images(&config, 2), mask(&config, 2));
    let noise = random("noise", x.dims()).broadcast_mul(&mask.unsqueeze(1).unwrap()).unwrap();
    let (found, other) = (mae.reconstruct(&x, &mask).unwrap(), mae.reconstruct(&(&x + noise).unwrap(), &mask).unwrap());
    assert_eq!(sum_of_squares(&(&found.recon - &other.recon).unwrap()), 0.0);
    assert!(sum_of_squares(&(found.loss(&mask).unwrap() - other.loss(&mask).unwrap()).unwrap()) > 0.0);
    let error = (&found.recon - &found.target).unwrap().sqr().unwrap().sum(3).unwrap();
    let (error, flags) = (error.get(1).unwrap().flatten_all().unwrap(), mask.get(1).unwrap().flatten_all().unwrap());
    let (error, flags) = (error.to_vec1::<f32>().unwrap(), flags.to_vec1::<f32>().unwrap());
    let judged: Vec<f32> =
        error.iter().zip(&flags).filter(|(_, flag)| **flag == 1.0).map(|(error, _)| *error).collect();
    let expected = judged.iter().sum::<f32>() / judged.len() as f32;
    let loss = found.loss(&mask).unwrap().to_vec1::<f32>().unwrap()[1];
    assert!((loss - expected).abs() < 1e-5 * expected, "{loss} {expected}");
}

#[test]
fn wrong_shapes_are_refused() {
    let config = tiny();
    let mae = Mae::frozen(config.clone(), Source::Seed(1), &Device::Cpu).unwrap();
    let transposed = images(&config, 2).transpose(2, 3).unwrap();
    assert!(mae.encode(&transposed).unwrap_err().to_string().contains("expected [2, 2, 9, 12]"));
    let error = mae.reconstruct(&images(&config, 2), &mask(&config, 1)).unwrap_err();
    assert!(error.to_string().contains("mask of shape [1, 9, 12]"));
}

#[test]
fn parts_have_their_published_sizes() {
    let millions = |name: &str, part: &str| {
        let shapes = mae_parameter_shapes(&MaeConfig::published(name).unwrap()).unwrap();
        assert_eq!(shapes.len(), 155);
        let sizes = shapes.iter().filter(|(name, _)| name.starts_with(part));
        sizes.map(|(_, shape)| shape.iter().product::<usize>()).sum::<usize>() as f64 / 1e6
    };
    for (name, part, expected, digit) in [
        ("mae_latent_256", "encoder.", 340.22, 0.01),
        ("mae_latent_256", "decoder.", 89.09, 0.01),
        ("mae_latent_256", "fc.", 2.05, 0.01),
        ("mae_latent_640", "encoder.", 2126.0, 0.1),
        ("mae_latent_640", "decoder.", 556.7, 0.1),
    ] {
        let found = millions(name, part);
        assert!((found - expected).abs() <= 0.5001 * digit, "{name} {part}: {found}");
    }
}
