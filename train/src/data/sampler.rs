//! The real images of a training step.

use std::collections::HashSet;

use drifting_spec::Stream;

/// Real images that a step draws for each of its classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Images of the class.
    pub positives: usize,
    /// Images of any class.
    pub unconditional: usize,
}

/// Indices of the real images of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Positives, class group after class group.
    pub positives: Vec<usize>,
    /// Unconditional images, class group after class group.
    pub unconditional: Vec<usize>,
}

/// Draws images as a function of (seed, step), so that a resumed run draws what the straight one does.
#[derive(Clone, Copy, Debug)]
pub struct Sampler<'a> {
    by_class: &'a [Vec<usize>],
    images: usize,
    seed: u64,
}

impl<'a> Sampler<'a> {
    /// A sampler of the images 0, 1, 2, ... that `by_class` lists.
    #[must_use]
    pub fn new(by_class: &'a [Vec<usize>], seed: u64) -> Self {
        Self { by_class, images: by_class.iter().map(Vec::len).sum(), seed }
    }

    /// `count` different classes for step `step`, in ascending order; all of them when there are no more.
    #[must_use]
    pub fn classes(&self, step: u64, count: usize) -> Vec<usize> {
        let mut classes = Stream::new(self.seed, "data.classes", step).choose(self.by_class.len(), count);
        classes.sort_unstable();
        classes
    }

    /// The images of step `step` for `classes`, each below the number of classes: positives of the class and
    /// unconditional images of any class, both without repetition within a class of the step as long as there are
    /// enough, otherwise with.
    #[must_use]
    pub fn draw(&self, step: u64, classes: &[usize], counts: Counts) -> Drawn {
        let mut stream = Stream::new(self.seed, "data.positives", step);
        let positives = classes.iter().flat_map(|&class| {
            let images = self.by_class.get(class).map_or(&[][..], Vec::as_slice);
            draw(&mut stream, images.len(), counts.positives).into_iter().map(|position| images[position])
        });
        let positives: Vec<usize> = positives.collect();
        let mut stream = Stream::new(self.seed, "data.unconditional", step);
        let everything = |_| draw(&mut stream, self.images, counts.unconditional);
        Drawn { positives, unconditional: classes.iter().flat_map(everything).collect() }
    }
}

/// `take` positions of 0..`from`: different ones as long as there are enough. None of an empty range.
pub(super) fn draw(stream: &mut Stream, from: usize, take: usize) -> Vec<usize> {
    if from == 0 {
        return Vec::new();
    }
    if take > from {
        return (0..take).map(|_| stream.below(from)).collect();
    }
    if take * 16 > from {
        return stream.choose(from, take);
    }
    // Few of many: asking again is cheaper than shuffling a list of all of them.
    let mut seen = HashSet::with_capacity(take);
    std::iter::repeat_with(|| stream.below(from)).filter(|&position| seen.insert(position)).take(take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3 images of class 0, 997 of class 1.
    fn classes() -> Vec<Vec<usize>> {
        vec![(0..3).collect(), (3..1000).collect()]
    }

    fn distinct(numbers: &[usize]) -> usize {
        numbers.iter().collect::<HashSet<_>>().len()
    }

    #[test]
    fn a_step_is_a_function_of_seed_and_step() {
        let classes = classes();
        let counts = Counts { positives: 8, unconditional: 4 };
        let draw = |seed, step| Sampler::new(&classes, seed).draw(step, &[0, 1, 1], counts);
        assert_eq!(draw(1, 5), draw(1, 5));
        assert_ne!(draw(1, 5), draw(1, 6));
        assert_ne!(draw(1, 5), draw(2, 5));
    }

    #[test]
    fn positives_are_of_their_class_and_repeat_only_when_they_must() {
        let classes = classes();
        for positives in [8, 500] {
            let drawn = Sampler::new(&classes, 1).draw(0, &[1, 0], Counts { positives, unconditional: 40 });
            let (many, few) = drawn.positives.split_at(positives);
            assert!(many.iter().all(|&image| image >= 3) && few.iter().all(|&image| image < 3));
            assert_eq!((distinct(many), distinct(few)), (positives, 3));
            let (first, second) = drawn.unconditional.split_at(40);
            assert_eq!((distinct(first), distinct(second)), (40, 40));
            assert_ne!(first, second);
        }
    }

    #[test]
    fn every_image_is_drawn_sooner_or_later() {
        let classes = classes();
        let sampler = Sampler::new(&classes, 3);
        let counts = Counts { positives: 0, unconditional: 50 };
        let drawn: Vec<_> = (0..200).flat_map(|step| sampler.draw(step, &[0], counts).unconditional).collect();
        assert!(distinct(&drawn) > 990, "{}", distinct(&drawn));
    }

    #[test]
    fn the_classes_of_a_step_differ() {
        let classes = classes();
        assert_eq!(Sampler::new(&classes, 1).classes(0, 5), [0, 1]);
        let single: HashSet<_> = (0..50).map(|step| Sampler::new(&classes, 1).classes(step, 1)[0]).collect();
        assert_eq!(single.len(), 2);
    }
}
