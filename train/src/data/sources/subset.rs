//! Some of the images of another source.

use std::sync::Arc;

use drifting_spec::ImageShape;

use super::{Checksum, Item, Source, no_such_image};
use crate::data::{DataError, Result};

/// The setting that says how many images are split off.
const HOLD_OUT: &str = "evaluation.hold_out";

/// The images of another source whose numbers are listed. They stay where they are.
#[derive(Debug)]
pub struct Subset {
    source: Arc<dyn Source>,
    indices: Vec<usize>,
    sha256: String,
}

impl Subset {
    fn new(source: Arc<dyn Source>, indices: Vec<usize>) -> Self {
        let mut checksum = Checksum::default();
        checksum.text(source.sha256().as_bytes());
        indices.iter().for_each(|&index| checksum.number(index as u64));
        Self { source, indices, sha256: checksum.hex() }
    }

    /// Splits off every `every`-th image of each class: (the rest, the split-off ones).
    ///
    /// # Errors
    /// A class with fewer than `every` images, or an `every` below 2.
    pub fn hold_out(source: &Arc<dyn Source>, every: usize) -> Result<(Self, Self)> {
        let setting = |problem| Err(DataError::Setting { key: HOLD_OUT, problem });
        if every < 2 {
            return setting(format!("{every} would leave no image to train on; at least 2"));
        }
        let mut seen = vec![0usize; source.classes().len()];
        let (mut rest, mut held) = (Vec::new(), Vec::new());
        for index in 0..source.len() {
            let Some(count) = seen.get_mut(source.label(index)) else { continue };
            *count += 1;
            if count.is_multiple_of(every) { held.push(index) } else { rest.push(index) }
        }
        if let Some((name, count)) = source.classes().iter().zip(seen).find(|(_, count)| *count < every) {
            return setting(format!("{every} is more than the {count} images of class {name}"));
        }
        Ok((Self::new(Arc::clone(source), rest), Self::new(Arc::clone(source), held)))
    }
}

impl Source for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn classes(&self) -> &[String] {
        self.source.classes()
    }

    fn label(&self, index: usize) -> usize {
        self.indices.get(index).map_or(0, |&index| self.source.label(index))
    }

    fn name(&self, index: usize) -> String {
        self.indices.get(index).map_or_else(|| format!("image {index}"), |&index| self.source.name(index))
    }

    fn versions(&self) -> usize {
        self.source.versions()
    }

    fn shape(&self) -> Option<ImageShape> {
        self.source.shape()
    }

    fn in_memory(&self) -> bool {
        self.source.in_memory()
    }

    fn read(&self, index: usize, version: usize) -> Result<Item> {
        match self.indices.get(index) {
            Some(&index) => self.source.read(index, version),
            None => Err(no_such_image(self, index)),
        }
    }

    fn sha256(&self) -> &str {
        &self.sha256
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::levels;
    use super::*;
    use crate::data::Dataset;

    fn source() -> Arc<dyn Source> {
        let shape = ImageShape { channels: 1, height: 1, width: 1 };
        let names = vec!["cat".into(), "dog".into()];
        Arc::new(Dataset::new(shape, (0..7).collect(), vec![0, 0, 0, 1, 0, 1, 1], names).unwrap())
    }

    #[test]
    fn held_out_images_come_from_every_class_and_are_not_trained_on() {
        let source = source();
        let (rest, held) = Subset::hold_out(&source, 3).unwrap();
        assert_eq!(
            (levels(&held), levels(&rest)),
            (vec![(2, 0), (6, 1)], vec![(0, 0), (1, 0), (3, 1), (4, 0), (5, 1)])
        );
        assert_eq!((rest.classes(), held.name(1)), (source.classes(), source.name(6)));
        assert!(rest.sha256() != held.sha256() && rest.sha256() != source.sha256());
        assert!(rest.read(5, 0).is_err());
    }

    #[test]
    fn classes_that_are_too_small_are_named() {
        let problem = |every| Subset::hold_out(&source(), every).unwrap_err().to_string();
        assert_eq!(problem(4), "evaluation.hold_out: 4 is more than the 3 images of class dog");
        assert!(problem(1).starts_with("evaluation.hold_out: 1 would leave no image"));
    }
}
