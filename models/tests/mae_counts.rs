//! Sizes of the published encoders (method section 7.1), counted without building them.

#![allow(clippy::unwrap_used, reason = "a test ends there")]

use drifting_models::{Mae, mae_flops, mae_parameter_count, nn};
use drifting_spec::{ImageShape, MaeBlock, MaeConfig};

fn near(found: f64, expected: f64, digit: f64) {
    assert!((found - expected).abs() <= 0.5001 * digit, "{found}, expected {expected}");
}

#[test]
fn published_encoders_have_their_published_sizes() {
    for (name, millions, digit) in
        [("mae_latent_256", 431.35, 0.01), ("mae_latent_640", 2687.9, 0.1), ("mae_pixel_640", 2689.1, 0.1)]
    {
        let config = MaeConfig::published(name).unwrap();
        near(mae_parameter_count(&config).unwrap() as f64 / 1e6, millions, digit);
    }
}

#[test]
fn published_encoders_cost_what_was_measured() {
    // Thousand millions of multiplications: half of the operations.
    let gmac = |flops: u64| flops as f64 / 2e9;
    for (name, encoder, decoder) in [
        ("mae_latent_256", 18.53, Some(9.66)),
        ("mae_latent_640", 115.79, Some(60.40)),
        ("mae_pixel_640", 116.90, None),
    ] {
        let flops = mae_flops(&MaeConfig::published(name).unwrap()).unwrap();
        near(gmac(flops.encoder), encoder, 0.01);
        if let Some(decoder) = decoder {
            near(gmac(flops.decoder), decoder, 0.01);
        }
    }
}

/// One convolution by hand for each grid that a name can stand for.
#[test]
fn a_bottleneck_is_counted_where_it_works() {
    let image = ImageShape { channels: 1, height: 8, width: 8 };
    let basic = MaeConfig { blocks: [1; 4], ..MaeConfig::new(image, 1, 4, 2) };
    let config = MaeConfig { block: MaeBlock::Bottleneck, ..basic };
    let stem = 9 * 4 * 64;
    // 1x1 in, 3x3, 1x1 out; from stage 2 on the first one at the side before and a 1x1 projection.
    let first = (4 + 9 + 4) * 64;
    let later = |c: u64, before: u64| {
        let inner = c / 4;
        let after = before / 4;
        c / 2 * inner * before + (9 * inner * inner + inner * c + c / 2 * c) * after
    };
    let expected = 2 * (stem + first + later(8, 64) + later(16, 16) + later(32, 4));
    assert_eq!(mae_flops(&config).unwrap().encoder, expected);
}

#[test]
fn what_is_counted_is_what_is_built() {
    let image = ImageShape { channels: 1, height: 8, width: 8 };
    let config = MaeConfig { blocks: [1, 2, 1, 1], ..MaeConfig::new(image, 2, 4, 3) };
    let mae = Mae::new(config.clone(), nn::Source::Seed(1), &candle_core::Device::Cpu).unwrap();
    assert_eq!(mae_parameter_count(&config).unwrap(), mae.params().elements());
    let published = MaeConfig::published("mae_latent_256").unwrap();
    assert_eq!(mae_parameter_count(&MaeConfig { up_blocks: 3, ..published.clone() }).unwrap(), {
        let up10 = 9 * (512 * 256 + 256 * 256) + 2 * (512 + 256 + 256);
        mae_parameter_count(&published).unwrap() - up10
    });
}
