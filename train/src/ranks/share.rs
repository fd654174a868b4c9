//! Which class groups a rank has.

use std::ops::Range;

use super::Ranks;
use crate::drift::Mean;

/// The class groups of one rank: neighbours, so that those of all ranks are in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The first group.
    pub first: usize,
    /// Groups of this rank.
    pub groups: usize,
    /// Groups of all ranks.
    pub total: usize,
}

impl Share {
    /// The share of rank `rank` of `size` in `total` groups; shares differ by one group at most.
    #[must_use]
    pub fn new(total: usize, rank: usize, size: usize) -> Self {
        let first = total * rank / size;
        Self { first, groups: total * (rank + 1) / size - first, total }
    }

    /// The share of this process.
    #[must_use]
    pub fn of(ranks: &dyn Ranks, total: usize) -> Self {
        Self::new(total, ranks.rank(), ranks.size())
    }

    /// Its groups among those of all ranks.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.first..self.first + self.groups
    }

    /// The part of `all` that belongs to its groups, `each` numbers to a group.
    #[must_use]
    pub fn part<'a, T>(&self, all: &'a [T], each: usize) -> &'a [T] {
        &all[self.first * each..][..self.groups * each]
    }

    /// Lists of one mean for each group of all ranks, from lists of one for each group of this rank.
    #[must_use]
    pub fn gather(&self, ranks: &dyn Ranks, lists: &[&[Mean]]) -> Vec<Vec<Mean>> {
        if ranks.size() == 1 {
            return lists.iter().map(|list| list.to_vec()).collect();
        }
        let mine: Vec<f64> =
            lists.iter().flat_map(|list| list.iter().flat_map(|mean| [mean.sum, mean.count])).collect();
        let all = ranks.gather(&mine);
        let mut gathered = vec![Vec::with_capacity(self.total); lists.len()];
        let mut rest = all.as_chunks::<2>().0.iter();
        for rank in 0..ranks.size() {
            let groups = Self::new(self.total, rank, ranks.size()).groups;
            for list in &mut gathered {
                list.extend(rest.by_ref().take(groups).map(|&[sum, count]| Mean { sum, count }));
            }
        }
        gathered
    }
}

#[cfg(test)]
mod tests {
    use super::super::together;
    use super::*;

    #[test]
    fn every_group_has_one_rank() {
        for (total, size) in [(1, 1), (4, 2), (7, 3), (10, 4), (64, 5)] {
            let shares: Vec<Share> = (0..size).map(|rank| Share::new(total, rank, size)).collect();
            let groups: Vec<usize> = shares.iter().flat_map(Share::range).collect();
            assert_eq!(groups, (0..total).collect::<Vec<_>>());
            assert!(shares.iter().all(|share| share.groups > 0 && share.groups <= total.div_ceil(size)));
        }
        let all: Vec<usize> = (0..14).collect();
        assert_eq!(Share::new(7, 1, 3).part(&all, 2), [4, 5, 6, 7]);
    }

    #[test]
    fn means_come_in_the_order_of_the_groups() {
        let mean = |list: usize, group: usize| Mean { sum: (10 * list + group) as f64, count: 1.0 + group as f64 };
        let found = together(3, |ranks| {
            let share = Share::of(ranks, 7);
            let lists: Vec<Vec<Mean>> =
                (0..2).map(|list| share.range().map(|group| mean(list, group)).collect()).collect();
            share.gather(ranks, &lists.iter().map(Vec::as_slice).collect::<Vec<_>>())
        });
        for lists in found {
            for (list, means) in lists.iter().enumerate() {
                assert_eq!(*means, (0..7).map(|group| mean(list, group)).collect::<Vec<_>>());
            }
        }
    }
}
