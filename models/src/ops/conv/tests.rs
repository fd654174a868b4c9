use super::super::testing::{agrees, random};
use super::*;
use candle_core::{Device, Var};

/// Images `[n, height, width, channels]` and a weight `[kernel, kernel, channels / groups, outputs]`.
type Case = ([usize; 4], [usize; 4], Conv);

fn cases() -> Vec<Case> {
    let uneven = Conv { stride: 2, padding: Padding { top: 0, bottom: 1, left: 2, right: 1 }, groups: 1 };
    vec![
        ([2, 5, 4, 3], [3, 3, 3, 5], Conv::new(1, 1)),
        ([3, 6, 5, 2], [3, 3, 2, 4], Conv::new(2, 1)),
        ([2, 6, 6, 2], [3, 3, 2, 4], uneven),
        ([2, 4, 3, 5], [1, 1, 5, 4], Conv::new(1, 0)),
        ([2, 5, 5, 3], [1, 1, 3, 2], Conv::new(2, 0)),
        ([1, 4, 4, 2], [2, 2, 2, 3], Conv::new(2, 0)),
        ([1, 3, 3, 2], [1, 1, 2, 2], Conv::new(1, 2)),
        ([2, 9, 40, 1], [3, 3, 1, 2], Conv::new(1, 1)),
        ([2, 33, 24, 1], [3, 3, 1, 2], Conv::new(2, 1)),
        // Outputs of whole vectors, of which some are left out at the end, and runs that are cut.
        ([3, 7, 5, 32], [3, 3, 32, 32], Conv::new(1, 1)),
        ([2, 5, 6, 96], [3, 3, 96, 64], Conv::new(2, 1)),
        ([1, 4, 3, 300], [3, 3, 300, 64], Conv::new(1, 1)),
        ([5, 2, 2, 64], [3, 3, 64, 128], uneven),
        ([2, 4, 4, 16], [1, 1, 16, 64], Conv::new(1, 0)),
        ([2, 5, 5, 16], [1, 1, 16, 32], Conv::new(2, 0)),
        ([2, 5, 6, 32], [1, 1, 32, 16], Conv::new(1, 0)),
        ([3, 7, 8, 16], [5, 5, 16, 8], Conv::new(3, 2)),
        ([2, 6, 7, 32], [2, 2, 32, 16], Conv::new(2, 1)),
        ([2, 5, 9, 16], [3, 3, 16, 4], Conv::new(1, 3)),
        ([1, 4, 5, 16], [2, 2, 16, 3], Conv::new(3, 0)),
        ([2, 6, 5, 4], [3, 3, 1, 4], Conv::depthwise(4, 1)),
        ([1, 5, 4, 3], [7, 7, 1, 3], Conv::depthwise(3, 3)),
        ([1, 3, 4, 83], [3, 3, 1, 83], Conv::depthwise(83, 1)),
        ([2, 9, 8, 32], [7, 7, 1, 32], Conv::depthwise(32, 3)),
        ([1, 3, 17, 16], [3, 3, 1, 16], Conv::depthwise(16, 1)),
        ([1, 4, 2, 16], [1, 1, 1, 16], Conv { padding: Padding { left: 9, ..0.into() }, ..Conv::depthwise(16, 0) }),
        ([2, 7, 9, 16], [3, 3, 1, 16], Conv { stride: 2, ..Conv::depthwise(16, 1) }),
        ([2, 6, 6, 3], [3, 3, 1, 3], Conv { stride: 2, ..Conv::depthwise(3, 1) }),
    ]
}

#[test]
fn agrees_with_candle() {
    for (images, kernel, conv) in cases() {
        let inputs = [random("x", &images), random("weight", &kernel), random("bias", &kernel[3..])];
        let (ours, theirs) = (conv2d, plain);
        agrees(&inputs, |t| ours(&t[0], &t[1], Some(&t[2]), conv), |t| theirs(&t[0], &t[1], Some(&t[2]), conv));
        agrees(&inputs[..2], |t| ours(&t[0], &t[1], None, conv), |t| theirs(&t[0], &t[1], None, conv));
    }
}

#[test]
fn tensor_operations_agree_with_candle() {
    for (images, kernel, conv) in cases().into_iter().filter(|(.., conv)| conv.groups == 1) {
        let inputs = [random("x", &images), random("weight", &kernel), random("bias", &kernel[3..])];
        let ours = |t: &[Tensor]| {
            let geometry = Geometry::new(t[0].dims4()?, t[1].dims4()?, conv)?;
            super::super::tensors::convolution(geometry, &t[0], &t[1], t.get(2))
        };
        agrees(&inputs, ours, |t| plain(&t[0], &t[1], Some(&t[2]), conv));
        agrees(&inputs[..2], ours, |t| plain(&t[0], &t[1], None, conv));
    }
}

