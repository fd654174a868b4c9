//! Precision, recall, density and coverage: do generated images lie where real ones do, and everywhere there?

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::rows::{products, squared_lengths};
use super::{EvalError, Result};

/// Neighbours that reach the edge of a ball of precision and recall (Kynkäänniemi et al. 2019).
pub const PRECISION_NEIGHBOURS: usize = 3;
/// Neighbours that reach the edge of a ball of density and coverage (Naeem et al. 2020).
pub const COVERAGE_NEIGHBOURS: usize = 5;
/// Distances in memory at once.
const AT_ONCE: usize = 1 << 23;

/// Balls around the features of a set of images; together they stand for where such images lie.
#[derive(Debug)]
pub struct Manifold {
    /// `[n, d]`, f64.
    features: Tensor,
    squares: Vec<f64>,
    /// Squared radius of each ball: to the third and to the fifth other image.
    radii: Vec<[f64; 2]>,
}

/// How two sets lie to one another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overlap {
    /// Share of generated images within a ball of a real one.
    pub precision: f64,
    /// Share of real images within a ball of a generated one.
    pub recall: f64,
    /// Balls of real images that a generated image lies in, divided by those that it would on average lie in if it were
    /// real; may be above 1.
    pub density: f64,
    /// Share of the balls of real images in which a generated image lies.
    pub coverage: f64,
}

impl Manifold {
    /// Around features `[n, d]`.
    ///
    /// # Errors
    /// Too few images for their neighbours, features that are not finite.
    pub fn of(features: &Tensor) -> Result<Self> {
        let (count, size) = features.dims2()?;
        if count <= COVERAGE_NEIGHBOURS || size == 0 {
            let problem = format!("{count} images with {size} features, expected at least {}", COVERAGE_NEIGHBOURS + 1);
            return Err(EvalError::Samples(format!("precision and coverage: {problem} with 1")));
        }
        let features = features.to_dtype(DType::F64)?.contiguous()?;
        let squares = squared_lengths(&features)?;
        if !squares.iter().all(|square| square.is_finite()) {
            return Err(EvalError::Samples("precision and coverage: features hold NaN or infinite numbers".into()));
        }
        let mut manifold = Self { features, squares, radii: Vec::with_capacity(count) };
        let mut radii = Vec::with_capacity(count);
        manifold.distances(
            &manifold,
            |row, distances| {
                // An image is not its own neighbour.
                distances[row] = f64::INFINITY;
                let mut nearest = |place| *distances.select_nth_unstable_by(place, f64::total_cmp).1;
                [nearest(PRECISION_NEIGHBOURS - 1), nearest(COVERAGE_NEIGHBOURS - 1)]
            },
            |found| radii.push(found),
        )?;
        manifold.radii = radii;
        Ok(manifold)
    }

    /// Number of images.
    #[must_use]
    pub fn images(&self) -> usize {
        self.squares.len()
    }

    /// How `generated` lies to these real images.
    ///
    /// # Errors
    /// Features of another length.
    pub fn overlap(&self, generated: &Self) -> Result<Overlap> {
        let ([real, size], [images, other]) = (self.dims()?, generated.dims()?);
        if size != other {
            return Err(EvalError::Samples(format!(
                "precision and coverage: features of {size} and of {other} numbers"
            )));
        }
        let (mut precise, mut balls) = (0usize, 0usize);
        let (mut recalled, mut covered) = (vec![false; real], vec![false; real]);
        generated.distances(
            self,
            |row, distances| {
                let edge = generated.radii[row][0];
                let near = |keep: &dyn Fn(usize, f64) -> bool| -> Vec<usize> {
                    distances
                        .iter()
                        .enumerate()
                        .filter(|(at, distance)| keep(*at, **distance))
                        .map(|(at, _)| at)
                        .collect()
                };
                let precise = self.radii.iter().zip(distances.iter()).any(|(radii, distance)| *distance <= radii[0]);
                // The published program of density and coverage leaves the edge of a ball out.
                (precise, near(&|_, distance| distance <= edge), near(&|at, distance| distance < self.radii[at][1]))
            },
            |(inside, reached, within): (bool, Vec<usize>, Vec<usize>)| {
                precise += usize::from(inside);
                balls += within.len();
                reached.into_iter().for_each(|at| recalled[at] = true);
                within.into_iter().for_each(|at| covered[at] = true);
            },
        )?;
        let share = |flags: &[bool]| flags.iter().filter(|flag| **flag).count() as f64 / real as f64;
        Ok(Overlap {
            precision: precise as f64 / images as f64,
            recall: share(&recalled),
            density: balls as f64 / (COVERAGE_NEIGHBOURS * images) as f64,
            coverage: share(&covered),
        })
    }

    fn dims(&self) -> Result<[usize; 2]> {
        let (count, size) = self.features.dims2()?;
        Ok([count, size])
    }

