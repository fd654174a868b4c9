//! Images to patch tokens and back; numbers inside a patch are in the order row, column, channel.

use candle_core::Tensor;
use drifting_spec::GeneratorConfig;

use crate::{Result, ops};

/// `[batch, channels, height, width]` to `[batch, patches, patch * patch * channels]`, patches row by row.
pub(super) fn cut(image: &Tensor, config: &GeneratorConfig) -> Result<Tensor> {
    let (batch, (rows, columns), patch) = (image.dim(0)?, config.grid(), config.patch);
    let parts = image.reshape(&[batch, config.image.channels, rows, patch, columns, patch][..])?;
    Ok(ops::permute(&parts, &[0, 2, 4, 3, 5, 1])?.reshape((batch, config.patches(), config.patch_len()))?)
}

/// The inverse of [`cut`].
pub(super) fn join(tokens: &Tensor, config: &GeneratorConfig) -> Result<Tensor> {
    let (batch, (rows, columns), patch) = (tokens.dim(0)?, config.grid(), config.patch);
    let parts = tokens.reshape(&[batch, rows, columns, patch, patch, config.image.channels][..])?;
    let shape = config.image;
    Ok(ops::permute(&parts, &[0, 5, 1, 3, 2, 4])?.reshape((batch, shape.channels, shape.height, shape.width))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use drifting_spec::ImageShape;

    #[test]
    fn a_patch_holds_rows_then_columns_then_channels() {
        let config = GeneratorConfig::new(ImageShape { channels: 2, height: 4, width: 6 }, 2, 8, 1, 1, 1);
        let image = Tensor::arange(0u32, 96, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
        let image = image.reshape((2, 2, 4, 6)).unwrap();
        let tokens = cut(&image, &config).unwrap();
        assert_eq!(tokens.dims(), [2, 6, 8]);
        // Patch (0, 1): columns 2 and 3 of rows 0 and 1; channels lie 24 apart.
        let patch = tokens.get(0).unwrap().get(1).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(patch, [2., 26., 3., 27., 8., 32., 9., 33.]);
        let back = join(&tokens, &config).unwrap();
        assert_eq!(back.to_vec3_of_first(), image.to_vec3_of_first());
    }

    trait First {
        fn to_vec3_of_first(&self) -> Vec<Vec<Vec<f32>>>;
    }

    impl First for Tensor {
        fn to_vec3_of_first(&self) -> Vec<Vec<Vec<f32>>> {
            self.get(1).unwrap().to_vec3().unwrap()
        }
    }
}
