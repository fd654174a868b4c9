//! Mean and covariance of real images in a file, so that they need not be looked at again.

mod npz;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use drifting_models::weights;
use serde::{Deserialize, Serialize};

use super::{Contract, EvalError, Gaussian, Result};

/// Key of the facts in the header of a file.
const KEY: &str = "statistics";

/// Mean and covariance of images with what is known of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Mean and covariance.
    pub gaussian: Gaussian,
    /// What they are of; `None` for `.npz` files, which do not say.
    pub facts: Option<Facts>,
}

/// What statistics are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// How images became features.
    pub contract: Contract,
    /// Number of images.
    pub images: usize,
    /// SHA-256 of the images.
    pub data_sha256: String,
    /// Images of each class.
    pub classes: Vec<ClassCount>,
    /// Distance of other real images to these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
    /// Version and commit of the program that wrote them.
    pub program: String,
}

/// Images of a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCount {
    /// Name of the class.
    pub name: String,
    /// Number of images.
    pub images: usize,
}

/// The Fréchet distance of real test images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// Distance.
    pub distance: f64,
    /// Number of test images.
    pub images: usize,
}

/// How statistics go with an evaluation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// Fields of the contract that differ, with both values: reasons not to compare.
    pub differences: Vec<String>,
    /// What could not be checked.
    pub unknown: Vec<String>,
}

impl Statistics {
    /// Writes them, in f64: as `.npz` with the keys `mu` and `sigma` that other programs read and without the facts, or as
    /// safetensors with everything.
    ///
    /// # Errors
    /// Names the file and the cause.
    pub fn save(&self, path: &Path) -> Result<()> {
        let size = self.gaussian.mean().len();
        let mean = Tensor::new(self.gaussian.mean(), &Device::Cpu)?;
        let covariance = Tensor::from_slice(self.gaussian.covariance(), (size, size), &Device::Cpu)?;
        if is_npz(path) {
            return npz::write(path, &mean, &covariance);
        }
        let facts = serde_json::to_string(&self.facts).map_err(|error| problem(path, error.to_string()))?;
        let tensors = BTreeMap::from([("covariance".to_owned(), covariance), ("mean".to_owned(), mean)]);
        weights::write(path, &tensors, &BTreeMap::from([(KEY.to_owned(), facts)]))?;
        Ok(())
    }

    /// Reads the statistics of this program, or a published `.npz` with the keys `mu`, `sigma` or `ref_mu`, `ref_sigma`.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self> {
        if is_npz(path) {
            return Ok(Self { gaussian: npz::read(path)?, facts: None });
        }
        let mut file = weights::read(path, &Device::Cpu)?;
        let Some(facts) = file.metadata.get(KEY) else {
            let expected = "drifting eval --save-statistics writes such files; published ones end in .npz";
            return Err(problem(
                path,
                format!("has no entry {KEY:?} in its header: it holds no statistics ({expected})"),
            ));
        };
        let facts: Facts = serde_json::from_str(facts).map_err(|error| problem(path, format!("{KEY}: {error}")))?;
        let mut take =
            |name: &str| file.tensors.remove(name).ok_or_else(|| problem(path, format!("has no tensor {name:?}")));
        let gaussian = gaussian(path, facts.images, &take("mean")?, &take("covariance")?)?;
        if gaussian.mean().len() != facts.contract.features {
            let (found, told) = (gaussian.mean().len(), facts.contract.features);
            return Err(problem(path, format!("mean has {found} numbers, its contract says {told} features")));
        }
        Ok(Self { gaussian, facts: Some(facts) })
    }

    /// Holds the contract of these statistics against that of an evaluation.
    ///
    /// # Errors
    /// Features of another length, which nothing can be compared with.
    pub fn fit(&self, contract: &Contract) -> Result<Fit> {
        let (found, expected) = (self.gaussian.mean().len(), contract.features);
        if found != expected {
            let problem = format!("the statistics are of {found} features, {} has {expected}", contract.network);
            return Err(EvalError::Samples(problem));
        }
        Ok(match &self.facts {
            Some(facts) => Fit { differences: contract.differences(&facts.contract), unknown: Vec::new() },
            None => Fit {
                differences: Vec::new(),
                unknown: vec![format!(
                    "the statistics come from an .npz file, which names neither network nor preparation nor images: only \
                     their {found} features were checked"
                )],
            },
        })
    }
}

fn is_npz(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npz"))
}

fn problem(path: &Path, problem: String) -> EvalError {
    EvalError::File { path: PathBuf::from(path), problem }
}

