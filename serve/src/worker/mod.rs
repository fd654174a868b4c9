//! The threads that own the engines of a model, and the queue in front of them.
//!
//! There is no waiting for a batch to fill: while the engines run, the next batch gathers, and the first that is free
//! takes it. Admission is counted in images and never waits, so an overloaded server says so at once.

mod hand;
mod inputs;
mod job;
mod queue;
mod room;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use drifting_spec::{GeneratorConfig, Inputs};
use tokio::sync::oneshot;

use crate::engine::{Engine, EngineError};
use crate::metrics::ModelMetrics;
use hand::Hand;
use job::Job;
use queue::Queue;
pub(crate) use room::Room;

/// Images 0..`count` of one seed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Order {
    pub(crate) class: usize,
    pub(crate) alpha: f32,
    pub(crate) seed: u64,
    pub(crate) count: NonZeroUsize,
}

/// The images of an order and how they came about.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// `[count, channels, height, width]`, all of them finite.
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
    /// Nobody takes orders any more.
    Stopped,
}

/// How the worker runs its engines.
#[derive(Clone, Debug)]
pub(crate) struct WorkerSettings {
    /// Batch sizes in ascending order, 1 first.
    pub(crate) batch_sizes: Vec<usize>,
    /// Numbers of an image.
    pub(crate) image_len: usize,
    /// Images that may wait or be computed at a time.
    pub(crate) room: Room,
    /// Where batches are counted.
    pub(crate) metrics: ModelMetrics,
}

