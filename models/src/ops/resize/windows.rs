//! From which pixels of a row, and with which weights, each pixel of the resized row is taken.

/// A window of neighbouring old pixels for each new pixel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Windows {
    old_len: usize,
    /// The first pixel of each window, and the weights of it and those after it.
    windows: Vec<(usize, Vec<f32>)>,
}

impl Windows {
    /// A triangle around the position of each new pixel, which ends at the neighbouring old pixels, or with `antialias` at
    /// the distance of the neighbouring new pixels if that is farther.
    pub(super) fn triangle(old_len: usize, new_len: usize, antialias: bool) -> Self {
        let step = old_len as f64 / new_len as f64;
        let reach = if antialias { step.max(1.0) } else { 1.0 };
        let window = |new: usize| {
            let centre = (new as f64 + 0.5) * step - 0.5;
            let weight = |old: usize| (1.0 - (old as f64 - centre).abs() / reach).max(0.0);
            let first = (centre - reach).ceil().max(0.0) as usize;
            let last = ((centre + reach).floor() as usize).min(old_len - 1);
            let total: f64 = (first..=last).map(weight).sum();
            (first, (first..=last).map(|old| (weight(old) / total) as f32).collect())
        };
        Self { old_len, windows: (0..new_len).map(window).collect() }
    }

    /// Every pixel twice.
    pub(super) fn twice(old_len: usize) -> Self {
        Self { old_len, windows: (0..2 * old_len).map(|new| (new / 2, vec![1.0])).collect() }
    }

    /// From new pixels to old ones with the same weights: the transposed [`matrix`](Self::matrix).
    pub(super) fn reversed(&self) -> Self {
        let mut windows = vec![(0, Vec::new()); self.old_len];
        for (new, (start, weights)) in self.windows.iter().enumerate() {
            for (old, weight) in (*start..).zip(weights) {
                let (first, reversed) = &mut windows[old];
                if reversed.is_empty() {
                    *first = new;
                }
                // A window that this pixel is not in lies between two that it is in.
                reversed.resize(new - *first, 0.0);
                reversed.push(*weight);
            }
        }
        Self { old_len: self.windows.len(), windows }
    }

    /// `[new, old]`.
    pub(super) fn matrix(&self) -> Vec<f32> {
        let mut matrix = vec![0.0; self.windows.len() * self.old_len];
        for (row, (start, weights)) in matrix.chunks_exact_mut(self.old_len).zip(&self.windows) {
            row[*start..][..weights.len()].copy_from_slice(weights);
        }
        matrix
    }

    pub(super) fn old_len(&self) -> usize {
        self.old_len
    }

    pub(super) fn new_len(&self) -> usize {
        self.windows.len()
    }

    /// First old pixel of a new one.
    #[inline(always)]
    pub(super) fn start(&self, new: usize) -> usize {
        self.windows[new].0
    }

    /// Weights of the old pixels from the first on.
    #[inline(always)]
    pub(super) fn weights(&self, new: usize) -> &[f32] {
        &self.windows[new].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reversing_transposes() {
        for (old, new) in [(2, 5), (5, 2), (7, 3), (4, 4), (1, 3)] {
            for windows in [Windows::triangle(old, new, false), Windows::triangle(old, new, true)] {
                let (matrix, reversed) = (windows.matrix(), windows.reversed().matrix());
                for i in 0..old * new {
                    assert_eq!(matrix[i], reversed[i % old * new + i / old]);
                }
            }
        }
    }

    #[test]
    fn weights_add_up_to_1() {
        let windows = Windows::triangle(9, 4, true);
        assert!(windows.matrix().chunks(9).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-6));
    }
}
