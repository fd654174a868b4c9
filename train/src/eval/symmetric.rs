//! Symmetric matrices in f64: eigenvalues, and the square root of a covariance.

use faer::linalg::solvers::SelfAdjointEigen;
use faer::{Mat, MatRef, Side};

use super::{EvalError, Result};

/// A symmetric matrix, row by row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Symmetric {
    size: usize,
    values: Vec<f64>,
}

impl Symmetric {
    /// The matrix of this size whose rows follow one another; the mean with its transpose makes it symmetric.
    pub(super) fn new(size: usize, rows: &[f64]) -> Self {
        let value = |i: usize, j: usize| 0.5 * (rows[i * size + j] + rows[j * size + i]);
        Self { size, values: (0..size * size).map(|at| value(at / size, at % size)).collect() }
    }

    /// Its rows, one after another.
    pub(super) fn rows(&self) -> &[f64] {
        &self.values
    }

    pub(super) fn trace(&self) -> f64 {
        self.diagonal().sum()
    }

    pub(super) fn diagonal(&self) -> impl Iterator<Item = f64> {
        self.values.iter().step_by(self.size + 1).copied()
    }

    fn matrix(&self) -> MatRef<'_, f64> {
        MatRef::from_row_major_slice(&self.values, self.size, self.size)
    }

    /// A factor F with F F^T equal to a matrix without negative eigenvalues, as many columns as its rank: eigenvalues that
    /// are rounding count as 0, since their roots would not be small.
    pub(super) fn factor(&self) -> Result<Factor> {
        self.check()?;
        // One thread: the sums must not depend on how many there are.
        let eigen = SelfAdjointEigen::new(self.matrix(), Side::Lower).map_err(|_| diverged())?;
        let (vectors, values) = (eigen.U(), eigen.S().column_vector());
        let largest = values.iter().copied().fold(0.0, f64::max);
        let least = largest * f64::EPSILON * self.size as f64;
        let kept: Vec<usize> = (0..self.size).filter(|&at| values[at] > least).collect();
        Ok(Factor(Mat::from_fn(self.size, kept.len(), |row, column| {
            vectors[(row, kept[column])] * values[kept[column]].sqrt()
        })))
    }

    /// The trace of the square root: the sum of the roots of the eigenvalues, those below 0 left out.
    pub(super) fn trace_sqrt(&self) -> Result<f64> {
        self.check()?;
        if self.size == 0 {
            return Ok(0.0);
        }
        let values = self.matrix().self_adjoint_eigenvalues(Side::Lower).map_err(|_| diverged())?;
        Ok(values.into_iter().map(|value| value.max(0.0).sqrt()).sum())
    }

    fn check(&self) -> Result<()> {
        if self.values.iter().all(|value| value.is_finite()) { Ok(()) } else { Err(diverged()) }
    }
}

/// What a covariance is the square of.
pub(super) struct Factor(Mat<f64>);

impl Factor {
    /// F^T other F, whose eigenvalues are those of other times F F^T, and of S other S where S is the symmetric root.
    pub(super) fn sandwich(&self, other: &Symmetric) -> Symmetric {
        let product = self.0.transpose() * (other.matrix() * &self.0);
        let rank = product.nrows();
        let rows: Vec<f64> = (0..rank * rank).map(|at| product[(at / rank, at % rank)]).collect();
        Symmetric::new(rank, &rows)
    }
}

fn diverged() -> EvalError {
    EvalError::Samples("covariance: its eigenvalues do not converge; are all features finite?".into())
}

#[cfg(test)]
mod tests {
    use drifting_spec::Stream;

    use super::*;

    fn covariance(n: usize, rank: usize) -> Symmetric {
        let mut stream = Stream::new(1, "symmetric", n as u64);
        let factors = Mat::from_fn(n, n, |_, column| if column < rank { stream.normal() } else { 0.0 });
        let square = &factors * factors.transpose();
        Symmetric::new(n, &(0..n * n).map(|at| square[(at / n, at % n)]).collect::<Vec<_>>())
    }

    #[test]
    fn the_root_of_a_known_matrix() {
        // Eigenvalues 1 and 3.
        let root = Symmetric::new(2, &[2.0, 1.0, 1.0, 2.0]).trace_sqrt().unwrap();
        assert!((root - 1.0 - 3f64.sqrt()).abs() < 1e-14, "{root}");
    }

    #[test]
    fn a_factor_times_its_transpose_is_the_matrix() {
        for (n, rank) in [(1, 1), (5, 5), (40, 40), (40, 7), (300, 200)] {
            let matrix = covariance(n, rank);
            let factor = matrix.factor().unwrap();
            assert_eq!(factor.0.ncols(), rank);
            let square = &factor.0 * factor.0.transpose();
            let worst = (0..n * n).map(|at| (square[(at / n, at % n)] - matrix.values[at]).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-12 * matrix.trace(), "{n} {rank} {worst}");
            // The root of a matrix squared is the matrix.
            let squared = factor.sandwich(&matrix).trace_sqrt().unwrap();
            assert!((squared - matrix.trace()).abs() < 1e-9 * matrix.trace(), "{n} {rank}");
        }
    }

    #[test]
    fn zero_has_a_root_and_nan_does_not() {
        assert_eq!(Symmetric::new(3, &[0.0; 9]).trace_sqrt().unwrap(), 0.0);
        assert_eq!(Symmetric::new(3, &[0.0; 9]).factor().unwrap().0.ncols(), 0);
        let nan = Symmetric::new(2, &[1.0, f64::NAN, f64::NAN, 1.0]);
        assert!(nan.trace_sqrt().is_err() && nan.factor().is_err());
    }
}