    /// Calls `each` with every image's number and its squared distances to all of `others`, and `then` with what that
    /// gave, in the order of the images.
    fn distances<T: Send>(
        &self,
        others: &Self,
        each: impl Fn(usize, &mut [f64]) -> T + Sync,
        mut then: impl FnMut(T),
    ) -> Result<()> {
        let (count, width) = (self.images(), others.images());
        let rows = (AT_ONCE / width).clamp(1, count);
        for first in (0..count).step_by(rows) {
            let part = self.features.narrow(0, first, rows.min(count - first))?;
            let mut values = products(&part, &others.features)?.flatten_all()?.to_vec1::<f64>()?;
            let found: Vec<T> = values
                .par_chunks_mut(width)
                .enumerate()
                .map(|(row, values)| {
                    for (value, square) in values.iter_mut().zip(&others.squares) {
                        *value = (self.squares[first + row] + square - 2.0 * *value).max(0.0);
                    }
                    each(first + row, values)
                })
                .collect();
            found.into_iter().for_each(&mut then);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use drifting_spec::Stream;

    use super::*;

    fn features(count: usize, size: usize, index: u64) -> Tensor {
        let values = Stream::new(1, "features", index).normals(count * size);
        Tensor::from_vec(values, (count, size), &Device::Cpu).unwrap()
    }

    /// As the papers write it, image by image.
    fn plain(real: &Tensor, generated: &Tensor) -> Overlap {
        let [real, generated]: [Vec<Vec<f64>>; 2] =
            [real, generated].map(|set| set.to_dtype(DType::F64).unwrap().to_vec2().unwrap());
        let distance = |l: &[f64], r: &[f64]| l.iter().zip(r).map(|(l, r)| (l - r).powi(2)).sum::<f64>().sqrt();
        let radius = |set: &[Vec<f64>], at: usize, k: usize| {
            let others = set.iter().enumerate().filter(|(other, _)| *other != at);
            let mut distances: Vec<f64> = others.map(|(_, other)| distance(&set[at], other)).collect();
            distances.sort_by(f64::total_cmp);
            distances[k - 1]
        };
        let radii = |set: &[Vec<f64>], k: usize| (0..set.len()).map(|at| radius(set, at, k)).collect::<Vec<_>>();
        let within = |image: &[f64], set: &[Vec<f64>], radii: &[f64]| {
            set.iter().zip(radii).filter(|(other, radius)| distance(image, other) <= **radius).count()
        };
        let share = |hits: usize, of: usize| hits as f64 / of as f64;
        let (of_real, of_generated, wide) = (radii(&real, 3), radii(&generated, 3), radii(&real, 5));
        let precise = generated.iter().filter(|image| within(image, &real, &of_real) > 0).count();
        let recalled = real.iter().filter(|image| within(image, &generated, &of_generated) > 0).count();
        let balls: usize = generated.iter().map(|image| within(image, &real, &wide)).sum();
        let covered = real
            .iter()
            .zip(&wide)
            .filter(|(center, radius)| generated.iter().any(|image| distance(image, center) <= **radius));
        Overlap {
            precision: share(precise, generated.len()),
            recall: share(recalled, real.len()),
            density: share(balls, 5 * generated.len()),
            coverage: share(covered.count(), real.len()),
        }
    }

    #[test]
    fn the_shares_are_those_of_the_definitions() {
        let real = features(60, 4, 0);
        let sets = [features(40, 4, 1), (features(40, 4, 2) * 0.3).unwrap(), (features(70, 4, 3) * 2.0).unwrap()];
        for generated in sets {
            let found = Manifold::of(&real).unwrap().overlap(&Manifold::of(&generated).unwrap()).unwrap();
            assert_eq!(found, plain(&real, &generated));
        }
    }

    #[test]
    fn timid_images_are_precise_and_wild_ones_are_not() {
        let real = Manifold::of(&features(300, 4, 0)).unwrap();
        let overlap =
            |scale: f64| real.overlap(&Manifold::of(&(features(300, 4, 1) * scale).unwrap()).unwrap()).unwrap();
        let (timid, same, wild) = (overlap(0.2), overlap(1.0), overlap(4.0));
        assert!(timid.precision > 0.95 && timid.recall < 0.3 && timid.coverage < 0.5, "{timid:?}");
        assert!(same.precision > 0.8 && same.recall > 0.8 && (same.density - 1.0).abs() < 0.2, "{same:?}");
        assert!(wild.precision < 0.4 && wild.density < 0.3, "{wild:?}");
    }

    #[test]
    fn blocks_of_rows_change_nothing() {
        const { assert!(3000 * 3001 > AT_ONCE, "more than one block") }
        let (real, generated) = (features(3000, 2, 0), features(3001, 2, 1));
        let found = Manifold::of(&real).unwrap().overlap(&Manifold::of(&generated).unwrap()).unwrap();
        assert_eq!(found, plain(&real, &generated));
    }

    #[test]
    fn what_has_no_neighbours_is_an_error() {
        assert!(Manifold::of(&features(5, 4, 0)).is_err());
        assert!(Manifold::of(&(features(9, 4, 0) / 0.0).unwrap()).is_err());
        let (left, right) = (Manifold::of(&features(9, 4, 0)).unwrap(), Manifold::of(&features(9, 5, 0)).unwrap());
        assert!(left.overlap(&right).unwrap_err().to_string().contains("features of 4 and of 5"));
    }
}
