//! Classification beside the reconstruction (method section 7.2).

use candle_core::{Result, Tensor};

/// Cross entropy of each image, `[n]`: minus the log softmax of its own class. Logits `[n, classes]`, labels `[n]` u32.
///
/// # Errors
/// A label that is no class.
pub(super) fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let largest = logits.detach().max_keepdim(1)?;
    let shifted = logits.broadcast_sub(&largest)?;
    let own = shifted.gather(&labels.unsqueeze(1)?, 1)?.squeeze(1)?;
    shifted.exp()?.sum(1)?.log()? - own
}

/// How many images have their own class as the largest logit.
///
/// # Errors
/// Only those of tensor operations.
pub(super) fn correct(logits: &Tensor, labels: &Tensor) -> Result<usize> {
    let found: Vec<u32> = logits.argmax(1)?.to_vec1()?;
    let labels: Vec<u32> = labels.to_vec1()?;
    Ok(found.iter().zip(&labels).filter(|(found, label)| found == label).count())
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn value_and_gradient_are_those_of_the_softmax() {
        let logits = Var::new(&[[1.0f32, 2.0, 4.0], [1000.0, 1000.0, 0.0]], &Device::Cpu).unwrap();
        let labels = Tensor::new(&[1u32, 0], &Device::Cpu).unwrap();
        let loss = cross_entropy(&logits, &labels).unwrap();
        let sum = 1f32.exp() + 2f32.exp() + 4f32.exp();
        let values: Vec<f32> = loss.to_vec1().unwrap();
        assert!((values[0] - (sum.ln() - 2.0)).abs() < 1e-6 && (values[1] - 2f32.ln()).abs() < 1e-6, "{values:?}");
        let gradient = loss.sum_all().unwrap().backward().unwrap().remove(&logits).unwrap().to_vec2::<f32>().unwrap();
        let expected = [[1f32.exp() / sum, 2f32.exp() / sum - 1.0, 4f32.exp() / sum], [-0.5, 0.5, 0.0]];
        for (found, expected) in gradient.concat().iter().zip(expected.concat()) {
            assert!((found - expected).abs() < 1e-6, "{gradient:?}");
        }
        assert_eq!(correct(&logits, &Tensor::new(&[2u32, 2], &Device::Cpu).unwrap()).unwrap(), 1);
    }
}
