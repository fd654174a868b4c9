//! Which of cuDNN's algorithms computes.

use super::Digits;

/// Bytes of memory that an algorithm may want for itself.
const WORKSPACE: usize = 1 << 30;

/// How an algorithm multiplies numbers of single precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Math {
    /// Perhaps by tensor cores, as TF32 from Ampere on.
    Default,
    /// The same, asked for by name.
    TensorCores,
    /// Factors may be rounded to half precision.
    Rounded,
    /// In single precision.
    Fma,
}

/// An algorithm and what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice<A> {
    pub(super) algorithm: A,
    pub(super) math: Math,
    /// Bytes.
    pub(super) workspace: usize,
}

/// A choice that cuDNN proposes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proposal<A> {
    pub(super) choice: Choice<A>,
    pub(super) works: bool,
    /// Whether the same numbers give the same results.
    pub(super) deterministic: bool,
}

impl Digits {
    /// What is asked for.
    pub(super) fn math(self) -> Math {
        match self {
            Self::Single => Math::Fma,
            Self::Tf32 => Math::Default,
        }
    }

    /// Whether an algorithm keeps as many.
    fn kept_by(self, math: Math) -> bool {
        match self {
            Self::Single => math == Math::Fma,
            Self::Tf32 => math != Math::Rounded,
        }
    }
}

/// The first that works, gives the same results every time, keeps the digits and does not want too much memory.
pub(super) fn best<A: Copy>(proposals: &[Proposal<A>], digits: Digits) -> Option<Choice<A>> {
    let fits = |proposal: &&Proposal<A>| {
        let Choice { math, workspace, .. } = proposal.choice;
        proposal.works && proposal.deterministic && digits.kept_by(math) && workspace <= WORKSPACE
    };
    proposals.iter().find(fits).map(|proposal| proposal.choice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(algorithm: u32, math: Math) -> Proposal<u32> {
        Proposal { choice: Choice { algorithm, math, workspace: 0 }, works: true, deterministic: true }
    }

    #[test]
    fn the_first_that_will_do_is_chosen() {
        let fails = Proposal { works: false, ..proposal(0, Math::Fma) };
        let varies = Proposal { deterministic: false, ..proposal(1, Math::Fma) };
        let mut large = proposal(2, Math::Fma);
        large.choice.workspace = WORKSPACE + 1;
        let mut all = vec![fails, varies, large];
        assert_eq!(best(&all, Digits::Single), None);
        assert_eq!(best(&all, Digits::Tf32), None);
        let mut fits = proposal(3, Math::Fma);
        fits.choice.workspace = WORKSPACE;
        all.extend([fits, proposal(4, Math::Fma)]);
        for digits in [Digits::Single, Digits::Tf32] {
            assert_eq!(best(&all, digits), Some(fits.choice));
        }
    }

    #[test]
    fn digits_are_kept() {
        let math = [Math::Rounded, Math::TensorCores, Math::Default, Math::Fma];
        let all: Vec<_> = (0..).zip(math).map(|(algorithm, math)| proposal(algorithm, math)).collect();
        let chosen = |proposals: &[_], digits| best(proposals, digits).map(|choice: Choice<u32>| choice.algorithm);
        assert_eq!(chosen(&all, Digits::Single), Some(3));
        assert_eq!(chosen(&all[..3], Digits::Single), None);
        for first in 0..3 {
            assert_eq!(chosen(&all[first..], Digits::Tf32), Some(first.max(1) as u32));
        }
        assert_eq!(chosen(&all[..1], Digits::Tf32), None);
        assert_eq!([Digits::Single, Digits::Tf32].map(Digits::math), [Math::Fma, Math::Default]);
    }
}
