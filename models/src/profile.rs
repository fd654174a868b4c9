//! Where time goes: spans of named work on every thread, recorded on demand.
//!
//! Nothing is recorded outside of [`record`]; a span then costs one load of a flag.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

static RECORDING: AtomicBool = AtomicBool::new(false);
/// One recording at a time.
static RECORDER: Mutex<()> = Mutex::new(());
/// The spans of every thread that had one.
static LANES: Mutex<Vec<Arc<Mutex<Lane>>>> = Mutex::new(Vec::new());
/// Times count from here.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    static LANE: OnceCell<Arc<Mutex<Lane>>> = const { OnceCell::new() };
}

/// Work that one thread did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// What it was.
    pub name: &'static str,
    /// When it began; all threads count from the same moment.
    pub start: Duration,
    /// How long it took, what it called included.
    pub length: Duration,
    /// Floating point operations, those of what it called not included; 0 where they are not counted.
    pub flops: u64,
    /// Bytes that it must read and write at least; 0 where they are not counted.
    pub bytes: u64,
}

/// What one thread did, in the order in which it ended.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// The thread's name, or its number.
    pub thread: String,
    /// Whether this is the thread that called [`record`].
    pub caller: bool,
    /// Its spans.
    pub events: Vec<Event>,
}

/// Work that goes on until this is dropped.
#[derive(Debug)]
#[must_use = "a span that is not kept ends at once"]
pub struct Span(Option<Open>);

#[derive(Debug)]
struct Open {
    name: &'static str,
    start: Instant,
    flops: u64,
    bytes: u64,
}

/// Whether spans are recorded.
#[must_use]
pub fn recording() -> bool {
    RECORDING.load(Ordering::Relaxed)
}

/// Work begins.
#[inline]
pub fn span(name: &'static str) -> Span {
    if recording() { Span::open(name) } else { Span(None) }
}

impl Span {
    #[cold]
    fn open(name: &'static str) -> Self {
        Self(Some(Open { name, start: Instant::now(), flops: 0, bytes: 0 }))
    }

    /// The floating point operations of this work.
    #[inline]
    pub fn flops(mut self, flops: usize) -> Self {
        if let Some(open) = &mut self.0 {
            open.flops = flops as u64;
        }
        self
    }

    /// The f32 numbers that it must read and write.
    #[inline]
    pub fn numbers(mut self, numbers: usize) -> Self {
        if let Some(open) = &mut self.0 {
            open.bytes = 4 * numbers as u64;
        }
        self
    }
}

impl Drop for Span {
    #[inline]
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            close(&open);
        }
    }
}

#[cold]
fn close(open: &Open) {
    let Open { name, start, flops, bytes } = *open;
    let (start, length) = (start.saturating_duration_since(*ORIGIN), start.elapsed());
    // A thread that ends has nobody to report to.
    let _ = LANE.try_with(|lane| {
        locked(lane.get_or_init(new_lane)).events.push(Event { name, start, length, flops, bytes });
    });
}

fn new_lane() -> Arc<Mutex<Lane>> {
    let current = thread::current();
    let thread = current.name().map_or_else(|| format!("{:?}", current.id()), str::to_owned);
    let lane = Arc::new(Mutex::new(Lane { thread, ..Lane::default() }));
    locked(&LANES).push(Arc::clone(&lane));
    lane
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` and returns the spans that every thread had meanwhile; the caller's lane comes first.
pub fn record<T>(work: impl FnOnce() -> T) -> (T, Vec<Lane>) {
    let _alone = locked(&RECORDER);
    LazyLock::force(&ORIGIN);
    let own = LANE.with(|lane| Arc::clone(lane.get_or_init(new_lane)));
    locked(&LANES).iter().for_each(|lane| locked(lane).events.clear());
    RECORDING.store(true, Ordering::Relaxed);
    let result = work();
    RECORDING.store(false, Ordering::Relaxed);
    let taken = |lane: &Arc<Mutex<Lane>>| {
        let mut held = locked(lane);
        let events = std::mem::take(&mut held.events);
        Lane { thread: held.thread.clone(), caller: Arc::ptr_eq(lane, &own), events }
    };
    let mut lanes: Vec<Lane> = locked(&LANES).iter().map(taken).collect();
    lanes.retain(|lane| lane.caller || !lane.events.is_empty());
    lanes.sort_by_key(|lane| !lane.caller);
    (result, lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_recorded_on_every_thread_and_only_within_a_recording() {
        drop(span("before"));
        let ((), lanes) = record(|| {
            let _outer = span("outer").numbers(3);
            let work = || drop(span("inner").flops(7));
            work();
            thread::Builder::new().name("helper".to_owned()).spawn(work).unwrap().join().unwrap();
        });
        drop(span("after"));
        // Other tests may run meanwhile, on their own threads.
        let own: Vec<_> = lanes[0].events.iter().map(|event| (event.name, event.flops, event.bytes)).collect();
        assert!(lanes[0].caller && own == [("inner", 7, 0), ("outer", 0, 12)], "{lanes:?}");
        let helper = lanes.iter().find(|lane| lane.thread == "helper").unwrap();
        assert!(!helper.caller && helper.events.len() == 1 && helper.events[0].name == "inner");
        let [inner, outer] = [lanes[0].events[0], lanes[0].events[1]];
        assert!(outer.start <= inner.start && inner.start + inner.length <= outer.start + outer.length);
        assert_eq!(record(|| ()).1[0].events, []);
    }
}
