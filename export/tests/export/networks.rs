//! Decoders, encoders and latent models as files: against the network, and against the golden numbers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use drifting_export::{
    ExportSettings, ImageModel, Network, Report, model, network_model, network_reference, verify, verify_network,
};
use drifting_models::autoencoder::Decoder;
use drifting_models::nn::Source;
use drifting_models::weights::{by_rule, mae_from_tree, read};
use drifting_models::{Generator, Mae};
use drifting_spec::{
    DecoderConfig, ImageShape, KlDecoder, MaeBlock, MaeConfig, Manifest, NetworkConfig, NetworkManifest, Pixels,
    Provenance,
};

use crate::settings::{self, random};

/// A decoder of two stages for latents of four channels.
fn kl() -> KlDecoder {
    KlDecoder {
        image_channels: 3,
        latent_channels: 4,
        widths: vec![8, 16],
        blocks: 2,
        groups: 4,
        scale: 0.18215,
        shift: 0.0,
        post_quant_conv: true,
        attention: true,
    }
}

const LATENT: ImageShape = ImageShape { channels: 4, height: 3, width: 5 };

/// Decoders with parameters that are all at work, and the latents that they read.
pub(crate) fn decoders() -> Vec<(&'static str, Decoder, ImageShape)> {
    let random = |config: DecoderConfig| {
        let shapes = Decoder::shapes(&config).unwrap();
        Decoder::new(config, shapes.into_iter().map(|(name, dims)| random(name, &dims)).collect()).unwrap()
    };
    let with = |change: fn(&mut KlDecoder)| {
        let mut config = kl();
        change(&mut config);
        random(DecoderConfig::Kl(config))
    };
    vec![
        ("kl", with(|_| ()), LATENT),
        ("kl without attention", with(|c| c.attention = false), LATENT),
        ("kl without quantisation", with(|c| c.post_quant_conv = false), LATENT),
        ("kl with shift", with(|c| (c.shift, c.scale) = (0.3, 1.5)), LATENT),
        ("kl of one stage and group", with(|c| (c.widths, c.groups, c.image_channels) = (vec![8], 1, 1)), LATENT),
        ("taef2", random(DecoderConfig::Taef2), ImageShape { channels: 32, height: 2, width: 3 }),
    ]
}

/// Encoders in every setting that reaches the encoder.
pub(crate) fn encoders() -> Vec<(&'static str, Mae)> {
    let image = ImageShape { channels: 3, height: 12, width: 20 };
    let tiny = MaeConfig { blocks: [1, 2, 2, 3], norm_groups: 4, ..MaeConfig::new(image, 2, 8, 3) };
    let with = |change: fn(&mut MaeConfig)| {
        let mut config = tiny.clone();
        change(&mut config);
        mae(config)
    };
    vec![
        ("mae", with(|_| ())),
        ("mae of bottlenecks", with(|c| c.block = MaeBlock::Bottleneck)),
        ("mae without stage norms", with(|c| c.stage_norm = false)),
        ("mae without stem tap", with(|c| c.stem_tap = false)),
        ("mae without patches", with(|c| (c.input_patch, c.image.width) = (1, 13))),
    ]
}

fn mae(config: MaeConfig) -> Mae {
    let zeros = Mae::new(config.clone(), Source::Seed(0), &Device::Cpu).unwrap().params().tensors();
    let tensors = zeros.into_iter().map(|(name, tensor)| random(name, tensor.dims())).collect();
    Mae::new(config, Source::Tensors(tensors), &Device::Cpu).unwrap()
}

/// A tiny generator of latents for `decoder`.
fn generator(latent: ImageShape) -> Generator {
    settings::generator(drifting_spec::GeneratorConfig { image: latent, patch: 1, ..settings::tiny() })
}

fn network_bytes(network: Network<'_>) -> Vec<u8> {
    network_bytes_with(network, &ExportSettings::default())
}

pub(crate) fn network_bytes_with(network: Network<'_>, settings: &ExportSettings) -> Vec<u8> {
    let manifest = NetworkManifest::new("tiny".into(), network.config(), Provenance::default());
    network_model(&manifest, &network.tensors(), settings).unwrap()
}

