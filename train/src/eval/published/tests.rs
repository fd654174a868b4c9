use drifting_models::nn::Source;
use drifting_spec::Stream;

use super::*;

fn pixels(count: usize, channels: usize, side: usize) -> Pixels {
    let mut stream = Stream::new(1, "pixels", 0);
    let levels: Vec<u8> = (0..count * channels * side * side).map(|_| stream.below(256) as u8).collect();
    Pixels { images: Tensor::from_vec(levels, (count, channels, side, side), &Device::Cpu).unwrap() }
}

fn resnet56() -> Published {
    Published::resnet56(Path::new("../tests/weights/cifar10-resnet56-4bfd9763.safetensors")).unwrap()
}

fn lite0() -> Published {
    Published(Kind::Lite0(EfficientNetLite0::new(Source::Seed(1), 32, &Device::Cpu).unwrap()))
}

fn inception(variant: Variant, preparation: Preparation) -> Published {
    let network = Inception::new(variant, Source::Seed(1), preparation, &Device::Cpu).unwrap();
    Published(Kind::Inception { network, variant, preparation })
}

/// Asserts that an image's numbers do not depend on its batch, and have the lengths that the network tells.
fn alike(network: &Published, images: &Pixels, index: usize) {
    let many = network.look(images).unwrap();
    let alone = network.look(&Pixels { images: images.images.narrow(0, index, 1).unwrap() }).unwrap();
    let count = images.images.dim(0).unwrap();
    assert_eq!(many.features.dims(), [count, network.features()]);
    assert_eq!(many.logits.dims(), [count, network.classes()]);
    for (many, alone) in [(&many.features, &alone.features), (&many.logits, &alone.logits)] {
        let [many, alone] = [&many.narrow(0, index, 1).unwrap(), alone].map(|tensor| tensor.to_vec2::<f32>().unwrap());
        let largest = alone[0].iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let worst = many[0].iter().zip(&alone[0]).map(|(l, r)| (l - r).abs()).fold(0.0, f32::max);
        assert!(worst <= 1e-5 * largest, "{}: {worst} of {largest}", network.name());
    }
}

#[test]
fn an_image_does_not_depend_on_its_batch() {
    alike(&resnet56(), &pixels(253, 3, 32), 251);
    alike(&lite0(), &pixels(252, 3, 32), 250);
    alike(&inception(Variant::Fid, Preparation::Tensorflow), &pixels(17, 1, 20), 16);
}

#[test]
fn only_the_published_weights_give_a_fid() {
    for preparation in [Preparation::Tensorflow, Preparation::PytorchFid] {
        let network = inception(Variant::Fid, preparation);
        assert_eq!((network.name(), network.distance_name().as_str()), ("fd-inception", "fd-inception"));
    }
    assert_eq!((inception_name("6726825d0af5"), inception_name("0cc3c7bd")), ("inception", "fd-inception"));
    let torchvision = inception(Variant::Torchvision, Preparation::PytorchFid);
    assert_eq!(torchvision.distance_name(), "fd-inception-torchvision");
    assert_eq!((resnet56().distance_name(), lite0().distance_name()), ("fd-resnet56".into(), "fd-lite0".into()));
}

#[test]
fn preparations_tell_networks_apart() {
    let networks = [
        inception(Variant::Fid, Preparation::Tensorflow),
        inception(Variant::Fid, Preparation::PytorchFid),
        inception(Variant::Torchvision, Preparation::PytorchFid),
        resnet56(),
        lite0(),
    ];
    let mut words: Vec<String> = networks.iter().map(Network::preparation).collect();
    words.sort();
    words.dedup();
    assert_eq!(words.len(), networks.len(), "{words:?}");
}

#[test]
fn grey_is_three_equal_colours() {
    let grey = pixels(2, 1, 32);
    let colours = Pixels { images: grey.images.repeat((1, 3, 1, 1)).unwrap() };
    let network = resnet56();
    let [grey, colours] =
        [grey, colours].map(|images| network.look(&images).unwrap().features.to_vec2::<f32>().unwrap());
    assert_eq!(grey, colours);
}

#[test]
fn what_cannot_be_looked_at_is_an_error() {
    let error = resnet56().look(&pixels(1, 3, 28)).unwrap_err().to_string();
    assert_eq!(error, "resnet56: images of 28 x 28, expected 32 x 32");
    let error = lite0().look(&pixels(1, 2, 32)).unwrap_err().to_string();
    assert_eq!(error, "lite0: images [1, 2, 32, 32], expected [n, 1 or 3, height, width]");
}

#[test]
fn a_missing_file_says_which_is_meant() {
    let nowhere = Path::new("nowhere.pth");
    let errors = [
        (Published::inception(nowhere, Preparation::Tensorflow), "pt_inception-2015-12-05-6726825d.pth"),
        (Published::inception_torchvision(nowhere), "inception_v3_google-0cc3c7bd.pth"),
        (Published::resnet56(nowhere), "resnet56-4bfd9763.th"),
        (Published::lite0(nowhere, 96), "tools/fetch-weights lite0"),
    ];
    for (network, expected) in errors {
        let error = network.unwrap_err().to_string();
        assert!(error.starts_with("nowhere.pth: is not there") && error.contains(expected), "{error}");
    }
}
