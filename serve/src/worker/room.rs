//! Admission: how many images may wait or be computed at a time.

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for images; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    size: usize,
}

impl Room {
    /// Room for `size` images.
    pub(crate) fn new(size: usize) -> Self {
        let size = size.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(size)), size }
    }

    /// Room for `images` until the permit is dropped, if there is so much now.
    pub(super) fn take(&self, images: NonZeroUsize) -> Option<OwnedSemaphorePermit> {
        let images = u32::try_from(images.get()).unwrap_or(u32::MAX);
        Arc::clone(&self.free).try_acquire_many_owned(images).ok()
    }

    /// Images that wait or are being computed.
    pub(crate) fn busy(&self) -> usize {
        self.size.saturating_sub(self.free.available_permits())
    }
}