/// Latent models and one of pixels, with the name of their test.
pub(crate) fn image_models(test: &mut dyn FnMut(String, ImageModel<'_>, Manifest)) {
    for (name, decoder, latent) in decoders().into_iter().filter(|(name, ..)| matches!(*name, "kl" | "taef2")) {
        let generator = generator(latent);
        let model = ImageModel { generator: &generator, decoder: Some(&decoder) };
        for pixels in [Pixels::Float, Pixels::Uint8] {
            let manifest = model.manifest(settings::manifest(generator.config().clone()), pixels);
            test(format!("generator and {name} in {pixels}"), model, manifest);
        }
    }
    let generator = settings::generator(settings::tiny());
    let model = ImageModel::from(&generator);
    test("generator in uint8".into(), model, model.manifest(settings::manifest(settings::tiny()), Pixels::Uint8));
}

fn largest(report: &Report) -> f32 {
    let batches = report.runners.iter().flat_map(|runner| &runner.batches);
    batches.map(|batch| batch.max_abs_diff.unwrap()).fold(0.0, f32::max)
}

#[test]
fn every_decoder_gives_the_networks_images() {
    for (name, decoder, latent) in decoders() {
        let network = Network::Decoder { decoder: &decoder, latent, pixels: Pixels::Float };
        let report = verify_network(&network_bytes(network), network, &mut []).unwrap();
        assert!(report.passed(), "{name}: {:?}", report.failures);
        assert!(report.output.std > 0.01, "{name}: the image is nearly constant: {:?}", report.output);
        assert_eq!(report.parameters, decoder.tensors().len());
        assert!(largest(&report) < 2e-5, "{name}: {:?}", report.runners);
    }
}

#[test]
fn every_encoder_gives_the_networks_maps() {
    for (name, mae) in encoders() {
        let network = Network::Encoder(&mae);
        let report = verify_network(&network_bytes(network), network, &mut []).unwrap();
        assert!(report.passed(), "{name}: {:?}", report.failures);
        assert!(largest(&report) < 2e-5, "{name}: {:?}", report.runners);
        let maps = mae.map_shapes();
        let reference = network_reference(network).unwrap();
        for (map, dims) in &maps {
            assert_eq!(reference[map].dims()[1..], *dims, "{name}: {map}");
        }
        assert_eq!(reference.len(), maps.len() + 1, "{name}: all maps and the input");
    }
}

#[test]
fn a_latent_model_makes_images_in_numbers_and_in_levels() {
    image_models(&mut |name, network, manifest| {
        let bytes = model(&manifest, &network.tensors(), &ExportSettings::default()).unwrap();
        assert_eq!(drifting_export::manifest(&bytes).unwrap(), manifest);
        let report = verify(&bytes, network, &mut []).unwrap();
        assert!(report.passed(), "{name}: {:?}", report.failures);
        match manifest.pixels {
            Pixels::Float => assert!(largest(&report) < 2e-5, "{name}: {:?}", report.runners),
            Pixels::Uint8 => {
                let levels = [report.output.min, report.output.max];
                assert!(levels.iter().all(|level| level.fract() == 0.0) && levels[1] > levels[0], "{name}: {levels:?}");
            }
        }
    });
}

#[test]
fn a_decoder_that_is_not_the_manifests_is_refused() {
    let (_, kl, latent) = decoders().swap_remove(0);
    let generator = generator(latent);
    let with = ImageModel { generator: &generator, decoder: Some(&kl) };
    let manifest = with.manifest(settings::manifest(generator.config().clone()), Pixels::Float);
    let bytes = model(&manifest, &with.tensors(), &ExportSettings::default()).unwrap();
    assert!(matches!(verify(&bytes, &generator, &mut []), Err(drifting_export::Error::OtherNetwork { .. })));

    let mut weights = with.tensors();
    let name = "decoder.decoder.conv_out.bias";
    weights.insert(name.into(), (&weights[name] + 1.0).unwrap());
    let report = verify(&model(&manifest, &weights, &ExportSettings::default()).unwrap(), with, &mut []).unwrap();
    assert!(report.failures.join("\n").contains("weights: decoder.decoder.conv_out.bias has 3 other numbers"));

    let mut manifest = manifest;
    manifest.generator.image.channels = 3;
    let error = model(&manifest, &weights, &ExportSettings::default()).unwrap_err().to_string();
    assert!(error.contains("latents of 3 channels, the decoder reads 4"), "{error}");
}

/// The folder that DRIFTING_GOLDEN names, else the project's own copy.
fn golden(name: &str) -> PathBuf {
    let own = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    std::env::var_os("DRIFTING_GOLDEN").map_or_else(own, PathBuf::from).join(name)
}

fn io(name: &str) -> BTreeMap<String, Tensor> {
    read(&golden(name).join("io.safetensors"), &Device::Cpu).unwrap().tensors
}

/// The outputs of a file in candle-onnx.
fn evaluate(bytes: &[u8], input: (&str, &Tensor)) -> BTreeMap<String, Tensor> {
    use prost::Message;
    let model = candle_onnx::onnx::ModelProto::decode(bytes).unwrap();
    let inputs = [(input.0.to_owned(), input.1.clone())].into_iter().collect();
    candle_onnx::simple_eval(&model, inputs).unwrap().into_iter().collect()
}

fn difference(found: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(found.dims(), expected.dims());
    (found - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

/// The file gives the numbers of the published programs themselves.
#[test]
fn golden_decoders_and_encoder_are_the_same_as_files() {
    let vae = Decoder::open(&golden("vae")).unwrap();
    let DecoderConfig::Kl(config) = vae.config() else { panic!("an AutoencoderKL") };
    let reference = io("vae");
    let latents = (&reference["latent"] * config.scale).unwrap();
    let latent = ImageShape { channels: 4, height: 32, width: 32 };
    let bytes = network_bytes(Network::Decoder { decoder: &vae, latent, pixels: Pixels::Float });
    let image = &evaluate(&bytes, ("latent", &latents))["image"];
    assert!(difference(image, &reference["decoded"]) < 1e-4, "vae: {}", difference(image, &reference["decoded"]));

    let taef2 = Decoder::open(&golden("../weights/taef2_dec.safetensors")).unwrap();
    let reference = io("taef2");
    let latent = ImageShape { channels: 32, height: 8, width: 8 };
    let bytes = network_bytes(Network::Decoder { decoder: &taef2, latent, pixels: Pixels::Float });
    let image = evaluate(&bytes, ("latent", &reference["latent"]))["image"].affine(0.5, 0.5).unwrap();
    assert!(difference(&image, &reference["decoded"]) < 1e-4, "taef2: {}", difference(&image, &reference["decoded"]));

    let shapes: BTreeMap<String, Vec<usize>> =
        serde_json::from_slice(&std::fs::read(golden("mae").join("tensors.json")).unwrap()).unwrap();
    let tree = shapes.iter().map(|(name, shape)| (name.clone(), by_rule(name, shape).unwrap())).collect();
    let image = ImageShape { channels: 4, height: 32, width: 32 };
    let config = MaeConfig { blocks: [1, 2, 2, 1], ..MaeConfig::new(image, 1, 32, 10) };
    let tensors = mae_from_tree(&config, tree).unwrap();
    let mae = Mae::new(config, Source::Tensors(tensors), &Device::Cpu).unwrap();
    let reference = io("mae");
    let input = reference["input"].permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
    let maps = evaluate(&network_bytes(Network::Encoder(&mae)), ("image", &input));
    for name in ["conv1", "layer1", "layer2", "layer2_blk2", "layer3", "layer3_blk2", "layer4"] {
        let expected = &reference[&format!("feature.{name}.head")].flatten_all().unwrap();
        let heads = maps[name].flatten_from(1).unwrap().narrow(1, 0, 8).unwrap().flatten_all().unwrap();
        let size = expected.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(difference(&heads, expected) < 1e-4 * size.max(1.0), "{name}");
    }
}

#[test]
fn a_network_says_what_it_is() {
    let (_, decoder, latent) = decoders().swap_remove(5);
    let network = Network::Decoder { decoder: &decoder, latent, pixels: Pixels::Uint8 };
    let bytes = network_bytes(network);
    let report = verify_network(&bytes, network, &mut []).unwrap();
    assert!(report.passed() && report.output.max <= 255.0 && report.output.min >= 0.0, "{report:?}");
    let manifest = drifting_export::network_manifest(&bytes).unwrap();
    assert!(matches!(manifest.network, NetworkConfig::Decoder { pixels: Pixels::Uint8, .. }));
    assert!(drifting_export::manifest(&bytes).unwrap_err().to_string().contains("drifting.manifest"));
}
