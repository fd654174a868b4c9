//! The real images of a training step.

use std::collections::HashSet;

use drifting_spec::Stream;

use super::Dataset;

/// Real images that a step draws for each of its classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Images of the class.
    pub positives: usize,
    /// Images of any class.
    pub unconditional: usize,
}

/// The real images of one step, numbers in [-1, 1].
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[classes, positives, channels, height, width]`.
    pub positives: Vec<f32>,
    /// `[classes, unconditional, channels, height, width]`.
    pub unconditional: Vec<f32>,
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
///
/// The paper keeps queues of recent images because its data do not fit into memory (appendix A.8); here everything is
/// in memory and each class is drawn from as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Sampler<'a> {
    data: &'a Dataset,
    seed: u64,
}

impl<'a> Sampler<'a> {
    /// A sampler of `data`.
    #[must_use]
    pub fn new(data: &'a Dataset, seed: u64) -> Self {
        Self { data, seed }
    }

    /// `count` different classes for step `step`, in ascending order; all of them when there are no more.
    #[must_use]
    pub fn classes(&self, step: u64, count: usize) -> Vec<usize> {
        let mut classes = Stream::new(self.seed, "data.classes", step).choose(self.data.classes().len(), count);
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
            let images = self.data.of_class(class);
            draw(&mut stream, images.len(), counts.positives).into_iter().map(|position| images[position])
        });
        let positives: Vec<usize> = positives.collect();
        let mut stream = Stream::new(self.seed, "data.unconditional", step);
        let everything = |_| draw(&mut stream, self.data.len(), counts.unconditional);
        Drawn { positives, unconditional: classes.iter().flat_map(everything).collect() }
    }

    /// The numbers of the images that [`draw`](Self::draw) names.
    #[must_use]
    pub fn batch(&self, step: u64, classes: &[usize], counts: Counts) -> Batch {
        let drawn = self.draw(step, classes, counts);
        Batch { positives: self.data.images(&drawn.positives), unconditional: self.data.images(&drawn.unconditional) }
    }
}

/// `take` positions of 0..`from`: different ones as long as there are enough. None of an empty range.
fn draw(stream: &mut Stream, from: usize, take: usize) -> Vec<usize> {
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
    use drifting_spec::ImageShape;

    use super::*;

    /// 3 images of class 0 with values below 3, 997 of class 1; each image is its own number.
    fn data() -> Dataset {
        let shape = ImageShape { channels: 1, height: 1, width: 2 };
        let pixels = (0..1000u16).flat_map(|image| image.to_be_bytes()).collect();
        let labels = (0..1000).map(|image| usize::from(image >= 3)).collect();
        Dataset::new(shape, pixels, labels, vec!["few".into(), "many".into()]).unwrap()
    }

    fn numbers(images: &[f32]) -> Vec<usize> {
        let byte = |value: f32| ((value + 1.0) * 127.5).round() as usize;
        images.chunks(2).map(|image| byte(image[0]) * 256 + byte(image[1])).collect()
    }

    fn distinct(numbers: &[usize]) -> usize {
        numbers.iter().collect::<HashSet<_>>().len()
    }

    #[test]
    fn a_step_is_a_function_of_seed_and_step() {
        let data = data();
        let counts = Counts { positives: 8, unconditional: 4 };
        let draw = |seed, step| Sampler::new(&data, seed).batch(step, &[0, 1, 1], counts);
        assert_eq!(draw(1, 5), draw(1, 5));
        assert_ne!(draw(1, 5), draw(1, 6));
        assert_ne!(draw(1, 5), draw(2, 5));
    }

    #[test]
    fn positives_are_of_their_class_and_repeat_only_when_they_must() {
        let data = data();
        for positives in [8, 500] {
            let batch = Sampler::new(&data, 1).batch(0, &[1, 0], Counts { positives, unconditional: 40 });
            let (many, few) = batch.positives.split_at(2 * positives);
            let (many, few) = (numbers(many), numbers(few));
            assert!(many.iter().all(|&image| image >= 3) && few.iter().all(|&image| image < 3));
            assert_eq!((distinct(&many), few.len()), (positives, positives));
            let unconditional = numbers(&batch.unconditional);
            assert_eq!((unconditional.len(), distinct(&unconditional[..40])), (80, 40));
            assert_ne!(unconditional[..40], unconditional[40..]);
        }
        let three = Sampler::new(&data, 1).batch(0, &[0], Counts { positives: 3, unconditional: 0 });
        assert_eq!((distinct(&numbers(&three.positives)), three.unconditional.len()), (3, 0));
    }

    #[test]
    fn every_image_is_drawn_sooner_or_later() {
        let data = data();
        let sampler = Sampler::new(&data, 3);
        let counts = Counts { positives: 0, unconditional: 50 };
        let drawn: Vec<_> =
            (0..200).flat_map(|step| numbers(&sampler.batch(step, &[0], counts).unconditional)).collect();
        assert!(distinct(&drawn) > 990, "{}", distinct(&drawn));
    }

    #[test]
    fn the_classes_of_a_step_differ() {
        let data = data();
        assert_eq!(Sampler::new(&data, 1).classes(0, 5), [0, 1]);
        let single: HashSet<_> = (0..50).map(|step| Sampler::new(&data, 1).classes(step, 1)[0]).collect();
        assert_eq!(single.len(), 2);
    }
}
