//! Statistics as other programs publish them: NumPy's zipped arrays.

use std::fs;
use std::path::Path;

use candle_core::npy::NpzTensors;
use candle_core::{DType, Tensor};
use drifting_models::weights;

use super::problem;
use crate::eval::{Gaussian, Result};

/// Names of mean and covariance, first of `pytorch-fid` and most others, then of the drifting paper's references.
const KEYS: [[&str; 2]; 2] = [["mu", "sigma"], ["ref_mu", "ref_sigma"]];
/// More features than any network has: a broken header must not ask for all memory.
const MOST: usize = 1 << 14;

/// Reads mean and covariance, f32 or f64; the number of images is not in such files.
pub(super) fn read(path: &Path) -> Result<Gaussian> {
    if !path.is_file() {
        return Err(problem(path, "is no regular file, expected an .npz with the keys mu and sigma".to_owned()));
    }
    let failed = |error: candle_core::Error| problem(path, error.to_string());
    let file = NpzTensors::new(path).map_err(failed)?;
    let mut names: Vec<&str> = file.names().into_iter().map(String::as_str).collect();
    names.sort_unstable();
    let Some([mean, covariance]) = KEYS.into_iter().find(|keys| keys.iter().all(|key| names.contains(key))) else {
        let names = names.join(", ");
        return Err(problem(path, format!("has the keys {names}, expected mu and sigma, or ref_mu and ref_sigma")));
    };
    let tensor = |name: &str| -> Result<Tensor> {
        let (shape, kind) = file.get_shape_and_dtype(name).map_err(failed)?;
        if !matches!(kind, DType::F32 | DType::F64) {
            return Err(problem(path, format!("{name} is of type {kind:?}, expected f32 or f64")));
        }
        if shape.rank() > 2 || shape.dims().iter().any(|&size| size > MOST) {
            return Err(problem(path, format!("{name} has the shape {shape:?}, expected at most {MOST} features")));
        }
        let tensor = file.get(name).map_err(failed)?;
        tensor.ok_or_else(|| problem(path, format!("has no array {name}")))
    };
    super::gaussian(path, 0, &tensor(mean)?, &tensor(covariance)?)
}

/// Writes mean and covariance.
pub(super) fn write(path: &Path, mean: &Tensor, covariance: &Tensor) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".zipped");
    let beside = Path::new(&beside);
    let failed = |error: &dyn std::fmt::Display| problem(path, error.to_string());
    let [mean_key, covariance_key] = KEYS[0];
    Tensor::write_npz(&[(mean_key, mean), (covariance_key, covariance)], beside).map_err(|error| failed(&error))?;
    let bytes = fs::read(beside).and_then(|bytes| fs::remove_file(beside).map(|()| bytes));
    let bytes = bytes.map_err(|error| failed(&error))?;
    Ok(weights::write_bytes(path, &bytes)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn message(arrays: &[(&str, Tensor)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("published.npz");
        Tensor::write_npz(arrays, &path).unwrap();
        read(&path).map_or_else(|error| error.to_string(), |found| format!("{} {:?}", found.count(), found.mean()))
    }

    #[test]
    fn both_spellings_and_both_widths_are_read() {
        let mean = Tensor::new(&[0.5f32, 2.0], &Device::Cpu).unwrap();
        let covariance = Tensor::new(&[[1f32, 0.5], [0.5, 1.0]], &Device::Cpu).unwrap();
        let wide = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap();
        assert_eq!(message(&[("mu", mean.clone()), ("sigma", covariance.clone())]), "0 [0.5, 2.0]");
        let reference = [("ref_mu", wide(&mean)), ("ref_sigma", wide(&covariance)), ("arr_0", mean.clone())];
        assert_eq!(message(&reference), "0 [0.5, 2.0]");
        let other = message(&[("mu", mean.clone()), ("cov", covariance.clone())]);
        assert!(
            other.ends_with("published.npz: has the keys cov, mu, expected mu and sigma, or ref_mu and ref_sigma"),
            "{other}"
        );
        let whole = Tensor::new(&[1u32, 2], &Device::Cpu).unwrap();
        assert!(message(&[("mu", whole), ("sigma", covariance)]).contains("mu is of type U32, expected f32 or f64"));
        let deep = Tensor::zeros((1, 1, 1), DType::F32, &Device::Cpu).unwrap();
        assert!(message(&[("mu", mean), ("sigma", deep)]).contains("expected at most"));
    }

    #[test]
    fn broken_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("published.npz");
        let covariance = Tensor::zeros((3, 3), DType::F64, &Device::Cpu).unwrap();
        let mean = Tensor::zeros(3, DType::F64, &Device::Cpu).unwrap();
        write(&path, &mean, &covariance).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains("published.npz"), "{length} bytes");
        }
        assert!(read(folder.path()).unwrap_err().to_string().contains("no regular file"));
    }
}
