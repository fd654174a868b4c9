use super::super::testing::{agrees, random, same};
use super::*;

fn layer(kernel: [usize; 4], stride: usize, relu: bool) -> ConvNorm {
    ConvNorm { kernel, conv: Conv::new(stride, kernel[0] / 2), norm: GroupNorm { groups: 2, eps: 1e-6, relu } }
}

fn chains() -> Vec<ConvChain> {
    let basic = vec![layer([3, 3, 4, 4], 1, true), layer([3, 3, 4, 4], 1, false)];
    let wider = vec![layer([3, 3, 4, 6], 2, true), layer([3, 3, 6, 6], 1, false)];
    vec![
        ConvChain { layers: vec![layer([3, 3, 4, 6], 1, true)], skip: Skip::None },
        ConvChain { layers: basic.clone(), skip: Skip::None },
        ConvChain { layers: basic, skip: Skip::Identity },
        ConvChain { layers: wider, skip: Skip::Projection(layer([1, 1, 4, 6], 2, false)) },
        ConvChain {
            layers: vec![layer([1, 1, 4, 2], 1, true), layer([3, 3, 2, 2], 1, true), layer([1, 1, 2, 4], 1, false)],
            skip: Skip::Identity,
        },
    ]
}

fn parameters(chain: &ConvChain) -> candle_core::Var {
    random("parameters", &[chain.all().map(ConvNorm::len).sum()])
}

#[test]
fn agrees_with_plain_operations() {
    for chain in chains() {
        // As many images as take more than one step, the last not full.
        let inputs = [random("x", &[35, 5, 6, 4]), parameters(&chain)];
        same(&inputs, &|t| conv_chain(&t[0], &t[1], &chain), &|t| plain(&t[0], &t[1], &chain));
    }
    // Without ReLU there are slopes to hold the gradients against.
    let layers = vec![layer([3, 3, 4, 6], 2, false), layer([1, 1, 6, 4], 1, false)];
    let smooth = ConvChain { layers, skip: Skip::None };
    let inputs = [random("x", &[2, 5, 6, 4]), parameters(&smooth)];
    agrees(&inputs, |t| conv_chain(&t[0], &t[1], &smooth), |t| plain(&t[0], &t[1], &smooth));
}

#[test]
fn constant_parameters_give_the_same_gradient_of_the_images() {
    for chain in chains() {
        let (x, parameters) = (random("x", &[3, 4, 4, 4]), parameters(&chain));
        let gradient = |parameters: &Tensor| {
            let y = conv_chain(&x, parameters, &chain).unwrap();
            let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let values = gradients.get(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            (values, gradients.get(parameters).is_some())
        };
        let (frozen, none) = gradient(&parameters.as_tensor().detach());
        let (trained, some) = gradient(parameters.as_tensor());
        assert_eq!(frozen, trained);
        assert!(!none && some);
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for chain in chains() {
        let inputs = [random("x", &[35, 5, 6, 4]), parameters(&chain)];
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let y = conv_chain(&inputs[0], &inputs[1], &chain).unwrap();
                let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                let all = inputs.iter().map(|input| gradients.get(input).unwrap()).chain([&y]);
                all.flat_map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap())
                    .map(f32::to_bits)
                    .collect::<Vec<_>>()
            })
        };
        assert!(with(1) == with(3));
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let chain = &chains()[2];
    let x = random("x", &[2, 5, 6, 4]);
    assert!(conv_chain(&x, &random("parameters", &[7]), chain).is_err());
    let none = ConvChain { layers: Vec::new(), skip: Skip::Identity };
    assert!(conv_chain(&x, &random("none", &[0]), &none).is_err());
    assert!(conv_chain(&random("x", &[2, 5, 6, 3]), &parameters(chain), chain).is_err());
    let narrowing = ConvChain { layers: vec![layer([3, 3, 4, 6], 1, true)], skip: Skip::Identity };
    let error = conv_chain(&x, &parameters(&narrowing), &narrowing).unwrap_err().to_string();
    assert!(error.contains("a residual connection from (2, 5, 6, 4) to (2, 5, 6, 6)"), "{error}");
}

/// Where no stride leaves pixels out, not even in the last bits.
#[test]
fn an_image_does_not_depend_on_its_batch() {
    let layers = vec![layer([3, 3, 32, 32], 1, true), layer([3, 3, 32, 32], 1, false)];
    for chain in [ConvChain { layers: layers.clone(), skip: Skip::Identity }, ConvChain { layers, skip: Skip::None }] {
        let parameters = parameters(&chain).as_tensor().detach();
        for side in [2, 4, 7, 8, 16] {
            let x = random("x", &[11, side, side, 32]);
            let whole = |x: &Tensor| {
                let x = candle_core::Var::from_tensor(x).unwrap();
                let y = conv_chain(&x, &parameters, &chain).unwrap();
                let dx = y.sqr().unwrap().sum_all().unwrap().backward().unwrap().remove(&x).unwrap();
                [y, dx].map(|t| t.flatten_from(1).unwrap().to_vec2::<f32>().unwrap())
            };
            let together = whole(&x);
            for image in 0..11 {
                let alone = whole(&x.narrow(0, image, 1).unwrap());
                for (what, (alone, together)) in alone.iter().zip(&together).enumerate() {
                    let differing = alone[0].iter().zip(&together[image]).filter(|(a, b)| a != b).count();
                    assert_eq!(differing, 0, "side {side}, image {image}, {what}");
                }
            }
        }
    }
}
