//! What the keys of a map take from it: means and standard deviations over all places and over cells.

use candle_core::{Device, Tensor};
use drifting_models::ops::Values;
use drifting_train::features::{MapShape, Statistic};
use rayon::prelude::*;
use serde_json::json;

use crate::case::{Case, Contender, Pass, Tensors};
use crate::input::Input;

/// All of a map but its own vectors, with the names that they have at the peer's.
const STATISTICS: [(&str, Statistic); 6] = [
    ("mean_2", Statistic::CellMeans(2)),
    ("std_2", Statistic::CellStds(2)),
    ("mean_4", Statistic::CellMeans(4)),
    ("std_4", Statistic::CellStds(4)),
    ("mean", Statistic::Mean),
    ("std", Statistic::Std),
];

pub(crate) fn cases() -> Vec<Case> {
    let maps = [(64, [32, 32]), (64, [8, 128]), (160, [4, 256])];
    let passes = [Pass::Forward, Pass::Frozen];
    maps.iter().flat_map(|&(batch, sizes)| passes.map(|pass| case(batch, sizes, pass))).collect()
}

fn case(batch: usize, [side, channels]: [usize; 2], pass: Pass) -> Case {
    let shape = MapShape { height: side, width: side, channels };
    Case {
        op: "statistics of a map",
        peer: "statistics",
        shape: format!("{batch}x{side}x{side}x{channels}"),
        pass,
        settings: json!({ "names": STATISTICS.map(|(name, _)| name) }),
        tracked: if pass == Pass::Forward { Vec::new() } else { vec!["x".to_owned()] },
        open: Box::new(move || open(batch, shape, pass)),
    }
}

fn open(batch: usize, shape: MapShape, pass: Pass) -> Contender {
    let x = Input::normal("x", &[batch, shape.height, shape.width, shape.channels], 1.0).tensor();
    let mut inputs = Tensors::from([("x".to_owned(), x.clone())]);
    let sizes = move |statistic: Statistic| [batch, statistic.locations(shape), shape.channels];
    if pass != Pass::Forward {
        for (name, statistic) in STATISTICS {
            let name = format!("dy.{name}");
            inputs.insert(name.clone(), Input::normal(&name, &sizes(statistic), 1.0).tensor());
        }
    }
    let gradients: Vec<(Statistic, Tensor)> = STATISTICS
        .iter()
        .filter_map(|(name, statistic)| Some((*statistic, inputs.get(&format!("dy.{name}"))?.clone())))
        .collect();
    let once = Box::new(move || {
        let map = Values::of(&x).unwrap();
        let mut found = Tensors::new();
        for (name, statistic) in STATISTICS {
            let features = statistic.extract(shape, &map).into_owned();
            let features = Tensor::from_vec(features, &sizes(statistic)[..], &Device::Cpu).unwrap();
            found.insert(format!("y.{name}"), features);
        }
        if !gradients.is_empty() {
            found.insert("d.x".to_owned(), pull_back(shape, &map, &gradients, &x));
        }
        found
    });
    Contender { inputs, once, timed: None }
}

/// As the gradients of all keys are added up in training.
fn pull_back(shape: MapShape, map: &[f32], gradients: &[(Statistic, Tensor)], x: &Tensor) -> Tensor {
    let mut sum = vec![0.0; map.len()];
    for (statistic, gradient) in gradients {
        let gradient = Values::of(gradient).unwrap();
        let images = sum.par_chunks_mut(shape.len()).zip(map.par_chunks(shape.len()));
        let len = statistic.locations(shape) * shape.channels;
        images.zip(gradient.par_chunks(len)).for_each(|((sum, image), gradient)| {
            statistic.pull_back(shape, image, gradient, sum);
        });
    }
    Tensor::from_vec(sum, x.shape(), &Device::Cpu).unwrap()
}
