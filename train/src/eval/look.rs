//! One pass of a network over a set of images, and what of it is kept.

use candle_core::{DType, Tensor};
use drifting_spec::Stream;
use sha2::{Digest, Sha256};

use super::{EvalError, Gaussian, ImageSet, InceptionScore, Moments, Network, Result, Spread};

/// Images that are made and looked at together; a network may take fewer at a time.
const TOGETHER: usize = 250;

/// The images whose features are kept one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// None: mean and covariance are enough.
    Nothing,
    /// At most so many, chosen by the seed.
    Some(usize),
    /// All.
    All,
}

/// What is to be kept of a set.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Features by image.
    pub keep: Keep,
    /// The Inception Score.
    pub score: bool,
    /// Blocks of images with moments of their own, at least 1.
    pub blocks: usize,
    /// Pixels of at most so many images of each class.
    pub pictures: usize,
    /// Seed of what is chosen.
    pub seed: u64,
}

/// What was kept.
#[derive(Debug)]
pub struct Seen {
    /// Number of images.
    pub images: usize,
    /// Moments of every n-th image each; their classes come in turn, so each block has its share.
    pub blocks: Vec<Moments>,
    /// Features that were kept, `[rows, features]`; no rows for [`Keep::Nothing`].
    pub rows: Tensor,
    /// The number of the image of each row.
    pub numbers: Vec<usize>,
    /// The class that each image most likely shows.
    pub found: Vec<usize>,
    /// The class of each image, where it is known.
    pub labels: Vec<Option<usize>>,
    /// Inception Score.
    pub score: Option<Spread>,
    /// Pixels in [-1, 1] by class.
    pub pictures: Vec<Vec<Vec<f32>>>,
    /// SHA-256 of all pixels.
    pub sha256: String,
}

impl Seen {
    /// Lets `network` look at all images, telling `progress` how many it has seen.
    ///
    /// # Errors
    /// No images, images that cannot be made or that the network does not take, features that are not finite.
    pub fn of(
        network: &dyn Network,
        set: &mut dyn ImageSet,
        plan: Plan,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self> {
        let images = set.images();
        if images == 0 {
            return Err(EvalError::Samples("there are no images to judge".into()));
        }
        let blocks = plan.blocks.clamp(1, images);
        let mut score = match plan.score {
            true => Some(InceptionScore::new(images, network.classes(), plan.seed)?),
            false => None,
        };
        let mut seen = Self {
            images,
            blocks: (0..blocks).map(|_| Moments::new(network.features())).collect::<Result<_>>()?,
            rows: Tensor::zeros((0, network.features()), DType::F32, &candle_core::Device::Cpu)?,
            numbers: chosen(plan.keep, images, plan.seed),
            found: Vec::with_capacity(images),
            labels: (0..images).map(|image| set.label(image)).collect(),
            score: None,
            pictures: Vec::new(),
            sha256: String::new(),
        };
        let (mut hash, mut rows) = (Sha256::new(), Vec::new());
        for first in (0..images).step_by(TOGETHER) {
            let pixels = set.pixels(first, TOGETHER.min(images - first))?;
            let sight = network.look(&pixels)?;
            let bytes = pixels.images.flatten_all()?.to_vec1::<u8>()?;
            hash.update(&bytes);
            let count = pixels.images.dim(0)?;
            seen.keep_pictures(&bytes, first..first + count, plan.pictures);
            seen.add_moments(&sight.features, first)?;
            if let Some(score) = &mut score {
                score.add(&sight.logits)?;
            }
            let classes = sight.logits.argmax(1)?.to_vec1::<u32>()?;
            seen.found.extend(classes.into_iter().map(|class| class as usize));
            let within = seen.numbers.iter().filter(|number| (first..first + count).contains(number));
            let within: Vec<usize> = within.map(|number| number - first).collect();
            if !within.is_empty() {
                rows.push(pick(&sight.features, &within)?);
            }
            progress(first + count);
        }
        if !rows.is_empty() {
            seen.rows = Tensor::cat(&rows, 0)?;
        }
        seen.score = score.map(|score| score.finish()).transpose()?;
        seen.sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(seen)
    }

    /// Mean and covariance of all images.
    ///
    /// # Errors
    /// Fewer than two images, features that are not finite.
    pub fn gaussian(&self) -> Result<Gaussian> {
        let Some((first, rest)) = self.blocks.split_first() else {
            return Err(EvalError::Samples("there are no images to judge".into()));
        };
        let mut all = first.clone();
        rest.iter().try_for_each(|block| all.merge(block))?;
        all.gaussian()
    }

    /// Whether each image of a known class is recognised as it, with that class.
    pub fn recognised(&self) -> impl Iterator<Item = (usize, bool)> + '_ {
        self.labels.iter().zip(&self.found).filter_map(|(label, found)| label.map(|label| (label, label == *found)))
    }

    fn add_moments(&mut self, features: &Tensor, first: usize) -> Result<()> {
        let (count, blocks) = (features.dim(0)?, self.blocks.len());
        if let [only] = &mut self.blocks[..] {
            return only.add(features);
        }
        for (number, block) in self.blocks.iter_mut().enumerate() {
            let rows: Vec<usize> = (0..count).filter(|row| (first + row) % blocks == number).collect();
            if !rows.is_empty() {
                block.add(&pick(features, &rows)?)?;
            }
        }
        Ok(())
    }

