//! Images that come with the program.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Result;
use super::idx::{self, Idx};

/// A data set inside the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Embedded {
    /// The first 500 training and 100 test images of each of the ten classes of Fashion-MNIST, 28 x 28, grey.
    /// Made by `tools/embed-fashion-mnist.py`; MIT licence of Zalando SE, in `train/assets/fashion-mnist`.
    #[default]
    FashionMnist,
}

/// Names of the classes of Fashion-MNIST.
pub(super) const FASHION_MNIST_CLASSES: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// SHA-256 of the labels of all 60,000 training images: by it the published set is recognised, and its classes named.
pub(super) const FASHION_MNIST_LABELS: &str = "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7";

const TRAIN: [&[u8]; 2] = [
    include_bytes!("../../assets/fashion-mnist/train-images-idx3-ubyte.gz"),
    include_bytes!("../../assets/fashion-mnist/train-labels-idx1-ubyte.gz"),
];
const TEST: [&[u8]; 2] = [
    include_bytes!("../../assets/fashion-mnist/t10k-images-idx3-ubyte.gz"),
    include_bytes!("../../assets/fashion-mnist/t10k-labels-idx1-ubyte.gz"),
];

impl Embedded {
    /// Name as it is written in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FashionMnist => "fashion-mnist",
        }
    }

    pub(super) fn classes(self) -> Vec<String> {
        match self {
            Self::FashionMnist => FASHION_MNIST_CLASSES.map(String::from).into(),
        }
    }

    /// Images and labels of the training or the test part.
    pub(super) fn read(self, test: bool) -> Result<(Idx, Idx)> {
        let [images, labels] = match (self, test) {
            (Self::FashionMnist, false) => TRAIN,
            (Self::FashionMnist, true) => TEST,
        };
        let name = Path::new(self.name());
        Ok((idx::decode(images, 3, name)?, idx::decode(labels, 1, name)?))
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::super::dataset::hex;
    use super::*;

    /// What `tools/embed-fashion-mnist.py` prints.
    #[test]
    fn the_bytes_are_those_of_the_script() {
        let checksum = |idx: &Idx| hex(&Sha256::digest(idx.encode()));
        let (images, labels) = Embedded::FashionMnist.read(false).unwrap();
        assert_eq!(images.dims, [5000, 28, 28]);
        assert_eq!(checksum(&images), "1612eae261dac773086cc5b424ec93e40de0f6c8db05b1bd0c44920634473849");
        assert_eq!(checksum(&labels), "704256e87519240fd1d7ecdf681fe209864691e252c6642aeadc21f3c4d44b41");
        let (images, labels) = Embedded::FashionMnist.read(true).unwrap();
        assert_eq!(images.dims, [1000, 28, 28]);
        assert_eq!(checksum(&images), "dcaa16d61c233d8bc40c9ee556a945ca769ce3f9d67971fdb036fbed48341bf0");
        assert_eq!(checksum(&labels), "269ecbc6b9d1255bfaf6a62a1eba208034491ca4df872ab8c3531975085962c3");
    }
}
