use std::sync::{Arc, Mutex};

use super::*;
use drifting_spec::{AlphaEmbedding, ImageShape, Norm, QkNorm, Rope, Stream, StyleTables};

fn tiny() -> GeneratorConfig {
    let image = ImageShape { channels: 2, height: 4, width: 6 };
    GeneratorConfig {
        style_tokens: 3,
        style_codes: 5,
        registers: 2,
        mlp_hidden: Some(12),
        ..GeneratorConfig::new(image, 2, 16, 2, 2, 3)
    }
}

/// Every way of building the network, each setting once away from its default.
fn variants() -> Vec<GeneratorConfig> {
    vec![
        tiny(),
        GeneratorConfig { positions: false, ..tiny() },
        GeneratorConfig { norm_affine: false, ..tiny() },
        GeneratorConfig { norm: Norm::Layer, ..tiny() },
        GeneratorConfig { norm: Norm::Layer, norm_affine: false, ..tiny() },
        GeneratorConfig { rope: Rope::TwoD, ..tiny() },
        GeneratorConfig { rope: Rope::Off, ..tiny() },
        GeneratorConfig { qk_norm: QkNorm::L2, ..tiny() },
        GeneratorConfig { qk_norm: QkNorm::Off, ..tiny() },
        GeneratorConfig { style_tables: StyleTables::Shared, ..tiny() },
        GeneratorConfig { style_tokens: 0, ..tiny() },
        GeneratorConfig { registers: 0, ..tiny() },
        GeneratorConfig { alpha_embedding: AlphaEmbedding::Mlp, ..tiny() },
        GeneratorConfig { final_layer: FinalLayer::Linear, ..tiny() },
    ]
}

/// A generator whose every parameter is away from zero, as after some steps of training.
fn trained(config: &GeneratorConfig) -> Generator {
    let new = Generator::new(config.clone(), Source::Seed(1), &Device::Cpu).unwrap();
    let moved = new.params().tensors().into_iter().map(|(name, tensor)| {
        let noise = Stream::new(2, &name, 0).normals(tensor.elem_count());
        let noise = Tensor::from_vec(noise, tensor.shape(), &Device::Cpu).unwrap();
        (name, (tensor + (noise * 0.1).unwrap()).unwrap())
    });
    Generator::new(config.clone(), Source::Tensors(moved.collect()), &Device::Cpu).unwrap()
}

fn inputs(config: &GeneratorConfig) -> Inputs {
    Inputs::seeded(config, 7, &[(0, 1.0), (2, 2.5), (1, 4.0), (2, 1.0)])
}

#[test]
fn blocks_hand_their_gradients_over_last_block_first() {
    for config in variants() {
        let generator = trained(&config);
        let store = probe(&generator).backward().unwrap();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&taken);
        let handing = generator.handing(Handover::new(move |parameters, gradient| {
            seen.lock().unwrap().push((parameters.to_vec(), gradient.flatten_all()?.to_vec1::<f32>()?));
            Ok(())
        }));
        let rest = probe(&handing).backward().unwrap();
        let mut blocks = Vec::new();
        let taken = std::mem::take(&mut *taken.lock().unwrap());
        for (parameters, gradient) in &taken {
            let mut first = 0;
            for parameter in parameters {
                let end = first + parameter.elem_count();
                let name = generator.params().iter().find(|(_, var)| var.id() == parameter.id()).map(|(name, _)| name);
                if let Some(name) = name {
                    let expected = store.get(parameter).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    assert_eq!(gradient[first..end], expected, "{name} {config:?}");
                    assert!(rest.get(parameter).is_none(), "{name} twice");
                    blocks.push(name.split('.').nth(1).unwrap().parse::<usize>().unwrap());
                }
                first = end;
            }
            assert_eq!(first, gradient.len());
        }
        assert!(blocks.is_sorted_by(|one, next| one >= next), "{blocks:?}");
        let of_blocks = generator.params().iter().filter(|(name, _)| name.starts_with("blocks.")).count();
        assert_eq!(blocks.len(), of_blocks, "{config:?}");
    }
}

