//! Published autoencoders against the numbers of the programs that they were published for.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test ends there")]

mod golden;

use candle_core::Device;
use drifting_models::autoencoder::{Autoencoder, AutoencoderKl, Decoder, Posterior, Taef2, open};

use self::golden::{agree, folder, io};

#[test]
fn golden_vae_encodes_and_decodes_the_same() {
    let model = AutoencoderKl::open(&folder("vae"), &Device::Cpu).unwrap();
    let io = io("vae");
    let Posterior { mean, logvar } = model.posterior(&io["image"]).unwrap();
    agree("vae mean", &mean, &io["mean"]);
    agree("vae logvar", &logvar, &io["logvar"]);
    agree("vae decoded", &model.decode_unscaled(&io["latent"]).unwrap(), &io["decoded"]);
    let scaled = (&io["latent"] * model.config().scaling_factor).unwrap();
    agree("vae decoded, scaled", &model.decode(&scaled).unwrap(), &io["decoded"]);
    let decoder = Decoder::open(&folder("vae")).unwrap();
    agree("vae decoder alone", &decoder.decode(&scaled).unwrap(), &io["decoded"]);
    assert_eq!(decoder.sha256(), model.sha256());
}

#[test]
fn golden_taef2_encodes_and_decodes_the_same() {
    let model = Taef2::open(&folder("../weights"), &Device::Cpu).unwrap();
    let io = io("taef2");
    let images = io["image"].affine(2.0, -1.0).unwrap();
    agree("taef2 latent", &model.encode(&images).unwrap(), &io["latent"]);
    let decoded = model.decode(&io["latent"]).unwrap().affine(0.5, 0.5).unwrap();
    agree("taef2 decoded", &decoded, &io["decoded"]);
    let decoder = Decoder::open(&folder("../weights/taef2_dec.safetensors")).unwrap();
    let alone = decoder.decode(&io["latent"]).unwrap().affine(0.5, 0.5).unwrap();
    agree("taef2 decoder alone", &alone, &io["decoded"]);
    assert_eq!(open(&folder("../weights"), &Device::Cpu).unwrap().sha256(), model.sha256());
}
