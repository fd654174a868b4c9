use candle_core::{Device, Tensor};

use super::reference::Weights;
use super::*;
use crate::testing::{SMOOTH, flat, gradient_is_slope, random};

fn config() -> ConvNextConfig {
    ConvNextConfig::new([1, 1, 2, 1], [4, 6, 8, 10], 64)
}

/// Names and shapes of all tensors of the tiny network, as the library publishes them.
fn shapes() -> Vec<(String, Vec<usize>)> {
    let ConvNextConfig { depths, hidden_sizes: widths, .. } = config();
    let mut shapes = vec![("embeddings.patch_embeddings.weight".to_owned(), vec![widths[0], 3, 4, 4])];
    let mut add = |name: &str, shape: &[usize]| shapes.push((name.to_owned(), shape.to_vec()));
    let vectors = |add: &mut dyn FnMut(&str, &[usize]), name: &str, width: usize| {
        add(&format!("{name}.weight"), &[width]);
        add(&format!("{name}.bias"), &[width]);
    };
    add("embeddings.patch_embeddings.bias", &[widths[0]]);
    vectors(&mut add, "embeddings.layernorm", widths[0]);
    vectors(&mut add, "layernorm", widths[3]);
    for (stage, (&depth, &width)) in depths.iter().zip(&widths).enumerate() {
        let stage_name = format!("encoder.stages.{stage}");
        if stage > 0 {
            vectors(&mut add, &format!("{stage_name}.downsampling_layer.0"), widths[stage - 1]);
            add(&format!("{stage_name}.downsampling_layer.1.weight"), &[width, widths[stage - 1], 2, 2]);
            add(&format!("{stage_name}.downsampling_layer.1.bias"), &[width]);
        }
        for layer in 0..depth {
            let name = format!("{stage_name}.layers.{layer}");
            vectors(&mut add, &format!("{name}.layernorm"), width);
            for (part, shape) in [
                ("dwconv.weight", vec![width, 1, 7, 7]),
                ("dwconv.bias", vec![width]),
                ("pwconv1.weight", vec![4 * width, width]),
                ("pwconv1.bias", vec![4 * width]),
                ("grn.weight", vec![1, 1, 1, 4 * width]),
                ("grn.bias", vec![1, 1, 1, 4 * width]),
                ("pwconv2.weight", vec![width, 4 * width]),
                ("pwconv2.bias", vec![width]),
            ] {
                add(&format!("{name}.{part}"), &shape);
            }
        }
    }
    shapes
}

fn tensors() -> BTreeMap<String, Tensor> {
    let tensor = |(name, shape): (String, Vec<usize>)| {
        // A bound of matrices' growth; vectors stay about as large as what they are added to.
        let scale = if shape.len() > 1 && shape[0] > 1 { shape[1..].iter().product::<usize>() as f64 } else { 4.0 };
        let tensor = (random(&name, &shape) / scale.sqrt()).unwrap();
        (name, tensor)
    };
    shapes().into_iter().map(tensor).collect()
}

#[test]
fn maps_agree_with_plain_loops() {
    let model = ConvNext::new(config(), Source::Tensors(tensors()), &Device::Cpu).unwrap();
    // Larger than the network's side, so that it is resized.
    let images = random("images", &[2, 3, 72, 72]);
    let maps = model.encode(&images).unwrap();
    let found: Vec<_> = maps.iter().map(|map| (map.name.clone(), map.map.dims()[1..].to_vec())).collect();
    let expected: Vec<_> = model.map_shapes().into_iter().map(|(name, shape)| (name, shape.to_vec())).collect();
    assert_eq!(found, expected);
    for image in 0..2 {
        let expected = Weights(tensors()).encode(&config(), &flat(&images.get(image).unwrap()), 72);
        for (map, expected) in maps.iter().zip(expected) {
            assert_eq!(map.map.dims()[1..], [expected.sides.0, expected.sides.1, expected.channels]);
            for (found, expected) in flat(&map.map.get(image).unwrap()).into_iter().zip(expected.values) {
                let error = (f64::from(found) - expected).abs();
                assert!(error < 1e-4 * (1.0 + expected.abs()), "{}: {found}, expected {expected}", map.name);
            }
        }
    }
}

#[test]
fn gradients_reach_the_images() {
    let model = ConvNext::new(config(), Source::Tensors(tensors()), &Device::Cpu).unwrap();
    gradient_is_slope(&[1, 3, 72, 72], SMOOTH, |images| {
        Ok(model.encode(images)?.into_iter().map(|map| map.map).collect())
    });
}

#[test]
fn a_published_folder_is_read_with_or_without_its_classifier() {
    let folder = tempfile::tempdir().unwrap();
    let json =
        r#"{"model_type": "convnextv2", "depths": [1, 1, 2, 1], "hidden_sizes": [4, 6, 8, 10], "image_size": 64}"#;
    std::fs::write(folder.path().join(CONFIG), json).unwrap();
    let images = random("images", &[1, 3, 64, 64]);
    let mean = |tensors: &BTreeMap<String, Tensor>| {
        weights::write(&folder.path().join(WEIGHTS), tensors, &BTreeMap::new()).unwrap();
        let model = ConvNext::open(folder.path(), &Device::Cpu).unwrap();
        assert_eq!((model.config(), model.sha256().len()), (&config(), 64));
        flat(&model.encode(&images).unwrap()[4].map)
    };
    let mut classifier: BTreeMap<_, _> =
        tensors().into_iter().map(|(name, tensor)| (format!("convnextv2.{name}"), tensor)).collect();
    classifier.insert("classifier.weight".to_owned(), random("classifier", &[3, 10]));
    assert_eq!(mean(&tensors()), mean(&classifier));
    classifier.insert("convnextv2.head".to_owned(), random("head", &[3]));
    weights::write(&folder.path().join(WEIGHTS), &classifier, &BTreeMap::new()).unwrap();
    let message = ConvNext::open(folder.path(), &Device::Cpu).unwrap_err().to_string();
    assert!(message.contains(WEIGHTS) && message.contains("tensor head belongs to no parameter"), "{message}");
}

#[test]
fn the_paper_has_thirteen_keys() {
    assert_eq!(ConvNextConfig::base().sides(), [56, 28, 14, 7]);
    let model = ConvNext::new(config(), Source::Tensors(tensors()), &Device::Cpu).unwrap();
    let names: Vec<_> = model.map_shapes().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["convnext0", "convnext1", "convnext2", "convnext3", "global_mean", "global_std"]);
    assert!(matches!(model.encode(&random("grey", &[1, 1, 64, 64])), Err(Error::Input { .. })));
    let wrong = ConvNextConfig::new([1, 1, 2, 1], [4, 6, 8, 10], 32);
    assert!(ConvNext::new(wrong, Source::Seed(1), &Device::Cpu).is_err());
}
