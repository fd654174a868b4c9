//! SIGTERM under load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Answer, Connection, Failure};
use crate::running::Running;

/// Clients that wait in the queue when the signal comes.
const CLIENTS: usize = 8;
const REQUEST: &str = "/generate?class=3&seed=7&n=32";
/// Seconds that the server has to finish.
const GRACE: u64 = 10;
/// A request that was sent so long before the signal has arrived.
const ARRIVED: Duration = Duration::from_millis(50);

struct Sample {
    sent: Instant,
    done: Instant,
    answer: Result<Answer, Failure>,
}

#[test]
fn what_was_accepted_is_answered_before_the_end() {
    let mut server = Running::start(&["--grace", &GRACE.to_string()]);
    let stopped = AtomicBool::new(false);
    let client = || {
        let mut connection = server.connect();
        let mut samples = Vec::new();
        // Goes on until the server closes the connection.
        loop {
            let sent = Instant::now();
            let answer = connection.post(REQUEST);
            let ended = answer.is_err();
            samples.push(Sample { sent, done: Instant::now(), answer });
            if ended {
                assert!(stopped.load(Ordering::SeqCst), "closed before the signal");
                return samples;
            }
        }
    };
    let (signal, late, samples) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        std::thread::sleep(Duration::from_secs(1));
        stopped.store(true, Ordering::SeqCst);
        let signal = Instant::now();
        server.terminate();
        std::thread::sleep(ARRIVED);
        // Who comes now finds no server, or one that says that it is leaving.
        let late = Connection::open(&server.address).map(|mut connection| connection.post("/generate?class=1"));
        let samples: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (signal, late, samples)
    });
    let status = server.end(Duration::from_secs(GRACE).saturating_sub(signal.elapsed()));
    assert_eq!(status.code(), Some(0), "{}", server.log());
    match late {
        Err(_) | Ok(Err(Failure::Closed)) => {}
        Ok(Ok(answer)) => assert_eq!((answer.status, answer.code().as_str()), (503, "draining")),
        Ok(Err(Failure::Cut)) => panic!("an answer was cut"),
    }
    assert!(Connection::open(&server.address).is_err());

    let accepted = |sample: &&Sample| sample.sent + ARRIVED < signal;
    for Sample { answer, .. } in samples.iter().filter(accepted) {
        assert_eq!(answer.as_ref().map(|answer| answer.status), Ok(200));
    }
    let running = samples.iter().filter(accepted).filter(|sample| sample.done > signal).count();
    assert!(running >= CLIENTS / 2, "only {running} were on their way when the signal came");
    for Sample { answer, .. } in &samples {
        match answer {
            Ok(answer) if answer.status == 200 => drop(answer.pixels()),
            Ok(answer) => assert_eq!((answer.status, answer.code().as_str()), (503, "draining")),
            Err(failure) => assert_eq!(*failure, Failure::Closed, "an answer was cut"),
        }
    }
    server.log();
    println!("{} requests, {running} of them on their way at the signal", samples.len());
}
