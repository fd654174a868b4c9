//! The one thread that owns the engine, and the queue in front of it.
//!
//! There is no waiting for a batch to fill: while the engine runs one batch, the next one gathers. Admission is counted
//! in images and never waits, so an overloaded server says so at once.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use drifting_spec::{GeneratorConfig, Inputs};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::engine::{Engine, EngineError};
use crate::metrics::Metrics;

/// Images 0..`count` of one seed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Order {
    pub(crate) class: usize,
    pub(crate) alpha: f32,
    pub(crate) seed: u64,
    pub(crate) count: NonZeroUsize,
}

/// The images of an order and how they came about.
#[derive(Debug)]
pub(crate) struct Made {
    /// `[count, channels, height, width]`.
    pub(crate) values: Vec<f32>,
    /// From admission to the first batch.
    pub(crate) queue: Duration,
    /// Sum over the batches that the order took part in.
    pub(crate) compute: Duration,
    /// The largest of those batches.
    pub(crate) batch: usize,
}

/// What the worker answers: the images, or why there are none.
pub(crate) type Answer = Result<Made, Arc<EngineError>>;

/// Why an order is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The queue is full; worth another try after this many seconds.
    Full(u64),
    /// The worker's thread has ended.
    Stopped,
}

/// How the worker runs its engine.
#[derive(Clone, Debug)]
pub(crate) struct WorkerSettings {
    /// Batch sizes in ascending order, 1 first.
    pub(crate) batch_sizes: Vec<usize>,
    /// Images that may wait or be computed at a time.
    pub(crate) queue: usize,
    /// Numbers of an image.
    pub(crate) image_len: usize,
    /// Where batches are counted.
    pub(crate) metrics: Arc<Metrics>,
}

/// The sending side of the worker.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
    queue: usize,
    micros_per_image: Arc<AtomicU64>,
}

struct Job {
    order: Order,
    admitted: Instant,
    answer: oneshot::Sender<Answer>,
    room: OwnedSemaphorePermit,
}

impl Job {
    /// Makes room in the queue and answers; the client may have left meanwhile.
    fn finish(self, answer: Answer) {
        drop(self.room);
        let _ = self.answer.send(answer);
    }
}

impl Worker {
    /// Starts the thread; it ends when the `Worker` is dropped and the queue is empty.
    ///
    /// # Errors
    /// The operating system refuses another thread.
    pub(crate) fn start(
        engine: Box<dyn Engine>,
        config: GeneratorConfig,
        settings: WorkerSettings,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, received) = mpsc::channel();
        let micros_per_image = Arc::new(AtomicU64::new(0));
        let pace = Arc::clone(&micros_per_image);
        let queue = settings.queue.min(Semaphore::MAX_PERMITS);
        let WorkerSettings { batch_sizes, image_len, metrics, .. } = settings;
        let crew = Crew { engine, config, batch_sizes, image_len, pace, metrics, waiting: VecDeque::new() };
        let thread = thread::Builder::new().name("engine".to_owned()).spawn(move || crew.work(&received))?;
        Ok((Self { jobs, room: Arc::new(Semaphore::new(queue)), queue, micros_per_image }, thread))
    }

    /// Puts an order into the queue without waiting. Dropping the receiver withdraws it.
    ///
    /// # Errors
    /// The queue is full, or the worker's thread has ended.
    pub(crate) fn submit(&self, order: Order) -> Result<oneshot::Receiver<Answer>, Refusal> {
        let count = u32::try_from(order.count.get()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(count);
        let room = room.map_err(|_| Refusal::Full(self.seconds_to_empty()))?;
        let (answer, receiver) = oneshot::channel();
        let job = Job { order, admitted: Instant::now(), answer, room };
        self.jobs.send(job).map_err(|_| Refusal::Stopped)?;
        Ok(receiver)
    }

    /// Images that wait or are being computed.
    pub(crate) fn busy(&self) -> usize {
        self.queue.saturating_sub(self.room.available_permits())
    }

    /// Whether the worker's thread still takes orders.
    pub(crate) fn is_running(&self) -> bool {
        // The thread holds the other one.
        Arc::strong_count(&self.micros_per_image) > 1
    }

    /// At the pace of the last batch.
    fn seconds_to_empty(&self) -> u64 {
        let micros = self.micros_per_image.load(Ordering::Relaxed).saturating_mul(self.busy() as u64);
        micros.div_ceil(1_000_000).max(1)
    }
}

/// What the worker's thread owns.
struct Crew {
    engine: Box<dyn Engine>,
    config: GeneratorConfig,
    batch_sizes: Vec<usize>,
    image_len: usize,
    pace: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
    waiting: VecDeque<Pending>,
}

/// An order that is not complete yet.
struct Pending {
    job: Job,
    made: Made,
    /// Images that are done.
    done: usize,
}

impl Pending {
    fn new(job: Job) -> Self {
        let made = Made { values: Vec::new(), queue: Duration::ZERO, compute: Duration::ZERO, batch: 0 };
        Self { job, made, done: 0 }
    }

    /// Images that are still to be made.
    fn left(&self) -> usize {
        self.job.order.count.get() - self.done
    }
}

impl Crew {
    /// Takes orders until nobody can send any more and none waits.
    fn work(mut self, jobs: &mpsc::Receiver<Job>) {
        loop {
            if self.waiting.is_empty() {
                let Ok(job) = jobs.recv() else { return };
                self.waiting.push_back(Pending::new(job));
            }
            self.waiting.extend(jobs.try_iter().map(Pending::new));
            self.waiting.retain(|pending| !pending.job.answer.is_closed());
            let images = self.waiting.iter().map(Pending::left).sum();
            if let Some(&size) = self.batch_sizes.iter().rfind(|&&size| size <= images) {
                self.run_batch(size);
            }
        }
    }