/// The sending side of the worker.
pub(crate) struct Worker {
    queue: Arc<Queue>,
    /// What all orders take up, also those of a worker before this one.
    pub(crate) room: Room,
    micros_per_image: Arc<AtomicU64>,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("room", &self.room).field("hands", &self.queue.hands()).finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts a thread for each engine; they end when the `Worker` is dropped or closed and the queue is empty.
    ///
    /// # Errors
    /// The operating system refuses another thread.
    pub(crate) fn start(
        engines: Vec<Box<dyn Engine>>,
        config: &GeneratorConfig,
        settings: &WorkerSettings,
    ) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        let worker = Self { queue: Arc::default(), room: settings.room.clone(), micros_per_image: Arc::default() };
        let mut threads = Vec::new();
        for engine in engines {
            let (config, settings) = (config.clone(), settings.clone());
            let (pace, ticket) = (Arc::clone(&worker.micros_per_image), worker.queue.join());
            let hand = Hand { engine, inputs: Inputs::default(), config, settings, pace, ticket };
            threads.push(thread::Builder::new().name("engine".to_owned()).spawn(move || hand.work())?);
        }
        Ok((worker, threads))
    }

    /// Puts an order into the queue without waiting. Dropping the receiver withdraws it.
    ///
    /// # Errors
    /// The queue is full, or nobody takes orders any more.
    pub(crate) fn submit(&self, order: Order) -> Result<oneshot::Receiver<Answer>, Refusal> {
        let room = self.room.take(order.count).or_else(|| {
            self.queue.tidy();
            self.room.take(order.count)
        });
        let room = room.ok_or_else(|| Refusal::Full(self.seconds_to_empty()))?;
        let (answer, receiver) = oneshot::channel();
        self.queue.push(Job::new(order, answer, room))?;
        Ok(receiver)
    }

    /// Takes no orders any more; those that were taken are answered.
    pub(crate) fn close(&self) {
        self.queue.close();
    }

    /// Whether a thread still takes orders.
    pub(crate) fn is_running(&self) -> bool {
        self.queue.hands() > 0
    }

    /// At the pace of the last batch.
    fn seconds_to_empty(&self) -> u64 {
        let micros = self.micros_per_image.load(Ordering::Relaxed).saturating_mul(self.room.busy() as u64);
        micros.div_ceil(1_000_000 * self.queue.hands().max(1) as u64).max(1)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use drifting_spec::Inputs;

    use super::*;
    use crate::metrics::Metrics;
    use crate::testing::{Gate, manifest};

    fn order(seed: u64, count: usize) -> Order {
        let count = NonZeroUsize::new(count).unwrap();
        Order { class: 1, alpha: 1.5, seed, count }
    }

    fn worker(gate: &Gate, queue: usize) -> Worker {
        workers(gate, 1, queue)
    }

    fn workers(gate: &Gate, hands: usize, queue: usize) -> Worker {
        let (metrics, room) = (Metrics::new().model("a"), Room::new(queue));
        let settings = WorkerSettings { batch_sizes: vec![1, 2, 4], image_len: 16, room, metrics };
        let engines = (0..hands).map(|_| Box::new(gate.engine()) as Box<dyn Engine>).collect();
        Worker::start(engines, &manifest().generator, &settings).unwrap().0
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
        assert_eq!(worker.room.busy(), 0);
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let gate = Gate::closed();
        let worker = worker(&gate, 3);
        let first = worker.submit(order(1, 2)).unwrap();
        assert_eq!(worker.submit(order(2, 2)).unwrap_err(), Refusal::Full(1));
        let second = worker.submit(order(3, 1)).unwrap();
        assert_eq!(worker.room.busy(), 3);
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
        for (class, word) in [(Gate::FAILS, "asked to fail"), (Gate::PANICS, "has to survive")] {
            let answer = worker.submit(Order { class, ..order(1, 1) }).unwrap().blocking_recv().unwrap();
            assert!(answer.unwrap_err().to_string().contains(word));
        }
        assert!(worker.submit(order(1, 1)).unwrap().blocking_recv().unwrap().is_ok());
        assert!(worker.is_running());
    }
    #[test]
    fn in_a_batch_only_the_order_at_fault_fails() {
        for class in [Gate::FAILS, Gate::PANICS, Gate::INFINITE] {
            let gate = Gate::closed();
            let worker = worker(&gate, 64);
            let first = worker.submit(order(1, 1)).unwrap();
            gate.wait_until_entered();
            // One batch of four: an order alone, the one at fault, and the first two images of another.
            let before = worker.submit(order(2, 1)).unwrap();
            let fault = worker.submit(Order { class, ..order(3, 1) }).unwrap();
            let behind = worker.submit(order(4, 3)).unwrap();
            gate.open();
            assert!(first.blocking_recv().unwrap().is_ok());
            assert!(fault.blocking_recv().unwrap().is_err());
            for (answer, seed) in [(before, 2), (behind, 4)] {
                let made = answer.blocking_recv().unwrap().unwrap();
                let count = if seed == 2 { 1 } else { 3 };
                let conditions = vec![(1, 1.5); count];
                assert_eq!(made.values, Inputs::seeded(&manifest().generator, seed, &conditions).noise);
            }
            assert_eq!(gate.batches(), [1, 4, 1, 1, 2, 1], "class {class}");
            assert_eq!(worker.room.busy(), 0);
        }
    }

    #[test]
    fn replicas_work_side_by_side_and_images_keep_their_order() {
        let gate = Gate::closed();
        let worker = workers(&gate, 3, 200);
        let answers: Vec<_> = (0..20).map(|seed| worker.submit(order(seed, 1 + seed as usize % 9)).unwrap()).collect();
        // Three engines are within a batch at a time.
        gate.wait_until_batches(3);
        gate.open();
        for (answer, seed) in answers.into_iter().zip(0..) {
            let made = answer.blocking_recv().unwrap().unwrap();
            let conditions = vec![(1, 1.5); 1 + seed as usize % 9];
            assert_eq!(made.values, Inputs::seeded(&manifest().generator, seed, &conditions).noise, "{seed}");
        }
        assert_eq!(gate.batches().iter().sum::<usize>(), (0..20).map(|seed| 1 + seed % 9).sum::<usize>());
        assert_eq!(worker.room.busy(), 0);
    }

    #[test]
    fn what_nobody_waits_for_takes_no_room() {
        let gate = Gate::closed();
        let worker = worker(&gate, 4);
        let first = worker.submit(order(1, 1)).unwrap();
        gate.wait_until_entered();
        drop(worker.submit(order(2, 3)).unwrap());
        // The queue would be full, and the engine has not looked at it since.
        let second = worker.submit(order(3, 3)).unwrap();
        gate.open();
        assert!(first.blocking_recv().unwrap().is_ok() && second.blocking_recv().unwrap().is_ok());
        assert_eq!(gate.batches().iter().sum::<usize>(), 4);
    }

    #[test]
    fn a_closed_worker_answers_what_it_took_and_takes_nothing_more() {
        let gate = Gate::closed();
        let (metrics, room) = (Metrics::new().model("a"), Room::new(9));
        let settings = WorkerSettings { batch_sizes: vec![1], image_len: 16, room, metrics };
        let engines: Vec<Box<dyn Engine>> = vec![Box::new(gate.engine()), Box::new(gate.engine())];
        let (worker, threads) = Worker::start(engines, &manifest().generator, &settings).unwrap();
        let answers: Vec<_> = (0..5).map(|seed| worker.submit(order(seed, 1)).unwrap()).collect();
        worker.close();
        assert_eq!(worker.submit(order(9, 1)).unwrap_err(), Refusal::Stopped);
        gate.open();
        assert!(answers.into_iter().all(|answer| answer.blocking_recv().unwrap().is_ok()));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!worker.is_running());
    }
}
