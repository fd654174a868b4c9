//! A published artefact, imported and run, against the images of the program that made it.

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use drifting_models::weights::{import_generator, read};
use drifting_models::{Generator, nn};

/// The folder that DRIFTING_GOLDEN names, else the project's own copy of its small files.
fn golden(name: &str) -> PathBuf {
    let own = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    std::env::var_os("DRIFTING_GOLDEN").map_or_else(own, PathBuf::from).join(name)
}

/// `[batch, row, column, channel]` to `[batch, channel, row, column]`.
fn channels_first(images: &Tensor) -> Tensor {
    images.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap()
}

#[test]
fn golden_generator_makes_the_same_images() {
    let folder = golden("generator");
    let imported = import_generator(&folder).unwrap();
    assert_eq!((imported.step, imported.ema_decay), (7, Some(0.999)));
    let source = nn::Source::Tensors(imported.tensors);
    let generator = Generator::new(imported.config, source, &Device::Cpu).unwrap();
    let io = read(&folder.join("io.safetensors"), &Device::Cpu).unwrap().tensors;
    let integers = |name: &str| io[name].to_dtype(DType::I64).unwrap();
    let noise = channels_first(&io["noise"]);
    let images = generator.forward(&noise, &integers("style"), &integers("label"), &io["alpha"]).unwrap();
    let difference = (images - channels_first(&io["samples"])).unwrap().abs().unwrap().max_all().unwrap();
    let difference = difference.to_scalar::<f32>().unwrap();
    println!("golden generator: max abs difference {difference:.2e}");
    assert!(difference <= 2e-5, "{difference}");
}
