//! Where the time of a step goes: `cargo test --release -p drifting-train --test step -- --ignored --nocapture speed`.

use std::collections::BTreeMap;
use std::time::Duration;

use candle_core::Device;
use drifting_models::{Generator, Mae, nn};
use drifting_spec::{GeneratorConfig, ImageShape, Inputs, MaeConfig, Stream};
use drifting_train::drift::{DriftSettings, guidance_weight};
use drifting_train::features::{FeatureSpace, MaeEncoder};
use drifting_train::trainer::{GroupSizes, RealImages, StepObjective, Timings};

const IMAGE: ImageShape = ImageShape { channels: 1, height: 28, width: 28 };
const SIZES: GroupSizes = GroupSizes { generated: 16, positives: 32, unconditional: 16 };
const CLASSES: usize = 10;

/// Fashion-MNIST's size: 10 classes, MAE of width 32 with 1, 2, 2 and 1 blocks, all its keys.
#[test]
#[ignore = "a measurement"]
fn speed() {
    let generator = Generator::new(GeneratorConfig::new(IMAGE, 4, 128, 4, 4, 10), nn::Source::Seed(1), &Device::Cpu);
    let generator = generator.unwrap();
    let config = MaeConfig { blocks: [1, 2, 2, 1], ..MaeConfig::new(IMAGE, 1, 32, 10) };
    let mae = Mae::frozen(config, nn::Source::Seed(2), &Device::Cpu).unwrap();
    let space = FeatureSpace::new(IMAGE, vec![Box::new(MaeEncoder::new(mae))], &["all".to_owned()]).unwrap();
    let conditions: Vec<_> = (0..CLASSES).flat_map(|class| [(class, 1.5); SIZES.generated]).collect();
    let images = |name, count: usize| Stream::new(4, name, 0).normals(CLASSES * count * IMAGE.len());
    let objective = StepObjective {
        generator: &generator,
        space: &space,
        settings: &DriftSettings::default(),
        sizes: SIZES,
        inputs: &Inputs::seeded(generator.config(), 5, &conditions),
        real: RealImages {
            positives: &images("positives", SIZES.positives),
            unconditional: &images("unconditional", SIZES.unconditional),
        },
        weights: &[guidance_weight(1.5, SIZES.generated, SIZES.unconditional); CLASSES],
        past: &BTreeMap::new(),
    };
    let vectors: usize = space.keys().iter().map(|key| key.locations()).sum();
    println!("{} keys, {vectors} vectors of an image", space.keys().len());
    for round in 0..4 {
        let mut timings = Timings::default();
        let started = std::time::Instant::now();
        objective.evaluate(0, &mut timings).unwrap();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "round {round}: {:.0} ms = generate {:.0}, encode {:.0}, drift {:.0}, backward {:.0}",
            milliseconds(started.elapsed()),
            milliseconds(timings.generate),
            milliseconds(timings.encode),
            milliseconds(timings.drift),
            milliseconds(timings.backward),
        );
    }
}
