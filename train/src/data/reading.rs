//! From settings to what training draws from.

use std::sync::Arc;

use drifting_spec::ImageShape;

use super::{Augment, DataSource, DirectBatches, DirectFeed, Feed, Images, LabelledBatches, QueueFeed, Report, Result};
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
        let images = Images::new(source, self.shape, self.augment, self.seed)?.on_bad(self.data.on_bad());
        Ok((Arc::new(images), report))
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
    use super::super::{Crop, Request};
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
}
