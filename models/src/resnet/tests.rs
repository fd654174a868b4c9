use candle_core::Device;

use super::*;
use crate::testing::{KINKED, gradient_is_slope, random};

#[test]
fn gradients_reach_the_images() {
    let model = Resnet56::new(Source::Seed(1), &Device::Cpu).unwrap();
    gradient_is_slope(&[1, 3, 16, 16], KINKED, |images| {
        let Judgement { features, logits } = model.forward(images)?;
        Ok(vec![features, logits])
    });
}

#[test]
fn shapes_are_as_documented() {
    let model = Resnet56::new(Source::Seed(1), &Device::Cpu).unwrap();
    let Judgement { features, logits } = model.forward(&random("images", &[2, 3, 32, 32])).unwrap();
    assert_eq!((features.dims(), logits.dims()), (&[2, Resnet56::FEATURES][..], &[2, CLASSES][..]));
    assert!(matches!(model.forward(&random("grey", &[2, 1, 32, 32])), Err(Error::Input { .. })));
}