/// A smooth scalar of the output, so that its gradient can be held against finite differences.
fn probe(generator: &Generator) -> Tensor {
    let image = generator.run(&inputs(generator.config())).unwrap();
    let weights = Stream::new(3, "probe", 0).normals(image.elem_count());
    let weights = Tensor::from_vec(weights, image.shape(), &Device::Cpu).unwrap();
    (image * weights).unwrap().sum_all().unwrap()
}

#[test]
fn published_sizes_have_the_published_parameter_counts() {
    // Counted from the configuration alone: building the networks would take gigabytes.
    for (name, expected) in
        [("latent-b2", 132_708_880), ("latent-l2", 462_909_456), ("pixel-b16", 133_864_704), ("pixel-l16", 464_450_304)]
    {
        let config = GeneratorConfig::published(name).unwrap();
        assert_eq!(parameter_count(&config).unwrap(), expected, "{name}");
    }
}

#[test]
fn parameters_are_counted_as_built() {
    for config in variants() {
        let built = Generator::new(config.clone(), Source::Seed(1), &Device::Cpu).unwrap();
        assert_eq!(parameter_count(&config).unwrap(), built.params().elements(), "{config:?}");
    }
}

#[test]
fn a_new_generator_writes_exactly_zero() {
    let generator = Generator::new(tiny(), Source::Seed(1), &Device::Cpu).unwrap();
    let image = generator.run(&inputs(&tiny())).unwrap();
    assert_eq!(image.dims(), [4, 2, 4, 6]);
    assert_eq!(image.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
}

#[test]
fn every_parameter_gets_a_gradient_in_every_setting() {
    for config in variants() {
        let generator = trained(&config);
        let gradients = probe(&generator).backward().unwrap();
        for (name, var) in generator.params().iter() {
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("{name} has no gradient in {config:?}"));
            let size = gradient.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(size.is_finite() && size > 0.0, "{name}: gradient {size} in {config:?}");
        }
    }
}

#[test]
fn gradients_are_the_slopes_of_the_output() {
    const STEP: f64 = 3e-3;
    for config in [tiny(), GeneratorConfig { norm: Norm::Layer, rope: Rope::TwoD, qk_norm: QkNorm::L2, ..tiny() }] {
        let generator = trained(&config);
        let gradients = probe(&generator).backward().unwrap();
        for (name, var) in generator.params().iter() {
            let direction = Stream::new(4, name, 0).normals(var.elem_count());
            let direction = Tensor::from_vec(direction, var.shape(), &Device::Cpu).unwrap();
            let expected = (gradients.get(var).unwrap() * &direction).unwrap().sum_all().unwrap();
            let expected = f64::from(expected.to_scalar::<f32>().unwrap());
            let start = var.as_tensor().copy().unwrap();
            let at = |step: f64| {
                var.set(&(&start + (&direction * step).unwrap()).unwrap()).unwrap();
                f64::from(probe(&generator).to_scalar::<f32>().unwrap())
            };
            let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            at(0.0);
            assert!((slope - expected).abs() < 2e-2 * (1.0 + expected.abs()), "{name}: {slope}, gradient {expected}");
        }
    }
}

#[test]
fn the_style_path_is_deterministic_and_matters() {
    let generator = trained(&tiny());
    let run = |inputs: &Inputs| generator.run(inputs).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let inputs = inputs(&tiny());
    assert_eq!(run(&inputs), run(&inputs));
    let mut other = inputs.clone();
    other.style[0] = (other.style[0] + 1) % 5;
    let (a, b) = (run(&inputs), run(&other));
    assert_ne!(a[..48], b[..48]);
    assert_eq!(a[48..], b[48..], "another image's style must not matter");
}

#[test]
fn inputs_that_do_not_exist_are_refused() {
    let generator = trained(&tiny());
    let mut wrong_class = inputs(&tiny());
    wrong_class.class[0] = 3;
    assert!(generator.run(&wrong_class).is_err());
    let mut wrong_style = inputs(&tiny());
    wrong_style.style[0] = 5;
    assert!(generator.run(&wrong_style).unwrap_err().to_string().contains("code 5 of 0..5"));
}
