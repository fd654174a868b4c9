//! Ranks that are threads of a test.

use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use candle_core::{Device, Result};

use super::{OnThread, Ranks, Sums};

#[derive(Debug)]
struct Shared {
    barrier: Barrier,
    /// What each rank has brought.
    numbers: Mutex<Vec<Vec<f64>>>,
    messages: Mutex<Vec<Vec<Vec<u8>>>>,
}

#[derive(Clone, Debug)]
struct Thread {
    rank: usize,
    size: usize,
    shared: Arc<Shared>,
}

/// What `task` gives in each of `size` ranks.
pub(crate) fn together<T: Send>(size: usize, task: impl Fn(&dyn Ranks) -> T + Sync) -> Vec<T> {
    let (barrier, numbers, messages) =
        (Barrier::new(size), Mutex::new(vec![Vec::new(); size]), Mutex::new(vec![Vec::new(); size]));
    let shared = Arc::new(Shared { barrier, numbers, messages });
    let task = &task;
    thread::scope(|scope| {
        let thread = |rank| Thread { rank, size, shared: Arc::clone(&shared) };
        let threads: Vec<_> = (0..size).map(thread).map(|thread| scope.spawn(move || task(&thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

impl Thread {
    /// What all ranks lay in `place`.
    fn meet<T: Clone>(&self, place: &Mutex<Vec<T>>, mine: T) -> Vec<T> {
        place.lock().unwrap()[self.rank] = mine;
        self.shared.barrier.wait();
        let all = place.lock().unwrap().clone();
        self.shared.barrier.wait();
        all
    }

    fn sum(&self, values: &mut [f32]) {
        let all = self.meet(&self.shared.numbers, values.iter().map(|&value| f64::from(value)).collect());
        for (i, value) in values.iter_mut().enumerate() {
            *value = all.iter().fold(0.0, |sum, numbers| sum + numbers[i] as f32);
        }
    }
}

impl Ranks for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn gather(&self, mine: &[f64]) -> Vec<f64> {
        self.meet(&self.shared.numbers, mine.to_vec()).concat()
    }

    fn sums(&self, _: &Device) -> Result<Box<dyn Sums>> {
        let ranks = self.clone();
        Ok(Box::new(OnThread::start(move |values, _| ranks.sum(values))))
    }

    fn exchange(&self, messages: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        self.meet(&self.shared.messages, messages).iter().map(|from| from[self.rank].clone()).collect()
    }

    fn abort(&self) -> ! {
        panic!("rank {} ends all", self.rank)
    }
}
