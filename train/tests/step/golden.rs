//! One whole training step of the authors' program: loss, gradients, AdamW and moving average.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use drifting_models::Generator;
use drifting_spec::Inputs;
use drifting_train::drift::{DriftSettings, guidance_weight};
use drifting_train::features::FeatureSpace;
use drifting_train::optim::{AdamWSettings, Decay, Learner, Learning, Schedule, global_norm};
use drifting_train::trainer::{GroupSizes, Objective, RealImages, StepObjective, Timings};

use crate::support::{LATENT, Tensors, channels_first, difference, generator, io, numbers, space};

const SIZES: GroupSizes = GroupSizes { generated: 4, positives: 4, unconditional: 3 };

struct Golden {
    io: Tensors,
    space: FeatureSpace,
    generator: Generator,
}

impl Golden {
    fn new() -> Self {
        Self { io: io("step"), space: space(), generator: generator() }
    }

    fn objective(&self, groups_at_once: usize) -> Objective {
        let flat = |name: &str| channels_first(&self.io[name]).flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (alpha, label) = (numbers(&self.io["alpha"]), numbers(&self.io["label"]));
        let weights: Vec<f32> = alpha.iter().map(|&alpha| guidance_weight(alpha as f32, 4, 3)).collect();
        let expected = numbers(&self.io["weight"]);
        assert!(weights.iter().zip(expected).all(|(found, expected)| (f64::from(*found) - expected).abs() < 1e-6));
        let inputs = Inputs {
            noise: flat("noise"),
            style: self.io["style"].to_dtype(DType::I64).unwrap().flatten_all().unwrap().to_vec1().unwrap(),
            class: (0..8).map(|image| label[image / 4] as i64).collect(),
            alpha: (0..8).map(|image| alpha[image / 4] as f32).collect(),
        };
        let (positives, unconditional) = (flat("positive"), flat("unconditional"));
        assert_eq!(positives.len(), 2 * 4 * LATENT.len());
        let objective = StepObjective {
            generator: &self.generator,
            space: &self.space,
            settings: &DriftSettings::default(),
            sizes: SIZES,
            inputs: &inputs,
            real: RealImages { positives: &positives, unconditional: &unconditional },
            weights: &weights,
            past: &BTreeMap::new(),
        };
        objective.evaluate(groups_at_once, &mut Timings::default()).unwrap()
    }

    fn number(&self, name: &str) -> f64 {
        numbers(&self.io[name])[0]
    }

    /// Asserts a relative difference of at most `bar` from the reference, and returns it.
    fn check(&self, name: &str, found: f64, bar: f64) -> f64 {
        let expected = self.number(name);
        let difference = (found / expected - 1.0).abs();
        assert!(difference <= bar, "{name}: {found}, expected {expected}: {difference:.2e}");
        difference
    }

    /// Holds every tensor under `prefix` against ours.
    fn check_tensors(&self, prefix: &str, ours: &Tensors) -> (usize, f64) {
        let (mut count, mut worst) = (0, 0.0f64);
        for (name, expected) in &self.io {
            let Some(theirs) = name.strip_prefix(prefix) else { continue };
            let found = difference(name, &numbers(&in_their_layout(theirs, ours)), &numbers(expected));
            assert!(found <= 1e-3, "{name}: relative difference {found:.2e}");
            (count, worst) = (count + 1, worst.max(found));
        }
        (count, worst)
    }
}

