//! From settings to what training draws from.

use std::sync::Arc;

use drifting_spec::ImageShape;

use super::sources::{Source, Subset};
use super::{
    Augment, Crop, DataSource, DirectBatches, DirectFeed, Feed, Images, LabelledBatches, QueueFeed, Report, Result,
};
use crate::config::{LoaderSettings, QueueSettings};

/// The settings that decide what training sees.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// Where the images are.
    pub data: &'a DataSource,
    /// Shape that the network takes.
    pub shape: ImageShape,
    /// What is done to each image.
    pub augment: Augment,
    /// Threads.
    pub loader: LoaderSettings,
    /// Seed of the run.
    pub seed: u64,
}

impl Reading<'_> {
    /// Opens the training images.
    ///
    /// # Errors
    /// A source that is missing or broken, images that do not fit the shape or the augmentation; the message names the
    /// file or the key.
    pub fn images(&self) -> Result<(Arc<Images>, Report)> {
        let (source, report) = self.data.open_source(self.shape, &self.augment)?;
        Ok((Arc::new(self.drawn(source, self.augment)?), report))
    }

    /// Opens the training images and those that are only measured on: every `hold_out`-th training image of each class or,
    /// where `hold_out` is 0, the source's test images, if it has any. What is measured on is not augmented: where training
    /// crops, it is the centre crop.
    ///
    /// # Errors
    /// As [`images`](Self::images); a class with fewer images than `hold_out`; test images of other classes.
    pub fn images_and_held_out(&self, hold_out: usize) -> Result<(Arc<Images>, Option<Images>, Report)> {
        let crop = if self.augment.crop == Crop::Fit { Crop::Fit } else { Crop::Adm };
        let plain = Augment { crop, ..Augment::default() };
        if hold_out > 0 {
            let (source, report) = self.data.open_source(self.shape, &self.augment)?;
            let (rest, held_out) = Subset::hold_out(&source, hold_out)?;
            let rest = self.drawn(Arc::new(rest), self.augment)?;
            return Ok((Arc::new(rest), Some(self.drawn(Arc::new(held_out), plain)?), report));
        }
        let (images, report) = self.images()?;
        let test = self.data.open_test_source(self.shape, &plain, &images.info().classes)?;
        let test = test.map(|(source, _)| self.drawn(source, plain)).transpose()?;
        Ok((images, test, report))
    }

    fn drawn(&self, source: Arc<dyn Source>, augment: Augment) -> Result<Images> {
        Ok(Images::new(source, self.shape, augment, self.seed)?.on_bad(self.data.on_bad()))
    }

    /// Opens what a generator's steps draw from: queues, or the data themselves.
    ///
    /// # Errors
    /// As [`images`](Self::images).
    pub fn feed(&self, queue: Option<QueueSettings>) -> Result<(Box<dyn Feed>, Report)> {
        let (images, report) = self.images()?;
        let feed: Box<dyn Feed> = match queue {
            Some(queue) => Box::new(QueueFeed::new(images, queue, self.loader, self.seed)),
            None => Box::new(DirectFeed::of(images, self.loader, self.seed)),
        };
        Ok((feed, report))
    }

    /// Opens the labelled batches of an encoder's steps.
    ///
    /// # Errors
    /// As [`images`](Self::images).
    pub fn batches(&self) -> Result<(Box<dyn LabelledBatches>, Report)> {
        let (images, report) = self.images()?;
        Ok((Box::new(DirectBatches::of(images, self.loader, self.seed)), report))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Draw, Request};
    use super::*;

    #[test]
    fn settings_lead_to_a_feed_and_to_batches() {
        let data = DataSource::default();
        let shape = ImageShape { channels: 3, height: 16, width: 16 };
        let augment = Augment { crop: Crop::Adm, ..Augment::default() };
        let reading = Reading { data: &data, shape, augment, loader: LoaderSettings::default(), seed: 1 };
        let request = Request { classes: 2, positives: 3, unconditional: 1 };
        for queue in [None, Some(QueueSettings::default())] {
            let (mut feed, report) = reading.feed(queue).unwrap();
            let step = feed.next(0, request).unwrap();
            assert_eq!((step.positives.len(), step.unconditional.len()), (6 * 768, 2 * 768));
            assert_eq!((feed.state().is_empty(), report.images), (queue.is_none(), 5000));
        }
        let (mut batches, _) = reading.batches().unwrap();
        assert_eq!(batches.next(3, 4).unwrap().images.len(), 4 * 768);
        let error = Reading { augment: Augment::default(), ..reading }.feed(None).unwrap_err().to_string();
        assert_eq!(error, "embedded fashion-mnist: images are 1 x 28 x 28, but the generator is set to 3 x 16 x 16");
    }

    #[test]
    fn held_out_images_are_the_test_images_or_split_off() {
        let (data, shape) = (DataSource::default(), ImageShape { channels: 1, height: 28, width: 28 });
        let augment = Augment { crop: Crop::Random, flip: true, ..Augment::default() };
        let reading = Reading { data: &data, shape, augment, loader: LoaderSettings::default(), seed: 1 };
        let (train, test, _) = reading.images_and_held_out(0).unwrap();
        assert_eq!((train.info().images, test.unwrap().info().images), (5000, 1000));
        let (train, held_out, _) = reading.images_and_held_out(10).unwrap();
        let held_out = held_out.unwrap();
        assert_eq!((train.info().images, held_out.info().images), (4500, 500));
        // Neither crop nor mirror image: the tenth picture of class 0 as it is, whatever the number of the draw.
        let (all, _) = data.open(shape).unwrap();
        let tenth = all.of_class(0)[9];
        let place = (0..500).find(|&index| held_out.source().name(index) == format!("image {tenth}")).unwrap();
        let draws = [3, 4].map(|number| Draw { index: place, number });
        assert_eq!(held_out.read_all(&draws).unwrap().0, all.images(&[tenth, tenth]));
        let error = reading.images_and_held_out(501).unwrap_err().to_string();
        assert_eq!(error, "evaluation.hold_out: 501 is more than the 500 images of class T-shirt/top");
    }
}
