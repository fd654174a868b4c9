//! Ten times the load that the server can carry.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::client::Answer;
use crate::running::Running;

/// What a request may take, given to the server as `--timeout`.
const DEADLINE: Duration = Duration::from_secs(5);
/// After this time nothing of the overload may be felt.
const RECOVERY: Duration = Duration::from_secs(1);
/// Sixteen images: few requests fill the server, so that this machine can send ten times as many.
const REQUEST: &str = "/generate?class=3&seed=7&n=16";
/// Clients of the overload. Four of them wait in the queue, the others are refused.
const CLIENTS: usize = 64;

/// Seconds that it lasts: five, or as many as are asked for.
fn seconds() -> Duration {
    let given = std::env::var("DRIFTING_OVERLOAD_SECONDS").ok();
    Duration::from_secs(
        given.map_or(5, |text| {
            text.parse().unwrap_or_else(|_| panic!("DRIFTING_OVERLOAD_SECONDS is {text:?}, no number"))
        }),
    )
}

/// An answer, counted from when its request was due.
struct Sample {
    answer: Answer,
    time: Duration,
}

#[test]
fn ten_times_too_much_is_refused_and_forgotten() {
    let server = Running::start(&["--timeout", "5", "--queue", "64", "--max-images", "16"]);
    let mut times: Vec<_> = (0..21).map(|_| one(&server)).collect();
    times.sort();
    let alone = times[10];
    let capacity = capacity(&server);
    let begun = Instant::now();
    let (samples, memory) = overload(&server, 10.0 * capacity);
    let well = loop {
        let time = one(&server);
        let since = begun.elapsed().saturating_sub(seconds());
        if time <= alone * 5 + Duration::from_millis(10) {
            break since;
        }
        assert!(since < RECOVERY, "a request takes {time:?} when the overload has been over for {since:?}");
    };

    let count = |status: u16| samples.iter().filter(|sample| sample.answer.status == status).count();
    let (accepted, refused) = (count(200), count(429));
    assert_eq!(accepted + refused, samples.len(), "neither images nor 429");
    for Sample { answer, .. } in samples.iter().filter(|sample| sample.answer.status == 429) {
        assert_eq!(answer.code(), "queue_full");
        assert!((1..=60).contains(&answer.header("retry-after").parse::<u64>().unwrap()), "{answer:?}");
    }
    let mut times: Vec<_> = samples.iter().filter(|s| s.answer.status == 200).map(|sample| sample.time).collect();
    times.sort();
    let p99 = times[(times.len() * 99).div_ceil(100) - 1];
    let third = memory.len() / 3;
    let most = |memory: &[u64]| memory.iter().max().copied().unwrap();
    let (first, last) = (most(&memory[..third]), most(&memory[memory.len() - third..]));
    println!(
        "capacity {capacity:.1} requests/s; {accepted} accepted, {refused} refused; p99 {p99:.2?}; memory {first} to \
         {last} KiB; alone {alone:.2?}, well again after {well:.2?}"
    );
    assert!(refused > accepted, "{refused} refused, {accepted} accepted: no overload");
    assert!(accepted as f64 >= 0.3 * capacity * seconds().as_secs_f64(), "it carries less than it can: {accepted}");
    assert!(well <= RECOVERY, "{well:?}");
    assert!(p99 <= DEADLINE, "{p99:?}");
    assert!(last <= first + first / 10 + (8 << 10), "memory grows from {first} to {last} KiB");
    let log = server.log();
    assert!(!log.contains("ERROR"), "{:?}", log.lines().find(|line| line.contains("ERROR")));
}

/// One image, as a client sees it who comes alone.
fn one(server: &Running) -> Duration {
    let begun = Instant::now();
    assert_eq!(server.generate("class=3&seed=7").status, 200);
    begun.elapsed()
}

/// Requests a second that four clients get answered.
fn capacity(server: &Running) -> f64 {
    let (answered, begun) = (AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = server.connect();
                while begun.elapsed() < Duration::from_secs(2) {
                    assert_eq!(connection.post(REQUEST).unwrap().status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    answered.into_inner() as f64 / begun.elapsed().as_secs_f64()
}

/// Sends `rate` requests a second, whatever becomes of them; beside the answers, the server's memory over time.
fn overload(server: &Running, rate: f64) -> (Vec<Sample>, Vec<u64>) {
    let (next, over, begun) = (AtomicU64::new(0), AtomicBool::new(false), Instant::now());
    let client = || {
        let mut connection = server.connect();
        let mut samples = Vec::new();
        loop {
            let due = Duration::from_secs_f64(next.fetch_add(1, Ordering::Relaxed) as f64 / rate);
            if due >= seconds() {
                return samples;
            }
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            let answer = connection.post(REQUEST).unwrap();
            samples.push(Sample { answer, time: begun.elapsed().saturating_sub(due) });
        }
    };
    std::thread::scope(|scope| {
        let memory = scope.spawn(|| {
            let mut memory = Vec::new();
            while !over.load(Ordering::Relaxed) {
                memory.push(server.memory());
                std::thread::sleep(Duration::from_millis(50));
            }
            memory
        });
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let samples = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        over.store(true, Ordering::Relaxed);
        (samples, memory.join().unwrap())
    })
}
