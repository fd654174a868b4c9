//! Sums on a thread of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use candle_core::{Device, Result, Shape, Tensor, bail};

use super::Sums;

/// Whether a rank goes on while its numbers are added up, or waits for them.
#[derive(Clone, Debug, Default)]
pub struct Waits(Arc<AtomicBool>);

impl Waits {
    /// It waits: nothing else would have the processor.
    #[must_use]
    pub fn now(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sums of numbers in the memory of the host, on a thread of their own. Those of other devices come there at the end, since reading
/// them waits for all that is queued.
#[derive(Debug)]
pub struct OnThread {
    worker: Option<Worker>,
    begun: Vec<(Shape, Device)>,
    later: Vec<Tensor>,
}

#[derive(Debug)]
struct Worker {
    numbers: Sender<Vec<f32>>,
    waits: Waits,
    thread: JoinHandle<Vec<Vec<f32>>>,
}

impl OnThread {
    /// A thread that calls `sum` for one vector after the other, to add up the numbers of all ranks in place.
    #[must_use]
    pub fn start(mut sum: impl FnMut(&mut [f32], &Waits) + Send + 'static) -> Self {
        let (numbers, receiver) = channel::<Vec<f32>>();
        let waits = Waits::default();
        let told = waits.clone();
        let summed = move |mut values: Vec<f32>| {
            sum(&mut values, &told);
            values
        };
        let thread = std::thread::spawn(move || receiver.into_iter().map(summed).collect());
        Self { worker: Some(Worker { numbers, waits, thread }), begun: Vec::new(), later: Vec::new() }
    }

    fn send(&self, tensor: &Tensor) -> Result<()> {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        match self.worker.as_ref().map(|worker| worker.numbers.send(values)) {
            Some(Ok(())) => Ok(()),
            _ => bail!("the thread that adds up gradients has ended"),
        }
    }
}

impl Sums for OnThread {
    fn begin(&mut self, tensor: Tensor) -> Result<()> {
        self.begun.push((tensor.shape().clone(), tensor.device().clone()));
        if tensor.device().is_cpu() {
            return self.send(&tensor);
        }
        self.later.push(tensor);
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Tensor>> {
        for tensor in std::mem::take(&mut self.later) {
            self.send(&tensor)?;
        }
        let Some(Ok(sums)) = self.worker.take().map(|Worker { numbers, waits, thread }| {
            waits.0.store(true, Ordering::Relaxed);
            drop(numbers);
            thread.join()
        }) else {
            bail!("the thread that adds up gradients has failed")
        };
        let begun = std::mem::take(&mut self.begun).into_iter();
        sums.into_iter().zip(begun).map(|(values, (shape, device))| Tensor::from_vec(values, shape, &device)).collect()
    }
}
