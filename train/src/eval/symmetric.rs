//! Symmetric matrices in f64: eigenvalues, and the square root of a covariance.

use super::{EvalError, Result};

/// Sweeps after which the eigenvalues must have converged; 6 to 10 are usual.
const SWEEPS: usize = 60;

/// A symmetric matrix, row by row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Symmetric {
    size: usize,
    values: Vec<f64>,
}

/// Eigenvalues with their eigenvectors, the vectors row by row.
struct Eigen {
    values: Vec<f64>,
    vectors: Vec<f64>,
}

impl Symmetric {
    /// The matrix of this size whose rows follow one another; the mean with its transpose makes it symmetric.
    pub(super) fn new(size: usize, rows: &[f64]) -> Self {
        let value = |i: usize, j: usize| 0.5 * (rows[i * size + j] + rows[j * size + i]);
        Self { size, values: (0..size * size).map(|at| value(at / size, at % size)).collect() }
    }

    pub(super) fn trace(&self) -> f64 {
        self.values.iter().step_by(self.size + 1).sum()
    }

    /// The square root of a matrix without negative eigenvalues; those that rounding made negative count as 0.
    pub(super) fn sqrt(&self) -> Result<Self> {
        let Eigen { values, vectors } = self.eigen()?;
        let n = self.size;
        let scaled: Vec<f64> = (0..n * n).map(|at| vectors[at] * values[at / n].max(0.0).sqrt()).collect();
        // The sum over k of root(value k) * vector k * vector k transposed.
        Ok(Self::new(n, &product(&transposed(&scaled, n), &vectors, n)))
    }

    /// self * other * self.
    pub(super) fn sandwich(&self, other: &Self) -> Self {
        let n = self.size;
        Self::new(n, &product(&product(&self.values, &other.values, n), &self.values, n))
    }

    /// The trace of the square root: the sum of the roots of the eigenvalues, those below 0 left out.
    pub(super) fn trace_sqrt(&self) -> Result<f64> {
        Ok(self.eigen()?.values.iter().map(|value| value.max(0.0).sqrt()).sum())
    }

    /// Jacobi's method (Golub and Van Loan, Matrix Computations, section 8.5): rotations in rows p, q make one pair of
    /// entries zero at a time, until all that are left are below rounding.
    fn eigen(&self) -> Result<Eigen> {
        let n = self.size;
        let mut a = self.values.clone();
        let mut vectors: Vec<f64> = (0..n * n).map(|at| f64::from(u8::from(at / n == at % n))).collect();
        let total: f64 = a.iter().map(|value| value * value).sum();
        for _ in 0..SWEEPS {
            let diagonal: f64 = a.iter().step_by(n + 1).map(|value| value * value).sum();
            // Also true when everything is zero; never when something is NaN.
            let off: f64 = (0..n * n).filter(|at| at / n != at % n).map(|at| a[at] * a[at]).sum();
            if off <= total.max(diagonal) * 1e-26 {
                return Ok(Eigen { values: a.iter().step_by(n + 1).copied().collect(), vectors });
            }
            for p in 0..n {
                for q in p + 1..n {
                    rotate(&mut a, &mut vectors, n, (p, q));
                }
            }
        }
        Err(EvalError::Samples("covariance: its eigenvalues do not converge; are all features finite?".into()))
    }
}

fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, (p, q): (usize, usize)) {
    let off = a[p * n + q];
    if off == 0.0 {
        return;
    }
    let tau = (a[q * n + q] - a[p * n + p]) / (2.0 * off);
    let tangent = tau.signum() / (tau.abs() + (1.0 + tau * tau).sqrt());
    let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
    let sine = tangent * cosine;
    turn_rows(a, n, (p, q), (cosine, sine));
    for row in a.chunks_exact_mut(n) {
        let (left, right) = (row[p], row[q]);
        row[p] = cosine * left - sine * right;
        row[q] = sine * left + cosine * right;
    }
    turn_rows(vectors, n, (p, q), (cosine, sine));
}

fn turn_rows(matrix: &mut [f64], n: usize, (p, q): (usize, usize), (cosine, sine): (f64, f64)) {
    // p is before q.
    let (head, tail) = matrix.split_at_mut(q * n);
    for (upper, lower) in head[p * n..(p + 1) * n].iter_mut().zip(&mut tail[..n]) {
        (*upper, *lower) = (cosine * *upper - sine * *lower, sine * *upper + cosine * *lower);
    }
}

fn transposed(a: &[f64], n: usize) -> Vec<f64> {
    (0..n * n).map(|at| a[at % n * n + at / n]).collect()
}

fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    let mut c = vec![0.0; n * n];
    for (row, sums) in a.chunks_exact(n).zip(c.chunks_exact_mut(n)) {
        for (&factor, other) in row.iter().zip(b.chunks_exact(n)) {
            for (sum, value) in sums.iter_mut().zip(other) {
                *sum += factor * value;
            }
        }
    }
    c
}

#[cfg(test)]
mod tests {
    use drifting_spec::Stream;

    use super::*;

    fn covariance(n: usize, rank: usize) -> Symmetric {
        let mut stream = Stream::new(1, "symmetric", n as u64);
        let factors: Vec<f64> = (0..n * n).map(|at| if at % n < rank { stream.normal() } else { 0.0 }).collect();
        Symmetric::new(n, &product(&factors, &transposed(&factors, n), n))
    }

    #[test]
    fn eigenvalues_of_a_known_matrix() {
        let mut values = Symmetric::new(2, &[2.0, 1.0, 1.0, 2.0]).eigen().unwrap().values;
        values.sort_by(f64::total_cmp);
        assert!((values[0] - 1.0).abs() < 1e-14 && (values[1] - 3.0).abs() < 1e-14, "{values:?}");
    }

    #[test]
    fn the_root_times_itself_is_the_matrix() {
        for (n, rank) in [(1, 1), (5, 5), (40, 40), (40, 7)] {
            let matrix = covariance(n, rank);
            let root = matrix.sqrt().unwrap();
            let square = product(&root.values, &root.values, n);
            let worst = square.iter().zip(&matrix.values).map(|(l, r)| (l - r).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-10 * matrix.trace(), "{n} {rank} {worst}");
            assert!((root.trace() - matrix.trace_sqrt().unwrap()).abs() < 1e-9 * root.trace());
        }
    }

    #[test]
    fn zero_has_a_root_and_nan_does_not() {
        assert_eq!(Symmetric::new(3, &[0.0; 9]).sqrt().unwrap().trace(), 0.0);
        assert!(Symmetric::new(2, &[1.0, f64::NAN, f64::NAN, 1.0]).sqrt().is_err());
    }
}
