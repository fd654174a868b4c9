//! What cuDNN is told, computed by its model, against candle's convolutions of images whose channels come first.

use candle_core::Var;
use drifting_spec::Stream;

use super::*;

/// 3 x 3 of stride 1 with as many results as pixels.
const SAME: Convolution = Convolution {
    images: 2,
    height: 5,
    width: 6,
    channels: 3,
    outputs: 7,
    side: 3,
    stride: 1,
    padding: [1, 1],
    out: [5, 6],
};

fn cases() -> [Convolution; 7] {
    [
        SAME,
        Convolution { images: 3, channels: 8, outputs: 4, stride: 2, out: [3, 3], ..SAME },
        Convolution { padding: [0, 0], out: [3, 4], ..SAME },
        Convolution { padding: [0, 2], stride: 2, out: [2, 4], ..SAME },
        Convolution { side: 1, stride: 2, padding: [0, 0], out: [3, 3], ..SAME },
        Convolution { images: 1, channels: 1, outputs: 1, side: 2, stride: 3, padding: [1, 0], out: [2, 2], ..SAME },
        Convolution { height: 1, width: 9, channels: 5, outputs: 1, side: 5, padding: [2, 4], out: [1, 13], ..SAME },
    ]
}

fn random(name: &str, shape: &[usize]) -> Var {
    let values = Stream::new(1, name, 0).normals(shape.iter().product());
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
}

fn candle(sizes: &Convolution, images: &Tensor, kernel: &Tensor) -> Tensor {
    let [rows, columns] = sizes.padding;
    let images = images.permute((0, 3, 1, 2)).unwrap();
    let images = images.pad_with_zeros(2, rows, rows).unwrap().pad_with_zeros(3, columns, columns).unwrap();
    // Without those that no patch reaches, of which candle's gradient expects as many rows as columns.
    let covered = |out: usize| (out - 1) * sizes.stride + sizes.side;
    let images = images.narrow(2, 0, covered(sizes.out[0])).unwrap().narrow(3, 0, covered(sizes.out[1])).unwrap();
    let kernel = kernel.permute((3, 2, 0, 1)).unwrap().contiguous().unwrap();
    let results = images.contiguous().unwrap().conv2d(&kernel, 0, sizes.stride, 1, 1).unwrap();
    results.permute((0, 2, 3, 1)).unwrap()
}

fn assert_close(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    assert!(found.is_contiguous(), "{what}");
    let difference = (found - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(difference < 2e-5, "{what}: {difference}");
}

#[test]
fn plans_are_candles_convolutions_there_and_back() {
    for sizes in cases() {
        assert!(sizes.fits(), "{sizes:?}");
        let images = random("images", &[sizes.images, sizes.height, sizes.width, sizes.channels]);
        let kernel = random("kernel", &[sizes.side, sizes.side, sizes.channels, sizes.outputs]);
        let gradient = random("gradient", &[sizes.images, sizes.out[0], sizes.out[1], sizes.outputs]).detach();
        let expected = candle(&sizes, &images, &kernel);
        let back = (&expected * &gradient).unwrap().sum_all().unwrap().backward().unwrap();
        let [x, w] = [&images, &kernel].map(|var| var.as_tensor().detach());
        for digits in [Digits::Single, Digits::Tf32] {
            assert_close("results", &sizes.forward(&x, &w, digits).unwrap(), &expected);
            let found = sizes.images_gradient(&w, &gradient, digits).unwrap();
            assert_close("images", &found, back.get(&images).unwrap());
            let found = sizes.kernel_gradient(&x, &gradient, digits).unwrap();
            assert_close("kernel", &found, back.get(&kernel).unwrap());
        }
    }
}

#[test]
fn tensors_may_be_views() {
    let sizes = SAME;
    let wide = random("images", &[3, 5, 6, 4]).detach();
    let turned = random("kernel", &[3, 3, 7, 3]).detach().t().unwrap();
    for x in
        [wide.narrow(0, 1, 2).unwrap().narrow(3, 1, 3).unwrap(), wide.narrow(3, 0, 3).unwrap().narrow(0, 0, 2).unwrap()]
    {
        assert_close("views", &sizes.forward(&x, &turned, Digits::Single).unwrap(), &candle(&sizes, &x, &turned));
    }
    let numbers = random("numbers", &[100]).detach();
    for (first, moved) in [(1, true), (4, false), (6, true), (8, false)] {
        let part = numbers.narrow(0, first, 20).unwrap();
        let lies = lying(&part).unwrap();
        assert_eq!(lies.layout().start_offset(), if moved { 0 } else { first });
        assert_eq!(lies.to_vec1::<f32>().unwrap(), part.to_vec1::<f32>().unwrap());
    }
}

#[test]
fn no_images_have_no_results_and_no_gradient() {
    let sizes = Convolution { images: 0, ..SAME };
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let (x, w, dy) = (zeros(&[0, 5, 6, 3]), zeros(&[3, 3, 3, 7]), zeros(&[0, 5, 6, 7]));
    assert_eq!(sizes.forward(&x, &w, Digits::Single).unwrap().dims(), [0, 5, 6, 7]);
    assert_eq!(sizes.images_gradient(&w, &dy, Digits::Single).unwrap().dims(), [0, 5, 6, 3]);
    let found = sizes.kernel_gradient(&x, &dy, Digits::Single).unwrap();
    assert_eq!(found.dims(), [3, 3, 3, 7]);
    assert!(found.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|number| *number == 0.0));
}

#[test]
fn what_cudnn_cannot_pad_or_count_does_not_fit() {
    let refused = [
        Convolution { out: [4, 6], ..SAME },
        Convolution { out: [5, 7], ..SAME },
        Convolution { stride: 0, ..SAME },
        Convolution { side: 0, ..SAME },
        Convolution { channels: 0, ..SAME },
        Convolution { padding: [1, 3], out: [5, 10], ..SAME },
        Convolution { height: 1, padding: [0, 1], out: [1, 6], ..SAME },
        Convolution { images: 1 << 31, ..SAME },
        Convolution { images: 1 << 24, ..SAME },
        Convolution { images: 0, channels: 1 << 31, ..SAME },
        Convolution { images: usize::MAX, ..SAME },
    ];
    for sizes in refused {
        assert!(!sizes.fits(), "{sizes:?}");
    }
    assert!(Convolution { images: 1 << 23, ..SAME }.fits());
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let error =
        refused[0].forward(&zeros(&[2, 5, 6, 3]), &zeros(&[3, 3, 3, 7]), Digits::Single).unwrap_err().to_string();
    assert!(error.contains("cuDNN has no convolution Convolution { images: 2"), "{error}");
    let error = |x: &Tensor, w: &Tensor| SAME.forward(x, w, Digits::Single).unwrap_err().to_string();
    let (x, w) = (zeros(&[2, 5, 6, 3]), zeros(&[3, 3, 3, 7]));
    assert!(error(&zeros(&[1, 5, 6, 3]), &w).contains("F32 [1, 5, 6, 3] in place of [2, 5, 6, 3]"));
    assert!(error(&x, &zeros(&[3, 3, 7, 3])).contains("F32 [3, 3, 3, 7] in place of [7, 3, 3, 3]"));
    assert!(error(&x.to_dtype(DType::F64).unwrap(), &w).contains("F64"));
}
