//! Clipping, AdamW and a moving average over the parameters of two blocks of size B.

use candle_core::Device;
use drifting_models::nn::{Builder, Init, Source};
use drifting_train::optim::{AdamWSettings, Decay, Learner, Learning, Schedule};
use serde_json::json;

use crate::case::{Case, Contender, Pass, Tensors};
use crate::input::Input;

const HIDDEN: usize = 768;
const INNER: usize = 2048;
const BLOCKS: usize = 2;
/// So fast that a wrong step is seen.
const RATE: f64 = 0.1;
const DECAY: f64 = 0.5;
const CLIP: f64 = 2.0;

pub(crate) fn case() -> Case {
    let AdamWSettings { beta1, beta2, epsilon, weight_decay } = AdamWSettings::default();
    let count: usize = shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    Case {
        op: "clipping, AdamW, moving average",
        peer: "learner",
        shape: format!("{:.1} million parameters in {} tensors", count as f64 / 1e6, shapes().len()),
        pass: Pass::Step,
        settings: json!({
            "lr": RATE, "betas": [beta1, beta2], "eps": epsilon, "weight_decay": weight_decay, "clip": CLIP, "decay": DECAY,
        }),
        tracked: Vec::new(),
        open: Box::new(open),
    }
}

fn shapes() -> Vec<(String, Vec<usize>)> {
    let layers = [
        ("modulation", 6 * HIDDEN, HIDDEN),
        ("qkv", 3 * HIDDEN, HIDDEN),
        ("out", HIDDEN, HIDDEN),
        ("gate", INNER, HIDDEN),
        ("value", INNER, HIDDEN),
        ("down", HIDDEN, INNER),
    ];
    let block = |block: usize| {
        let dense = layers.into_iter().flat_map(move |(name, out, width)| {
            let name = format!("block{block}.{name}");
            [(format!("{name}.weight"), vec![out, width]), (format!("{name}.bias"), vec![out])]
        });
        dense.chain(["norm1", "norm2"].map(|name| (format!("block{block}.{name}.weight"), vec![HIDDEN])))
    };
    (0..BLOCKS).flat_map(block).collect()
}

fn open() -> Contender {
    let of = |part: &str, spread: f32| -> Tensors {
        let tensor = |(name, shape): (String, Vec<usize>)| {
            let tensor = Input::normal(&format!("{part}.{name}"), &shape, spread).tensor();
            (name, tensor)
        };
        shapes().into_iter().map(tensor).collect()
    };
    let (start, gradients) = (of("parameter", 0.1), of("gradient", 1.0));
    let builder = Builder::new(Source::Tensors(start.clone()), &Device::Cpu);
    shapes().iter().for_each(|(name, shape)| drop(builder.param(name, shape, Init::Zeros).unwrap()));
    let params = builder.finish().unwrap();
    let schedule = Schedule { lr: RATE, warmup_steps: 0, decay: Decay::Constant };
    let learning = Learning { adamw: AdamWSettings::default(), clip: CLIP, schedule, decays: &[DECAY] };
    let mut learner = Learner::new(learning, &params).unwrap();
    let inputs = named("parameter", start).chain(named("gradient", gradients.clone())).collect();
    let once = Box::new(move || {
        learner.step(&params, &gradients).unwrap();
        let average = learner.averages()[0].tensors().clone();
        named("parameter", params.tensors()).chain(named("average", average)).collect()
    });
    Contender { inputs, once, timed: None }
}

fn named(part: &'static str, tensors: Tensors) -> impl Iterator<Item = (String, candle_core::Tensor)> {
    tensors.into_iter().map(move |(name, tensor)| (format!("{part}.{name}"), tensor))
}