/// From the tensors of a file.
fn gaussian(path: &Path, count: usize, mean: &Tensor, covariance: &Tensor) -> Result<Gaussian> {
    let [size] = mean.dims() else {
        return Err(problem(path, format!("the mean has the shape {:?}, expected one row of numbers", mean.dims())));
    };
    if covariance.dims() != [*size, *size] {
        let (found, size) = (covariance.dims(), *size);
        return Err(problem(path, format!("the covariance has the shape {found:?}, expected [{size}, {size}]")));
    }
    let numbers = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let rows = numbers(covariance)?;
    let largest = rows.iter().fold(0f64, |largest, value| largest.max(value.abs()));
    let apart = |at: usize| (rows[at] - rows[at % size * size + at / size]).abs();
    // Of f32 and of sums in another order.
    if let Some(at) = (0..rows.len()).find(|&at| apart(at) > 1e-4 * largest) {
        let (row, column) = (at / size, at % size);
        return Err(problem(path, format!("the covariance is not symmetric in row {row}, column {column}")));
    }
    Gaussian::new(count, numbers(mean)?, &rows).map_err(|error| problem(path, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Rounding;
    use crate::eval::contract::tests::contract;

    fn statistics() -> Statistics {
        let covariance: Vec<f64> = (0..36).map(|at| if at / 6 == at % 6 { 1.0 / 3.0 } else { 1e-17 }).collect();
        let gaussian = Gaussian::new(12, (0..6).map(|at| f64::from(at) / 7.0).collect(), &covariance).unwrap();
        let classes = vec![ClassCount { name: "cat".into(), images: 12 }];
        let floor = Some(Floor { distance: 0.125, images: 5 });
        let facts =
            Facts { contract: contract(), images: 12, data_sha256: "ab".into(), classes, floor, program: "x".into() };
        Statistics { gaussian, facts: Some(facts) }
    }

    #[test]
    fn what_is_saved_is_read_again_to_the_last_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("real.safetensors");
        statistics().save(&path).unwrap();
        assert_eq!(Statistics::open(&path).unwrap(), statistics());
        let path = folder.path().join("real.npz");
        statistics().save(&path).unwrap();
        let found = Statistics::open(&path).unwrap();
        assert_eq!((found.gaussian.mean(), found.facts), (statistics().gaussian.mean(), None));
        assert_eq!(found.gaussian.covariance(), statistics().gaussian.covariance());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside them");
    }

    #[test]
    fn other_contracts_are_named_and_other_lengths_refused() {
        assert_eq!(statistics().fit(&contract()).unwrap(), Fit::default());
        let other = Contract { preparation: "levels".into(), rounding: Rounding::Truncated, ..contract() };
        let found = statistics().fit(&other).unwrap().differences;
        assert_eq!(
            found,
            ["preparation: \"levels\", but \"pixels / 255\"", "rounding: \"truncated\", but \"nearest\"",]
        );
        let longer = Contract { features: 7, ..contract() };
        let error = statistics().fit(&longer).unwrap_err().to_string();
        assert_eq!(error, "the statistics are of 6 features, plain has 7");
        let published = Statistics { facts: None, ..statistics() }.fit(&other).unwrap();
        assert!(published.differences.is_empty() && published.unknown[0].contains("only their 6 features"));
    }

    #[test]
    fn files_that_hold_no_statistics_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.safetensors");
        let message = |path: &Path| Statistics::open(path).unwrap_err().to_string();
        let one = |shape: &[usize]| Tensor::zeros(shape, DType::F64, &Device::Cpu).unwrap();
        let write = |tensors: &[(&str, Tensor)], facts: &str| {
            let tensors = tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
            weights::write(&path, &tensors, &BTreeMap::from([(KEY.to_owned(), facts.to_owned())])).unwrap();
            message(&path)
        };
        let facts = serde_json::to_string(&statistics().facts).unwrap();
        assert!(write(&[("mean", one(&[6]))], &facts).contains("other.safetensors: has no tensor \"covariance\""));
        assert!(write(&[("mean", one(&[6])), ("covariance", one(&[6, 5]))], &facts).contains("expected [6, 6]"));
        assert!(write(&[("mean", one(&[1, 6])), ("covariance", one(&[6, 6]))], &facts).contains("one row of numbers"));
        assert!(write(&[("mean", one(&[2])), ("covariance", one(&[2, 2]))], &facts).contains("says 6 features"));
        let mut skew = vec![0.0; 36];
        skew[1] = 1.0;
        let skew = Tensor::from_vec(skew, (6, 6), &Device::Cpu).unwrap();
        assert!(
            write(&[("mean", one(&[6])), ("covariance", skew)], &facts).contains("not symmetric in row 0, column 1")
        );
        assert!(write(&[], "{}").contains("missing field"));
        weights::write(&path, &BTreeMap::new(), &BTreeMap::new()).unwrap();
        assert!(message(&path).contains("holds no statistics"));
        assert!(message(&folder.path().join("absent.npz")).contains("absent.npz"));
    }
}