#[test]
fn the_result_has_the_size_that_it_should() {
    // A 3 x 3 kernel of ones over ones counts the pixels under it.
    let (x, weight) = (Tensor::ones((1, 3, 4, 1), DType::F32, &Device::Cpu), random("w", &[3, 3, 1, 1]));
    weight.set(&weight.ones_like().unwrap()).unwrap();
    let y = conv2d(&x.unwrap(), &weight, None, Conv::new(1, 1)).unwrap();
    let counts = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(counts, [4.0, 6.0, 6.0, 4.0, 6.0, 9.0, 9.0, 6.0, 4.0, 6.0, 6.0, 4.0]);
    let none = conv2d(&random("x", &[0, 3, 4, 1]), &weight, None, Conv::new(1, 1)).unwrap();
    assert_eq!(none.dims(), [0, 3, 4, 1]);
}

#[test]
fn only_tracked_inputs_have_gradients() {
    let tensors = || [random("x", &[1, 4, 4, 2]), random("weight", &[3, 3, 2, 2]), random("bias", &[2])];
    for tracked in 0..3 {
        let vars = tensors();
        let t: Vec<Tensor> = vars
            .iter()
            .enumerate()
            .map(|(i, v)| if i == tracked { v.as_tensor().clone() } else { v.detach() })
            .collect();
        let y = conv2d(&t[0], &t[1], Some(&t[2]), Conv::new(1, 1)).unwrap();
        let gradients = y.sum_all().unwrap().backward().unwrap();
        let found: Vec<bool> = t.iter().map(|t| gradients.get(t).is_some()).collect();
        assert_eq!(found, [tracked == 0, tracked == 1, tracked == 2]);
    }
}

/// All numbers of the result and of the gradients, bit by bit.
fn bits(inputs: &[Var; 3], conv: Conv) -> Vec<u32> {
    let y = conv2d(&inputs[0], &inputs[1], Some(&inputs[2]), conv).unwrap();
    let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let tensors = inputs.iter().map(|input| gradients.get(input).unwrap()).chain([&y]);
    tensors.flat_map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap()).map(f32::to_bits).collect()
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for conv in [Conv::new(1, 1), Conv::new(2, 1), Conv::depthwise(8, 1)] {
        let inputs = [random("x", &[40, 9, 9, 8]), random("weight", &[3, 3, 8 / conv.groups, 8]), random("bias", &[8])];
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bits(&inputs, conv))
        };
        assert!(with(1) == with(3), "{conv:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let x = random("x", &[1, 4, 4, 4]);
    let refused = |weight: &[usize], bias: usize, conv| {
        conv2d(&x, &random("w", weight), Some(&random("b", &[bias])), conv).unwrap_err().to_string()
    };
    assert!(refused(&[3, 3, 4, 2], 3, Conv::new(1, 1)).contains("bias [3]"));
    assert!(refused(&[3, 3, 3, 2], 2, Conv::new(1, 1)).contains("weight [3, 3, 3, 2]"));
    assert!(refused(&[3, 2, 4, 2], 2, Conv::new(1, 1)).contains("weight [3, 2, 4, 2]"));
    assert!(refused(&[5, 5, 4, 2], 2, Conv::new(1, 0)).contains("kernel 5"));
    assert!(refused(&[3, 3, 4, 2], 2, Conv::new(0, 1)).contains("stride 0"));
    assert!(refused(&[3, 3, 2, 4], 4, Conv { groups: 2, ..Conv::new(1, 1) }).contains("2 groups"));
    let doubles = random("w", &[3, 3, 4, 2]).to_dtype(DType::F64).unwrap();
    assert!(conv2d(&x, &doubles, None, Conv::new(1, 1)).unwrap_err().to_string().contains("f32"));
}

/// Whatever way of computing is chosen, an image is convolved as if it were alone.
#[test]
fn an_image_does_not_depend_on_its_batch() {
    for (side, channels, outputs) in [(8, 32, 32), (7, 32, 64), (5, 64, 128), (33, 32, 32)] {
        let (x, weight) = (random("x", &[7, side, side, channels]), random("w", &[3, 3, channels, outputs]));
        let whole = |x: &Tensor| {
            let x = Var::from_tensor(x).unwrap();
            let y = conv2d(&x, &weight.detach(), None, Conv::new(1, 1)).unwrap();
            let dx = y.sqr().unwrap().sum_all().unwrap().backward().unwrap().remove(&x).unwrap();
            [y, dx].map(|t| t.flatten_from(1).unwrap().to_vec2::<f32>().unwrap())
        };
        let together = whole(&x);
        for image in 0..7 {
            let alone = whole(&x.narrow(0, image, 1).unwrap());
            for (alone, together) in alone.iter().zip(&together) {
                let differing = alone[0].iter().zip(&together[image]).filter(|(a, b)| a != b).count();
                assert_eq!(differing, 0, "{side} {channels} {outputs}: image {image}");
            }
        }
    }
}