/// The tensor that the authors' tree calls `name`, from ours (method section 20).
fn in_their_layout(name: &str, ours: &Tensors) -> Tensor {
    let parts: Vec<&str> = name.split('/').collect();
    let linear = |part: &str, leaf: &str| {
        let tensor = &ours[&format!("{part}.{}", if leaf == "kernel" { "weight" } else { "bias" })];
        if leaf == "kernel" { tensor.t().unwrap() } else { tensor.clone() }
    };
    match parts[..] {
        ["Embed_0", _] => ours["class_embed.weight"].clone(),
        ["RMSNorm_0", _] => ours["alpha_embed.norm.weight"].clone(),
        ["TimestepEmbedder_0", layer, _, leaf] => {
            linear(if layer == "TorchLinear_0" { "alpha_embed.in" } else { "alpha_embed.out" }, leaf)
        }
        ["LightningDiT_0", "TorchLinear_0", _, leaf] => linear("patch_embed", leaf),
        ["LightningDiT_0", "TorchLinear_1", _, leaf] => linear("register.proj", leaf),
        ["LightningDiT_0", "pos_embed"] => ours["pos_embed"].clone(),
        ["LightningDiT_0", "cls_embed"] => ours["register.embed"].clone(),
        ["LightningDiT_0", "FinalLayer_0", "RMSNorm_0", _] => ours["final.norm.weight"].clone(),
        ["LightningDiT_0", "FinalLayer_0", layer, _, leaf] => {
            linear(if layer == "TorchLinear_0" { "final.modulation" } else { "final.out" }, leaf)
        }
        ["LightningDiT_0", block, ref rest @ ..] => {
            let block = block.replace("blocks_", "blocks.");
            match *rest {
                ["TorchLinear_0", _, leaf] => linear(&format!("{block}.modulation"), leaf),
                ["Attention_0", "TorchLinear_0", _, leaf] => linear(&format!("{block}.attn.qkv"), leaf),
                ["Attention_0", _, _, leaf] => linear(&format!("{block}.attn.out"), leaf),
                ["Attention_0", norm, _] => ours[&format!("{block}.attn.{norm}.weight")].clone(),
                ["SwiGLUFFN_0", layer, _, leaf] => {
                    let ours = ["gate", "value", "out"][usize::from(layer.as_bytes()[12] - b'0')];
                    linear(&format!("{block}.mlp.{ours}"), leaf)
                }
                [norm, _] => {
                    let number = 1 + u8::from(norm == "RMSNorm_1");
                    ours[&format!("{block}.norm{number}.weight")].clone()
                }
                _ => panic!("{name}"),
            }
        }
        [table, _] => {
            let index = table.strip_prefix("noise_embeds_").unwrap().parse().unwrap();
            ours["style_embed.weight"].get(index).unwrap()
        }
        _ => panic!("{name}"),
    }
}

fn check_step(golden: &Golden, groups_at_once: usize) -> Objective {
    let found = golden.objective(groups_at_once);
    let loss = golden.check("loss", found.loss, 1e-4);
    let norm = golden.check("grad_norm", global_norm(&found.gradients).unwrap().0, 1e-4);
    let (mut infos, mut worst) = (0, 0.0f64);
    for (name, key) in &found.keys {
        let mut numbers = vec![("scale", key.scale), ("term", key.loss)];
        numbers.extend(["loss_0.2", "loss_0.05", "loss_0.02"].into_iter().zip(key.drift.iter().copied()));
        for (what, number) in numbers {
            worst = worst.max(golden.check(&format!("info.{what}/{name}"), number, 1e-3));
            infos += 1;
        }
    }
    assert_eq!(infos, golden.io.keys().filter(|name| name.starts_with("info.")).count());
    let (mut norms, mut worst_norm) = (0, 0.0f64);
    for name in golden.io.keys() {
        let Some(theirs) = name.strip_prefix("gradnorm.") else { continue };
        let gradient = numbers(&in_their_layout(theirs, &found.gradients));
        let norm = gradient.iter().map(|value| value * value).sum::<f64>().sqrt();
        worst_norm = worst_norm.max(golden.check(name, norm, 1e-3));
        norms += 1;
    }
    assert_eq!(norms, 51);
    let (gradients, worst_gradient) = golden.check_tensors("grad.", &found.gradients);
    println!(
        "golden step, {groups_at_once} groups at a time: loss {loss:.1e}, gradient norm {norm:.1e}, {infos} infos \
         {worst:.1e}, {norms} norms {worst_norm:.1e}, {gradients} gradients {worst_gradient:.1e}"
    );
    found
}

#[test]
fn golden_step_all_at_once_and_streamed() {
    let golden = Golden::new();
    let streamed = check_step(&golden, 1);
    let whole = check_step(&golden, 0);
    for (name, gradient) in &whole.gradients {
        let found = difference(name, &numbers(&streamed.gradients[name]), &numbers(gradient));
        assert!(found <= 1e-5, "{name}: streamed differs by {found:.1e}");
    }
    let hyper = numbers(&golden.io["hyper"]);
    let [lr, beta1, beta2, epsilon, weight_decay, clip, decay] = hyper[..] else { panic!("{hyper:?}") };
    let learning = Learning {
        adamw: AdamWSettings { beta1, beta2, epsilon, weight_decay },
        clip,
        schedule: Schedule { lr, warmup_steps: 0, decay: Decay::Constant },
        decays: &[decay],
    };
    let mut learner = Learner::new(learning, golden.generator.params()).unwrap();
    learner.step(golden.generator.params(), &whole.gradients).unwrap();
    let (count, params) = golden.check_tensors("param_after.", &golden.generator.params().tensors());
    let (averages, ema) = golden.check_tensors("ema_after.", learner.averages()[0].tensors());
    assert!(count > 30 && averages == count, "{count} {averages}");
    println!("after the step: {count} parameters {params:.1e}, {averages} averages {ema:.1e}");
}
