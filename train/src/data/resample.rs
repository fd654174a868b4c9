//! Resizing in fixed point: the algorithm of Pillow, to the bit, with which the reference data were prepared.
//!
//! Each side is resized on its own, rows first, with a rounding to bytes in between. A filter that shrinks is stretched by
//! the factor, so that every input pixel counts.

use std::ops::Range;

use drifting_spec::ImageShape;

use super::Picture;

/// Bits behind the point of a weight: products with bytes stay within 32 bits.
const BITS: u32 = 22;

/// A filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The mean of the pixels below the new one.
    Box,
    /// Cubic convolution with a = -1/2 (Catmull-Rom).
    Bicubic,
}

/// A rectangle of a picture in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Region {
    /// The whole of a picture.
    #[must_use]
    pub fn whole(shape: ImageShape) -> Self {
        Self { top: 0, left: 0, height: shape.height, width: shape.width }
    }

    /// The middle of a picture, rounded towards the top left; no larger than the picture.
    #[must_use]
    pub fn middle(shape: ImageShape, height: usize, width: usize) -> Self {
        let (height, width) = (height.min(shape.height), width.min(shape.width));
        Self { top: (shape.height - height) / 2, left: (shape.width - width) / 2, height, width }
    }

    /// The part that lies in a picture of this shape.
    fn within(self, shape: ImageShape) -> Self {
        let (top, left) = (self.top.min(shape.height), self.left.min(shape.width));
        Self { top, left, height: self.height.min(shape.height - top), width: self.width.min(shape.width - left) }
    }
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, at: f64) -> f64 {
        const A: f64 = -0.5;
        let x = at.abs();
        match self {
            Self::Box if at > -0.5 && at <= 0.5 => 1.0,
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// Cuts `region` out of a picture and scales it to `height` x `width`; a region beyond the picture is cut to it. `None`
/// when nothing is left.
#[must_use]
pub fn resize(picture: &Picture, region: Region, (height, width): (usize, usize), filter: Filter) -> Option<Picture> {
    let all = Region { top: 0, left: 0, height, width };
    resize_part(picture, region, (height, width), filter, all)
}

/// As [`resize`], of which only `part` is computed and returned.
#[must_use]
pub fn resize_part(
    picture: &Picture,
    region: Region,
    (height, width): (usize, usize),
    filter: Filter,
    part: Region,
) -> Option<Picture> {
    let from = picture.shape();
    let region = region.within(from);
    let part = part.within(ImageShape { height, width, ..from });
    if region.height == 0 || region.width == 0 || part.height == 0 || part.width == 0 {
        return None;
    }
    let columns = weights(region.width, width, part.left..part.left + part.width, filter);
    let mut rows = weights(region.height, height, part.top..part.top + part.height, filter);
    // Only the lines that some row is made of.
    let first = rows.iter().map(|taps| taps.first).min()?;
    let last = rows.iter().map(|taps| taps.first + taps.weights.len()).max()?;
    rows.iter_mut().for_each(|taps| taps.first -= first);

    let mut planes = Vec::with_capacity(from.channels * part.height * part.width);
    for plane in picture.planes().chunks_exact(from.height * from.width) {
        let lines = plane.chunks_exact(from.width).skip(region.top + first).take(last - first);
        let lines = lines.map(|line| &line[region.left..region.left + region.width]);
        let mut narrow = Vec::with_capacity((last - first) * part.width);
        match region.width == width {
            true => lines.for_each(|line| narrow.extend_from_slice(&line[part.left..part.left + part.width])),
            false => lines.for_each(|line| narrow.extend(columns.iter().map(|taps| taps.row(line)))),
        }
        match region.height == height {
            true => planes.extend_from_slice(&narrow),
            false => rows.iter().for_each(|taps| taps.column(&narrow, part.width, &mut planes)),
        }
    }
    Picture::new(ImageShape { height: part.height, width: part.width, ..from }, planes)
}

/// The weights of the input pixels of one output pixel.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

impl Taps {
    fn row(&self, line: &[u8]) -> u8 {
        let pixels = line[self.first..].iter().zip(&self.weights);
        round(pixels.map(|(&pixel, &weight)| i32::from(pixel) * weight).sum())
    }

    /// Appends one line made of the lines `[.., width]`.
    fn column(&self, lines: &[u8], width: usize, out: &mut Vec<u8>) {
        let mut sums = vec![0i32; width];
        for (line, &weight) in lines.chunks_exact(width).skip(self.first).zip(&self.weights) {
            for (sum, &pixel) in sums.iter_mut().zip(line) {
                *sum += i32::from(pixel) * weight;
            }
        }
        out.extend(sums.into_iter().map(round));
    }
}

fn round(sum: i32) -> u8 {
    ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
}

/// The taps of the pixels `part` of `to` pixels made of `from`; all are positive. Equal sizes have one tap each.
fn weights(from: usize, to: usize, part: Range<usize>, filter: Filter) -> Vec<Taps> {
    if from == to {
        return part.map(|first| Taps { first, weights: vec![1 << BITS] }).collect();
    }
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let taps = |pixel: usize| {
        let centre = (pixel as f64 + 0.5) * scale;
        // A conversion of a negative number gives 0.
        let first = (centre - support + 0.5) as usize;
        let last = ((centre + support + 0.5) as usize).min(from).max(first);
        let weight = |position: usize| filter.weight((position as f64 - centre + 0.5) * (1.0 / stretch));
        let weights: Vec<f64> = (first..last).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let sum = if sum == 0.0 { 1.0 } else { sum };
        let fixed = |weight: &f64| {
            let scaled = weight / sum * f64::from(1 << BITS);
            (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
        };
        Taps { first, weights: weights.iter().map(fixed).collect() }
    };
    part.map(taps).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Sides and filter, and the SHA-256 of what Pillow 11.3 makes of [`picture`].
    const PILLOW: [(usize, usize, Filter, &str); 6] = [
        (24, 31, Filter::Bicubic, "b5a7520a67c7562a05deb86e808629a46ab96083976886d3e1353f8326f2dbb0"),
        (9, 5, Filter::Bicubic, "26b8902778bf92c27fe05c9ee1d3b858e258c0e209a7352148ed0209aeed98b2"),
        (80, 64, Filter::Bicubic, "41b5ed990098cb06281800db0587cf634c186463af7a37a4e38564a525233016"),
        (18, 20, Filter::Box, "44c4c572739c9c593e9d098bd93bfb1ded4140daeb092865b18953d80e3a29ae"),
        (37, 7, Filter::Bicubic, "90097c254e3d5142e4a4c469834d0d885c68c1f4dfc2cea3f7e94ef437a9d529"),
        (1, 1, Filter::Box, "4977021028c4a74c2bca8061786cd88afc96837ef6007265acc4f8cda2d945e0"),
    ];

    /// Bytes by a rule that a script can repeat, 3 x 37 x 41, with hard edges.
    pub(crate) fn picture(shape: ImageShape) -> Picture {
        let bytes = (0..shape.len() as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> (24 - (i / 97) % 3)) as u8);
        Picture::new(shape, bytes.collect()).unwrap()
    }

    #[test]
    fn pictures_are_those_of_pillow() {
        use sha2::{Digest, Sha256};
        let shape = ImageShape { channels: 3, height: 37, width: 41 };
        let picture = picture(shape);
        for (height, width, filter, expected) in PILLOW {
            let found = resize(&picture, Region::whole(shape), (height, width), filter).unwrap();
            let found = super::super::dataset::hex(&Sha256::digest(found.planes()));
            assert_eq!(found, expected, "{height} x {width}, {filter:?}");
        }
    }

    #[test]
    fn the_same_size_is_the_same_picture() {
        let shape = ImageShape { channels: 3, height: 5, width: 7 };
        let picture = picture(shape);
        assert_eq!(resize(&picture, Region::whole(shape), (5, 7), Filter::Bicubic).unwrap(), picture);
        let corner = Region { top: 1, left: 2, height: 2, width: 3 };
        let cut = resize(&picture, corner, (2, 3), Filter::Box).unwrap();
        assert_eq!(cut.planes()[..3], picture.planes()[9..12]);
        assert!(resize(&picture, Region { top: 5, ..corner }, (2, 3), Filter::Box).is_none());
    }

    #[test]
    fn a_part_is_cut_from_the_whole() {
        let shape = ImageShape { channels: 3, height: 37, width: 41 };
        let picture = picture(shape);
        for (size, filter) in [((20, 90), Filter::Bicubic), ((37, 12), Filter::Box), ((80, 41), Filter::Bicubic)] {
            let part = Region { top: 3, left: 5, height: 14, width: 6 };
            let whole = resize(&picture, Region::whole(shape), size, filter).unwrap();
            let expected = resize(&whole, part, (14, 6), filter).unwrap();
            assert_eq!(resize_part(&picture, Region::whole(shape), size, filter, part).unwrap(), expected);
        }
    }

    #[test]
    fn a_flat_picture_stays_flat() {
        for level in [0, 1, 128, 255] {
            let flat = Picture::new(ImageShape { channels: 1, height: 13, width: 17 }, vec![level; 13 * 17]).unwrap();
            for size in [(1, 1), (5, 40), (300, 3)] {
                let found = resize(&flat, Region::whole(flat.shape()), size, Filter::Bicubic).unwrap();
                assert!(found.planes().iter().all(|&found| found == level), "{level} {size:?}");
            }
        }
    }
}
