//! How a picture becomes an image of the network's size: cropped, scaled, mirrored.

use drifting_spec::{ImageShape, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resample::{Filter, Region, resize, resize_part};
use super::{DataError, Picture, Result};

/// Crops that do not fit are drawn again this often, then the middle is taken.
const TRIES: usize = 10;

/// The table `augment`: what is done to each image each time it is drawn. Images that already are numbers (latents) are
/// not changed; of latents that were stored with their mirror images, `flip` picks one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Part of the picture that is taken.
    pub crop: Crop,
    /// Share of the picture's area, from and to, for `crop = "random"`.
    pub scale: [f64; 2],
    /// Width by height of the part before it is scaled, from and to, for `crop = "random"`.
    pub ratio: [f64; 2],
    /// Mirrors every other image, by chance.
    pub flip: bool,
}

/// Part of a picture that becomes the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Crop {
    /// The middle with the image's proportions, scaled once.
    #[default]
    Fit,
    /// The centre crop of ADM: halved while the shorter side is at least twice the image's, scaled to it, cropped.
    Adm,
    /// A random part of random proportions, as classifiers are trained (`RandomResizedCrop`).
    Random,
}

impl Default for Augment {
    fn default() -> Self {
        Self { crop: Crop::Fit, scale: [0.2, 1.0], ratio: [0.75, 4.0 / 3.0], flip: false }
    }
}

impl Augment {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the key and what would be right.
    pub fn validate(&self) -> Result<()> {
        let [scale, ratio] = [self.scale, self.ratio];
        let setting = |key, problem: String| Err(DataError::Setting { key, problem });
        if !(scale[0] > 0.0 && scale[0] <= scale[1] && scale[1] <= 1.0) {
            return setting("augment.scale", format!("{scale:?} is not 0 < from <= to <= 1"));
        }
        if !(ratio[0] > 0.0 && ratio[0] <= ratio[1] && ratio[1].is_finite()) {
            return setting("augment.ratio", format!("{ratio:?} is not 0 < from <= to"));
        }
        Ok(())
    }

    /// The image of `shape` that this draw makes of the picture; all chance comes from `stream`.
    #[must_use]
    pub fn apply(&self, picture: Picture, shape: ImageShape, stream: &mut Stream) -> Option<Picture> {
        let picture = picture.with_channels(shape.channels);
        let mut image = match self.crop {
            Crop::Fit => fit(picture, shape),
            Crop::Adm => adm(picture, shape),
            Crop::Random => {
                let region = self.draw(picture.shape(), stream);
                resize(&picture, region, (shape.height, shape.width), Filter::Bicubic)
            }
        }?;
        if self.flips(stream) {
            image.flip();
        }
        Some(image)
    }

    /// Whether this draw is mirrored.
    pub(super) fn flips(&self, stream: &mut Stream) -> bool {
        self.flip && stream.uniform() < 0.5
    }

    fn draw(&self, from: ImageShape, stream: &mut Stream) -> Region {
        let (height, width) = (from.height as f64, from.width as f64);
        let mut between = |low: f64, high: f64| low + (high - low) * stream.uniform();
        let [narrow, wide] = self.ratio;
        for _ in 0..TRIES {
            let area = height * width * between(self.scale[0], self.scale[1]);
            let ratio = libm::exp(between(libm::log(narrow), libm::log(wide)));
            let crop_width = libm::sqrt(area * ratio).round_ties_even() as usize;
            let crop_height = libm::sqrt(area / ratio).round_ties_even() as usize;
            if (1..=from.width).contains(&crop_width) && (1..=from.height).contains(&crop_height) {
                let mut below = |bound: usize| ((between(0.0, 1.0) * bound as f64) as usize).min(bound - 1);
                let top = below(from.height - crop_height + 1);
                let left = below(from.width - crop_width + 1);
                return Region { top, left, height: crop_height, width: crop_width };
            }
        }
        let own = width / height;
        let rounded = |side: f64| side.round_ties_even().max(1.0) as usize;
        if own < narrow {
            Region::middle(from, rounded(width / narrow), from.width)
        } else if own > wide {
            Region::middle(from, from.height, rounded(height * wide))
        } else {
            Region::whole(from)
        }
    }
}

/// Crops the middle to the shape's proportions before it is scaled, so that no proportions make a picture that memory
/// cannot hold.
fn fit(picture: Picture, shape: ImageShape) -> Option<Picture> {
    let from = picture.shape();
    if from == shape {
        return Some(picture);
    }
    let fitting = |side: usize, to: usize, by: usize| (side as f64 * to as f64 / by as f64).round().max(1.0) as usize;
    let width = from.width.min(fitting(from.height, shape.width, shape.height));
    let height = from.height.min(fitting(from.width, shape.height, shape.width));
    resize(&picture, Region::middle(from, height, width), (shape.height, shape.width), Filter::Bicubic)
}