    /// Computes the first `size` images that wait.
    fn run_batch(&mut self, size: usize) {
        let start = Instant::now();
        let mut inputs = Inputs::default();
        let mut shares = Vec::new();
        for pending in &mut self.waiting {
            let share = pending.left().min(size - inputs.batch());
            if share == 0 {
                break;
            }
            let Order { class, alpha, seed, .. } = pending.job.order;
            for index in pending.done..pending.done + share {
                inputs.push_seeded(&self.config, seed, index as u64, class, alpha);
            }
            if pending.done == 0 {
                pending.made.queue = start.saturating_duration_since(pending.job.admitted);
            }
            shares.push(share);
        }
        let engine = &mut self.engine;
        let result = catch_unwind(AssertUnwindSafe(|| engine.run(&inputs))).unwrap_or_else(|_| {
            Err(EngineError::Run { engine: engine.info().name, problem: "it panicked".to_owned() })
        });
        let elapsed = start.elapsed();
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.pace.store(micros / size as u64, Ordering::Relaxed);
        match result {
            Ok(values) => self.hand_out(&shares, &values, elapsed),
            Err(error) => self.fail(shares.len(), error),
        }
    }

    /// Gives each order its share of a batch's images, and answers those that are complete.
    fn hand_out(&mut self, shares: &[usize], values: &[f32], elapsed: Duration) {
        let size = shares.iter().sum();
        self.metrics.batch(size);
        let mut values = values.chunks_exact(self.image_len);
        for (pending, &share) in self.waiting.iter_mut().zip(shares) {
            pending.made.values.extend(values.by_ref().take(share).flatten());
            pending.made.compute += elapsed;
            pending.made.batch = pending.made.batch.max(size);
            pending.done += share;
        }
        while self.waiting.front().is_some_and(|pending| pending.left() == 0) {
            if let Some(Pending { job, made, .. }) = self.waiting.pop_front() {
                job.finish(Ok(made));
            }
        }
    }

    /// Answers the first `orders` orders with the error of the batch that they shared.
    fn fail(&mut self, orders: usize, error: EngineError) {
        let error = Arc::new(error);
        for pending in self.waiting.drain(..orders) {
            pending.job.finish(Err(Arc::clone(&error)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Gate, manifest};

    fn order(seed: u64, count: usize) -> Order {
        let count = NonZeroUsize::new(count).unwrap();
        Order { class: 1, alpha: 1.5, seed, count }
    }

    fn worker(gate: &Gate, queue: usize) -> Worker {
        let metrics = Arc::new(Metrics::new(Vec::new()));
        let settings = WorkerSettings { batch_sizes: vec![1, 2, 4], queue, image_len: 16, metrics };
        Worker::start(Box::new(gate.engine()), manifest().generator, settings).unwrap().0
    }

    #[test]
    fn orders_that_wait_share_batches_and_keep_their_images() {
        let gate = Gate::closed();
        let worker = worker(&gate, 20);
        let answers: Vec<_> = [1, 3, 4].map(|count| worker.submit(order(count, count as usize)).unwrap()).into();
        gate.open();
        for (answer, count) in answers.into_iter().zip([1, 3, 4]) {
            let made = answer.blocking_recv().unwrap().unwrap();
            let conditions = vec![(1, 1.5); count as usize];
            assert_eq!(made.values, Inputs::seeded(&manifest().generator, count, &conditions).noise);
        }
        // The first order ran alone, since nothing else had come when the engine took it; or all of them came before.
        let batches = gate.batches();
        assert_eq!(batches.iter().sum::<usize>(), 8, "{batches:?}");
        assert!(batches.len() <= 4 && batches.contains(&4), "{batches:?}");
        assert_eq!(worker.busy(), 0);
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let gate = Gate::closed();
        let worker = worker(&gate, 3);
        let first = worker.submit(order(1, 2)).unwrap();
        assert_eq!(worker.submit(order(2, 2)).unwrap_err(), Refusal::Full(1));
        let second = worker.submit(order(3, 1)).unwrap();
        assert_eq!(worker.busy(), 3);
        gate.open();
        assert!(first.blocking_recv().unwrap().is_ok() && second.blocking_recv().unwrap().is_ok());
    }

    #[test]
    fn what_nobody_waits_for_is_not_computed() {
        let gate = Gate::closed();
        let worker = worker(&gate, 64);
        let first = worker.submit(order(1, 1)).unwrap();
        gate.wait_until_entered();
        let left = worker.submit(order(2, 40)).unwrap();
        drop(left);
        let last = worker.submit(order(3, 1)).unwrap();
        gate.open();
        assert!(first.blocking_recv().unwrap().is_ok() && last.blocking_recv().unwrap().is_ok());
        assert_eq!(gate.batches(), [1, 1]);
    }

    #[test]
    fn a_failing_and_a_panicking_engine_answer_and_live_on() {
        let gate = Gate::opened();
        let worker = worker(&gate, 4);
        for (class, word) in [(Gate::FAILS, "asked to fail"), (Gate::PANICS, "panicked")] {
            let answer = worker.submit(Order { class, ..order(1, 1) }).unwrap().blocking_recv().unwrap();
            assert!(answer.unwrap_err().to_string().contains(word));
        }
        assert!(worker.submit(order(1, 1)).unwrap().blocking_recv().unwrap().is_ok());
        assert!(worker.is_running());
    }
}
