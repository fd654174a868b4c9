//! Operations on numbers by themselves or in rows.

use std::rc::Rc;

use candle_core::{Device, Tensor};
use drifting_models::ops::simd::{self, Kernel, dispatch_kernel};
use drifting_models::ops::{PIECE, Values, gelu, silu, written};
use serde_json::json;

use crate::case::{Case, Contender, Pass, Tensors};
use crate::graph::{Graph, Run};
use crate::input::Input;

const FROZEN: [Pass; 2] = [Pass::Forward, Pass::Frozen];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![rows("exp", "exp", [4096, 1024])];
    // Weights of the attention of fashion and of size B, affinities of a feature.
    cases.extend([[33_920, 53], [13_056, 272], [4096, 144]].map(|sizes| rows("softmax", "softmax", sizes)));
    let activations: [(_, _, Run); 2] =
        [("SiLU", "silu", Rc::new(|t| silu(&t[0]))), ("GELU", "gelu", Rc::new(|t| gelu(&t[0])))];
    for (op, peer, run) in activations {
        let shape = "8x196x2048".to_owned();
        let inputs = vec![Input::normal("x", &[8, 196, 2048], 1.0)];
        let graph = Graph { op, peer, shape, settings: json!({}), inputs, run };
        cases.extend(graph.in_passes(&FROZEN));
    }
    cases
}

/// A function of each row out of `ops::simd`, as larger operations have it inside.
fn rows(op: &'static str, peer: &'static str, [rows, columns]: [usize; 2]) -> Case {
    let open = move || {
        let x = Input::normal("x", &[rows, columns], 3.0).tensor();
        let inputs = Tensors::from([("x".to_owned(), x.clone())]);
        let piece = PIECE.div_ceil(columns) * columns;
        let once = Box::new(move || {
            let x = Values::of(&x).unwrap();
            let x: &[f32] = &x;
            let [y] = written(x.len(), piece, |start, [y]| {
                let x = &x[start..][..y.len()];
                match op {
                    "exp" => dispatch_kernel(Exp(x, y)),
                    _ => {
                        y.copy_from_slice(x);
                        dispatch_kernel(Softmax(columns, y));
                    }
                }
            });
            Tensors::from([("y".to_owned(), Tensor::from_vec(y, (rows, columns), &Device::Cpu).unwrap())])
        });
        Contender { inputs, once, timed: None }
    };
    Case {
        op,
        peer,
        shape: format!("{rows} rows of {columns}"),
        pass: Pass::Forward,
        settings: json!({}),
        tracked: Vec::new(),
        open: Box::new(open),
    }
}

struct Exp<'a>(&'a [f32], &'a mut [f32]);

impl Kernel for Exp<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.1.iter_mut().zip(self.0).for_each(|(y, x)| *y = simd::exp(*x));
    }
}

/// Of rows of so many numbers, in place.
struct Softmax<'a>(usize, &'a mut [f32]);

impl Kernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for row in self.1.chunks_exact_mut(self.0) {
            simd::softmax(row);
        }
    }
}
