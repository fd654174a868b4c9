//! Ranks that are threads of a test.

use std::sync::{Barrier, Mutex};
use std::thread;

use super::Ranks;

#[derive(Debug)]
struct Shared {
    barrier: Barrier,
    /// What each rank has brought.
    numbers: Mutex<Vec<Vec<f64>>>,
    messages: Mutex<Vec<Vec<Vec<u8>>>>,
}

#[derive(Debug)]
struct Thread<'a> {
    rank: usize,
    size: usize,
    shared: &'a Shared,
}

/// What `task` gives in each of `size` ranks.
pub(crate) fn together<T: Send>(size: usize, task: impl Fn(&dyn Ranks) -> T + Sync) -> Vec<T> {
    let (barrier, numbers, messages) =
        (Barrier::new(size), Mutex::new(vec![Vec::new(); size]), Mutex::new(vec![Vec::new(); size]));
    let shared = Shared { barrier, numbers, messages };
    let (shared, task) = (&shared, &task);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..size).map(|rank| scope.spawn(move || task(&Thread { rank, size, shared }))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

impl Thread<'_> {
    /// What all ranks lay in `place`.
    fn meet<T: Clone>(&self, place: &Mutex<Vec<T>>, mine: T) -> Vec<T> {
        place.lock().unwrap()[self.rank] = mine;
        self.shared.barrier.wait();
        let all = place.lock().unwrap().clone();
        self.shared.barrier.wait();
        all
    }
}

impl Ranks for Thread<'_> {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn gather(&self, mine: &[f64]) -> Vec<f64> {
        self.meet(&self.shared.numbers, mine.to_vec()).concat()
    }

    fn sum(&self, values: &mut [f32]) {
        let all = self.meet(&self.shared.numbers, values.iter().map(|&value| f64::from(value)).collect());
        for (i, value) in values.iter_mut().enumerate() {
            *value = all.iter().fold(0.0, |sum, numbers| sum + numbers[i] as f32);
        }
    }

    fn exchange(&self, messages: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        self.meet(&self.shared.messages, messages).iter().map(|from| from[self.rank].clone()).collect()
    }

    fn abort(&self) -> ! {
        panic!("rank {} ends all", self.rank)
    }
}
