use super::super::testing::{agrees, random, same};
use super::super::{Conv, GroupNorm};
use super::*;
use candle_core::Var;

type Op = dyn Fn(&Tensor, &[NormedConv<'_>], Option<NormedConv<'_>>) -> Result<Tensor>;

/// Layers of a body and perhaps of a skip: weights, and how they move and normalise.
struct Case {
    x: Vec<usize>,
    body: Vec<([usize; 4], Conv, usize)>,
    skip: Option<([usize; 4], Conv, usize)>,
    /// Whether ReLU follows the body's layers.
    relu: bool,
}

impl Case {
    /// x, then weight, scale and bias of every layer.
    fn inputs(&self) -> Vec<Var> {
        let layers = self.body.iter().chain(&self.skip).enumerate();
        let tensors = layers.flat_map(|(i, (weight, ..))| {
            let name = |part: &str| format!("{part} {i}");
            let outputs = &weight[3..];
            [random(&name("weight"), weight), random(&name("scale"), outputs), random(&name("bias"), outputs)]
        });
        std::iter::once(random("x", &self.x)).chain(tensors).collect()
    }

    fn run(
        &self,
        t: &[Tensor],
        op: impl Fn(&Tensor, &[NormedConv<'_>], Option<NormedConv<'_>>) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let settings =
            self.body.iter().map(|layer| (layer, self.relu)).chain(self.skip.iter().map(|layer| (layer, false)));
        let mut layers: Vec<NormedConv<'_>> = t[1..]
            .chunks(3)
            .zip(settings)
            .map(|(t, (&(_, conv, groups), relu))| {
                let norm = GroupNorm { groups, eps: 1e-6, relu };
                NormedConv { weight: &t[0], scale: &t[1], bias: &t[2], conv, norm }
            })
            .collect();
        let skip = if self.skip.is_some() { layers.pop() } else { None };
        op(&t[0], &layers, skip)
    }
}

fn cases() -> Vec<Case> {
    let (same, down, point) = (Conv::new(1, 1), Conv::new(2, 1), Conv::new(1, 0));
    let layer = |side, from, to, conv, groups| ([side, side, from, to], conv, groups);
    vec![
        Case {
            x: vec![2, 5, 4, 4],
            body: vec![layer(3, 4, 6, same, 2), layer(3, 6, 4, same, 4)],
            skip: None,
            relu: true,
        },
        Case {
            x: vec![3, 6, 6, 3],
            body: vec![layer(3, 3, 4, down, 2), layer(3, 4, 4, same, 1)],
            skip: Some(layer(1, 3, 4, Conv::new(2, 0), 2)),
            relu: true,
        },
        // More than one step, the last not full; a bottleneck.
        Case {
            x: vec![35, 4, 4, 4],
            body: vec![layer(1, 4, 2, point, 1), layer(3, 2, 2, same, 1), layer(1, 2, 4, point, 2)],
            skip: None,
            relu: true,
        },
    ]
}

#[test]
fn agrees_with_single_operations() {
    for case in cases() {
        let inputs = case.inputs();
        let fused = |t: &[Tensor]| case.run(t, residual);
        let twin = |t: &[Tensor]| case.run(t, |x, body, skip| plain(x, body, skip, true));
        same(&inputs, &fused, &twin);
        let first = |t: &[Tensor]| case.run(t, |x, body, _| normed_conv(x, body[0]));
        let twin = |t: &[Tensor]| case.run(t, |x, body, _| plain(x, &body[..1], None, false));
        same(&inputs[..4], &|t| first(&with_rest(t, &inputs)), &|t| twin(&with_rest(t, &inputs)));
    }
}

#[test]
fn gradients_are_slopes() {
    for case in cases() {
        // Without kinks: the norms' ReLU off, and the sum so far from zero that no difference crosses it.
        let case = Case { relu: false, ..case };
        let inputs = case.inputs();
        let bias = &inputs[3 * case.body.len()];
        let signs: Vec<f32> = (0..bias.elem_count()).map(|i| if i % 3 == 0 { -20.0 } else { 20.0 }).collect();
        bias.set(&Tensor::from_vec(signs, bias.shape(), bias.device()).unwrap()).unwrap();
        agrees(&inputs, |t| case.run(t, residual), |t| case.run(t, |x, body, skip| plain(x, body, skip, true)));
    }
}

/// The first inputs from `t`, the others as they are.
fn with_rest(t: &[Tensor], inputs: &[Var]) -> Vec<Tensor> {
    t.iter().cloned().chain(inputs[t.len()..].iter().map(|input| input.as_tensor().clone())).collect()
}

#[test]
fn only_tracked_inputs_have_gradients() {
    for case in cases() {
        let vars = case.inputs();
        let gradients = |tracked: fn(usize) -> bool| {
            let t: Vec<Tensor> = vars
                .iter()
                .enumerate()
                .map(|(i, var)| if tracked(i) { var.as_tensor().clone() } else { var.detach() })
                .collect();
            let found = case.run(&t, residual).unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();
            t.iter()
                .map(|t| found.get(t).map(|g| g.flatten_all().unwrap().to_vec1::<f32>().unwrap()))
                .collect::<Vec<_>>()
        };
        let (all, input, weights) = (gradients(|_| true), gradients(|i| i == 0), gradients(|i| i > 0));
        assert!(input[0] == all[0] && input[1..].iter().all(Option::is_none));
        assert!(weights[1..] == all[1..] && weights[0].is_none());
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let case = &cases()[2];
    let inputs = case.inputs();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let t: Vec<Tensor> = inputs.iter().map(|input| input.as_tensor().clone()).collect();
            let y = case.run(&t, residual).unwrap();
            let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let all = t.iter().map(|t| gradients.get(t).unwrap()).chain([&y]);
            all.flat_map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap()).map(f32::to_bits).collect::<Vec<_>>()
        })
    };
    assert!(with(1) == with(3));
}

#[test]
fn what_does_not_fit_is_refused() {
    let case = &cases()[1];
    let t: Vec<Tensor> = case.inputs().iter().map(|input| input.as_tensor().clone()).collect();
    let refused = |op: &Op| case.run(&t, op).unwrap_err().to_string();
    assert!(refused(&|x, body, _| residual(x, body, None)).contains("(3, 6, 6, 3) around"));
    assert!(refused(&|x, _, _| residual(x, &[], None)).contains("0 layers"));
    assert!(refused(&|x, body, skip| residual(x, &body[1..], skip)).contains("weight"));
    let wrong = GroupNorm { groups: 3, eps: 1e-6, relu: true };
    let with = move |x: &Tensor, body: &[NormedConv<'_>], skip: Option<NormedConv<'_>>| {
        residual(x, &[NormedConv { norm: wrong, ..body[0] }, body[1]], skip)
    };
    assert!(refused(&with).contains("3 groups"));
}