    fn keep_pictures(&mut self, bytes: &[u8], range: std::ops::Range<usize>, most: usize) {
        let size = bytes.len() / range.len().max(1);
        for (image, bytes) in range.zip(bytes.chunks(size.max(1))) {
            let Some(class) = self.labels[image].filter(|_| most > 0) else { continue };
            if self.pictures.len() <= class {
                self.pictures.resize_with(class + 1, Vec::new);
            }
            if self.pictures[class].len() < most {
                self.pictures[class].push(bytes.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0).collect());
            }
        }
    }
}

/// Features of at most `most` images of those that were kept; which, follows from the seed alone.
pub(super) fn capped(seen: &Seen, most: usize, seed: u64) -> Result<Tensor> {
    if seen.numbers.len() <= most {
        return Ok(seen.rows.clone());
    }
    pick(&seen.rows, &chosen(Keep::Some(most), seen.numbers.len(), seed))
}

fn chosen(keep: Keep, images: usize, seed: u64) -> Vec<usize> {
    match keep {
        Keep::Nothing => Vec::new(),
        Keep::Some(most) if most < images => {
            let mut chosen = Stream::new(seed, "eval.rows", 0).choose(images, most);
            chosen.sort_unstable();
            chosen
        }
        Keep::Some(_) | Keep::All => (0..images).collect(),
    }
}

fn pick(features: &Tensor, rows: &[usize]) -> Result<Tensor> {
    let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
    Ok(features.index_select(&Tensor::new(rows, features.device())?, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;
    use crate::eval::RealImages;
    use crate::eval::contract::tests::{Plain, SHAPE};

    const NETWORK: Plain = Plain { features: 6, classes: 2 };

    fn data(count: usize) -> Dataset {
        let mut stream = Stream::new(1, "pixels", 0);
        let pixels = (0..count * 6).map(|_| stream.below(256) as u8).collect();
        let labels = (0..count).map(|image| image % 2).collect();
        Dataset::new(SHAPE, pixels, labels, vec!["a".into(), "b".into()]).unwrap()
    }

    fn plan(keep: Keep, blocks: usize) -> Plan {
        Plan { keep, score: true, blocks, pictures: 3, seed: 1 }
    }

    #[test]
    fn blocks_and_batches_change_no_moments() {
        // More than one batch.
        let data = data(603);
        let mut steps = Vec::new();
        let mut look = |blocks| {
            let mut progress = |images| steps.push(images);
            Seen::of(&NETWORK, &mut RealImages::all(&data), plan(Keep::All, blocks), &mut progress).unwrap()
        };
        let (one, many) = (look(1), look(50));
        assert_eq!(steps[..3], [250, 500, 603]);
        let expected = Gaussian::of(&one.rows).unwrap();
        for seen in [&one, &many] {
            let found = seen.gaussian().unwrap();
            assert_eq!((found.count(), seen.rows.dims(), seen.found.len()), (603, &[603, 6][..], 603));
            let worst = found.covariance().iter().zip(expected.covariance()).map(|(l, r)| (l - r).abs());
            assert!(worst.fold(0.0, f64::max) < 1e-14);
        }
        assert_eq!(
            many.blocks.iter().map(Moments::count).collect::<Vec<_>>(),
            [[13; 3].to_vec(), vec![12; 47]].concat()
        );
        assert_eq!(one.pictures.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
        assert_eq!(one.sha256, many.sha256);
        assert!(one.score.unwrap().value > 1.0);
    }

    #[test]
    fn kept_rows_are_those_of_the_numbers_that_are_told() {
        let data = data(300);
        let look = |keep| Seen::of(&NETWORK, &mut RealImages::all(&data), plan(keep, 1), &mut |_| ()).unwrap();
        let (all, some) = (look(Keep::All), look(Keep::Some(40)));
        assert_eq!(some.numbers.len(), 40);
        let expected = pick(&all.rows, &some.numbers).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(some.rows.to_vec2::<f32>().unwrap(), expected);
        assert_eq!(look(Keep::Nothing).rows.dims(), [0, 6]);
        let right = all.recognised().filter(|(_, right)| *right).count();
        let by_hand = (0..300).filter(|&image| {
            let planes = data.picture(image).unwrap().into_planes();
            usize::from(planes[1] > planes[0]) == data.labels()[image]
        });
        assert_eq!(right, by_hand.count());
    }

    #[test]
    fn some_real_images_are_the_same_for_the_same_seed() {
        let data = data(300);
        let mut some = RealImages::some(&data, 20, 3);
        assert_eq!(some.images(), 20);
        let again = RealImages::some(&data, 20, 3).pixels(0, 20).unwrap().images;
        let first = some.pixels(0, 20).unwrap().images;
        assert_eq!(
            first.flatten_all().unwrap().to_vec1::<u8>().unwrap(),
            again.flatten_all().unwrap().to_vec1::<u8>().unwrap()
        );
        assert_eq!(RealImages::some(&data, 500, 3).images(), 300);
    }
}
