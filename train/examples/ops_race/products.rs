//! Matrix products and linear layers.

use std::rc::Rc;

use candle_core::{Device, Tensor};
use drifting_models::ops::matmul::{Matrix, Threads, matmul};
use drifting_models::ops::{Values, linear};
use serde_json::json;

use crate::case::{Case, Contender, Pass, Tensors};
use crate::graph::Graph;
use crate::input::Input;

pub(crate) fn cases() -> Vec<Case> {
    let products = [
        // Rows, inner size, columns; whether a and b lie transposed in memory.
        ([2048, 2048, 2048], [false, false]),
        // Tokens of fashion by the packed projection, back to its input, and the gradient of its weight.
        ([8480, 128, 384], [false, true]),
        ([8480, 384, 128], [false, false]),
        ([384, 8480, 128], [true, false]),
        // The MLP of size B.
        ([1088, 768, 2048], [false, true]),
        // Distances of 64 vectors of a feature, and the force on them.
        ([64, 4096, 144], [false, true]),
        ([64, 144, 4096], [false, false]),
        // Few rows: the modulation.
        ([160, 128, 768], [false, true]),
    ];
    // Rows, inputs, outputs.
    let layers = [[8480, 128, 384], [1088, 768, 2304], [1088, 2048, 768], [160, 128, 768], [64, 768, 4608]];
    let layers = layers.iter().flat_map(|&sizes| layer(sizes).in_passes(&[Pass::Forward, Pass::Training]));
    products.into_iter().map(|(sizes, transposed)| product(sizes, transposed)).chain(layers).collect()
}

fn product([m, k, n]: [usize; 3], transposed: [bool; 2]) -> Case {
    let turned = |rows: usize, columns: usize, turn: bool| if turn { [columns, rows] } else { [rows, columns] };
    let mark = |turn: bool| if turn { "T" } else { "" };
    let open = move || {
        let a = Input::normal("a", &turned(m, k, transposed[0]), 1.0).tensor();
        let b = Input::normal("b", &turned(k, n, transposed[1]), 1.0).tensor();
        let inputs = Tensors::from([("a".to_owned(), a.clone()), ("b".to_owned(), b.clone())]);
        let once = Box::new(move || {
            let (a, b) = (Values::of(&a).unwrap(), Values::of(&b).unwrap());
            let view = |values, rows, columns, turn| match turn {
                true => Matrix::new(values, columns, rows).t(),
                false => Matrix::new(values, rows, columns),
            };
            let mut y = vec![0.0; m * n];
            matmul(&mut y, view(&a, m, k, transposed[0]), view(&b, k, n, transposed[1]), 1.0, Threads::All);
            Tensors::from([("y".to_owned(), Tensor::from_vec(y, (m, n), &Device::Cpu).unwrap())])
        });
        Contender { inputs, once, timed: None }
    };
    Case {
        op: "matrix product",
        peer: "matmul",
        shape: format!("{m}x{k}{} by {k}x{n}{}", mark(transposed[0]), mark(transposed[1])),
        pass: Pass::Forward,
        settings: json!({ "transposed": transposed }),
        tracked: Vec::new(),
        open: Box::new(open),
    }
}

fn layer([rows, from, to]: [usize; 3]) -> Graph {
    Graph {
        op: "linear layer",
        peer: "linear",
        shape: format!("{rows} rows, {from} to {to}"),
        settings: json!({}),
        inputs: vec![
            Input::normal("x", &[rows, from], 1.0),
            Input::normal("weight", &[to, from], (from as f32).powf(-0.5)),
            Input::normal("bias", &[to], 0.1),
        ],
        run: Rc::new(|t| linear(&t[0], &t[1], &t[2])),
    }
}
