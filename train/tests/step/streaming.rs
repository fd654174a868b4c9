//! Class groups worked a few at a time give what all at once give.

use std::collections::BTreeMap;

use drifting_models::{Generator, Mae, nn};
use drifting_spec::{GeneratorConfig, ImageShape, Inputs, MaeConfig, Stream};
use drifting_train::drift::{
    DriftSettings, KeyScale, Reduction, ScaleScope, TemperatureAggregation, WeightPlacement, guidance_weight,
};
use drifting_train::features::{FeatureSpace, MaeEncoder};
use drifting_train::ranks::Alone;
use drifting_train::trainer::{GroupSizes, Objective, RealImages, StepObjective, Timings};

use crate::support::{difference, numbers};
use crate::{STREAMED, device};

const IMAGE: ImageShape = ImageShape { channels: 1, height: 8, width: 8 };
const SIZES: GroupSizes = GroupSizes { generated: 4, positives: 5, unconditional: 3 };
const GROUPS: usize = 5;

struct Case {
    generator: Generator,
    space: FeatureSpace,
    inputs: Inputs,
    positives: Vec<f32>,
    unconditional: Vec<f32>,
    weights: Vec<f32>,
}

impl Case {
    fn new() -> Self {
        let mut config = GeneratorConfig::new(IMAGE, 4, 16, 1, 2, 10);
        config.style_tokens = 2;
        // The last layer starts at zero; given weights make the images differ.
        let fresh = Generator::new(config.clone(), nn::Source::Seed(1), &device()).unwrap();
        let given = fresh.params().tensors().into_iter().map(|(name, tensor)| {
            let noise = Stream::new(2, &name, 0).normals(tensor.elem_count());
            let noise = candle_core::Tensor::from_vec(noise, tensor.shape(), &device()).unwrap();
            (name, (tensor + (noise * 0.1).unwrap()).unwrap())
        });
        let generator = Generator::new(config, nn::Source::Tensors(given.collect()), &device()).unwrap();
        let mae = MaeConfig { blocks: [1, 2, 1, 1], norm_groups: 2, ..MaeConfig::new(IMAGE, 1, 4, 3) };
        let mae = Mae::frozen(mae, nn::Source::Seed(3), &device()).unwrap();
        let keys = ["all", "patch_2", "std_4"].map(str::to_owned);
        let space = FeatureSpace::new(IMAGE, vec![Box::new(MaeEncoder::new(mae))], &keys).unwrap();
        let alphas = [1.0, 1.5, 3.0, 1.2, 2.0];
        let conditions: Vec<_> = alphas.iter().enumerate().flat_map(|(c, alpha)| [(c, *alpha); 4]).collect();
        let images = |name, count: usize| Stream::new(4, name, 0).normals(GROUPS * count * IMAGE.len());
        Self {
            inputs: Inputs::seeded(generator.config(), 5, &conditions),
            positives: images("positives", SIZES.positives),
            unconditional: images("unconditional", SIZES.unconditional),
            weights: alphas.iter().map(|&alpha| guidance_weight(alpha, 4, 3)).collect(),
            generator,
            space,
        }
    }

    fn objective(
        &self,
        settings: &DriftSettings,
        groups_at_once: usize,
        past: &BTreeMap<String, KeyScale>,
    ) -> Objective {
        let objective = StepObjective {
            generator: &self.generator,
            space: &self.space,
            settings,
            sizes: SIZES,
            inputs: &self.inputs,
            real: RealImages { positives: &self.positives, unconditional: &self.unconditional },
            weights: &self.weights,
            past,
            ranks: &Alone,
            groups: self.weights.len(),
        };
        objective.evaluate(groups_at_once, &mut Timings::default()).unwrap()
    }

    /// Asserts that 1 and 2 groups at a time give the gradients, losses and scales of all at once, and returns the last.
    #[track_caller]
    fn assert_streams(&self, settings: &DriftSettings, past: &BTreeMap<String, KeyScale>) -> Objective {
        let whole = self.objective(settings, 0, past);
        for at_once in [1, 2] {
            let streamed = self.objective(settings, at_once, past);
            assert!((streamed.loss / whole.loss - 1.0).abs() < STREAMED, "{} {}", streamed.loss, whole.loss);
            for (name, gradient) in &whole.gradients {
                let found = difference(name, &numbers(&streamed.gradients[name]), &numbers(gradient));
                assert!(found <= STREAMED, "{at_once} at once, {name}: {found:.1e} {settings:?}");
            }
            for (name, key) in &whole.keys {
                let streamed = &streamed.keys[name];
                let all = |key: &drifting_train::trainer::KeyMetrics| [&[key.scale, key.loss], &key.drift[..]].concat();
                for (found, expected) in all(streamed).into_iter().zip(all(key)) {
                    assert!((found - expected).abs() <= 1e-4 * expected.abs() + 1e-12, "{name}: {found} {expected}");
                }
            }
        }
        whole
    }
}

#[test]
fn streamed_groups_equal_the_whole_batch() {
    let (case, none) = (Case::new(), BTreeMap::new());
    let mut losses = Vec::new();
    for scale_scope in [ScaleScope::Batch, ScaleScope::Group, ScaleScope::Ema] {
        for settings in [
            DriftSettings::default(),
            DriftSettings { reduction: Reduction::Sum, ..DriftSettings::default() },
            DriftSettings { weight_placement: WeightPlacement::Logits, ..DriftSettings::default() },
            DriftSettings { temperature_aggregation: TemperatureAggregation::SumLosses, ..DriftSettings::default() },
        ] {
            losses.push(case.assert_streams(&DriftSettings { scale_scope, ..settings }, &none).loss);
        }
    }
    // Without a past, `ema` is `batch`; `group` is something else, but for the losses of single temperatures, which are 1.
    assert_eq!(losses[..4], losses[8..]);
    assert!(losses[..3].iter().zip(&losses[4..7]).all(|(batch, group)| batch != group));
}

#[test]
fn past_scales_replace_those_of_the_step() {
    let case = Case::new();
    let settings = DriftSettings { scale_scope: ScaleScope::Ema, ..DriftSettings::default() };
    let first = case.objective(&settings, 0, &BTreeMap::new());
    // The scales of the same step change nothing.
    let same = case.assert_streams(&settings, &first.scales);
    for (name, gradient) in &first.gradients {
        assert!(difference(name, &numbers(&same.gradients[name]), &numbers(gradient)) < STREAMED);
    }
    let mut past = first.scales.clone();
    past.values_mut().for_each(|scale| {
        scale.distance *= 1.2;
        scale.squares.iter_mut().for_each(|square| *square *= 4.0);
    });
    let other = case.assert_streams(&settings, &past);
    // Mean distances do not depend on the scale; four times the mean square is half the drift at least at some key.
    for (name, key) in &other.keys {
        assert!((key.scale / first.keys[name].scale - 1.0).abs() < 1e-6);
    }
    assert!(other.loss < 0.7 * first.loss, "{} {}", other.loss, first.loss);
}