fn adm(mut picture: Picture, shape: ImageShape) -> Option<Picture> {
    let target = shape.height.max(shape.width);
    loop {
        let from = picture.shape();
        if from.height.min(from.width) < 2 * target {
            break;
        }
        picture = resize(&picture, Region::whole(from), (from.height / 2, from.width / 2), Filter::Box)?;
    }
    let from = picture.shape();
    let short = from.height.min(from.width);
    let scale = target as f64 / short as f64;
    let side = |side: usize| (side as f64 * scale).round_ties_even() as usize;
    let size = (side(from.height), side(from.width));
    // Only what stays is computed: a long strip would not fit into memory.
    let middle = Region::middle(ImageShape { height: size.0, width: size.1, ..from }, shape.height, shape.width);
    resize_part(&picture, Region::whole(from), size, Filter::Bicubic, middle)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::super::dataset::hex;
    use super::super::resample::tests::picture;
    use super::*;

    fn shape(height: usize, width: usize) -> ImageShape {
        ImageShape { channels: 3, height, width }
    }

    fn stream(index: u64) -> Stream {
        Stream::new(1, "test", index)
    }

    /// Height, width, side, and the SHA-256 of what Pillow makes of the picture step by step.
    #[test]
    fn the_centre_crop_is_that_of_adm() {
        let augment = Augment { crop: Crop::Adm, ..Augment::default() };
        for (height, width, side, expected) in [
            (37, 41, 16, "239666e11c03b4473f3d76f18fda4611ff01ee4b65e57afdf3253108fc410c0a"),
            (37, 90, 9, "2eec2ee5c21cba31e57a4a522e461bd8fc5f41be5b5f9295da579d1d564b332b"),
            (150, 61, 16, "058508c98517af2502b3d749321deddaa85637f09928a5cfb03a9bc91089804b"),
            (20, 20, 32, "ddc970324b642b202f2c54949bbc1a0fb8991faac9263159fe2bcf2338b2434f"),
        ] {
            let image = augment.apply(picture(shape(height, width)), shape(side, side), &mut stream(0)).unwrap();
            assert_eq!(hex(&Sha256::digest(image.planes())), expected, "{height} x {width} to {side}");
        }
    }

    #[test]
    fn a_long_strip_does_not_fill_the_memory() {
        for crop in [Crop::Fit, Crop::Adm, Crop::Random] {
            let augment = Augment { crop, ..Augment::default() };
            let strip = Picture::new(shape(1, 200_000), vec![255; 600_000]).unwrap();
            let image = augment.apply(strip, shape(64, 64), &mut stream(0)).unwrap();
            assert_eq!(image.planes(), [255; 3 * 64 * 64]);
        }
    }

    /// A picture whose red is its row and green its column, so that a crop shows where it was taken.
    #[test]
    fn random_crops_stay_within_their_ranges() {
        let side = 200usize;
        let augment = Augment { crop: Crop::Random, ..Augment::default() };
        let (mut areas, mut ratios) = (Vec::new(), Vec::new());
        for index in 0..2000 {
            let region = augment.draw(shape(side, side), &mut stream(index));
            assert!(region.top + region.height <= side && region.left + region.width <= side);
            areas.push((region.height * region.width) as f64 / (side * side) as f64);
            ratios.push(region.width as f64 / region.height as f64);
        }
        assert!(areas.iter().all(|area| (0.19..=1.0).contains(area)));
        assert!(ratios.iter().all(|ratio| (0.73..=1.36).contains(ratio)));
        let mean = areas.iter().sum::<f64>() / 2000.0;
        // 0.6 less what large parts lose because most proportions of theirs do not fit.
        assert!((mean - 0.5385).abs() < 0.015, "{mean}");
        assert!(ratios.iter().filter(|ratio| **ratio < 1.0).count().abs_diff(1000) < 100);
    }

    #[test]
    fn proportions_that_never_fit_take_the_middle() {
        let augment = Augment { crop: Crop::Random, scale: [0.9, 1.0], ..Augment::default() };
        let wide = augment.draw(shape(30, 300), &mut stream(0));
        assert_eq!(wide, Region { top: 0, left: 130, height: 30, width: 40 });
        let high = augment.draw(shape(300, 30), &mut stream(0));
        assert_eq!(high, Region { top: 130, left: 0, height: 40, width: 30 });
    }

    #[test]
    fn a_draw_is_a_function_of_its_stream_and_half_are_mirrored() {
        let augment = Augment { flip: true, ..Augment::default() };
        let from = picture(shape(4, 4));
        let image = |index| augment.apply(from.clone(), shape(4, 4), &mut stream(index)).unwrap();
        assert_eq!(image(3), image(3));
        let mut mirrored = from.clone();
        mirrored.flip();
        let flips = (0..400).filter(|&index| image(index) == mirrored).count();
        assert!((160..240).contains(&flips), "{flips}");
        assert!((0..400).all(|index| [&from, &mirrored].contains(&&image(index))));
    }

    #[test]
    fn ranges_are_checked() {
        let message = |augment: Augment| augment.validate().unwrap_err().to_string();
        assert!(Augment::default().validate().is_ok());
        let augment = Augment { scale: [0.0, 1.0], ..Augment::default() };
        assert_eq!(message(augment), "augment.scale: [0.0, 1.0] is not 0 < from <= to <= 1");
        let augment = Augment { ratio: [2.0, 1.0], ..Augment::default() };
        assert_eq!(message(augment), "augment.ratio: [2.0, 1.0] is not 0 < from <= to");
    }
}
