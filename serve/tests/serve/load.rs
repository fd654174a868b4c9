//! `drifting load` against servers that are slow, refuse, stall, hang up or are not there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use drifting_serve::load::{Arrivals, Load, LoadError, LoadPoint, LoadReport, LoadSettings, Question, Windows, load};
use drifting_serve::{Limits, router};
use tokio::runtime::Runtime;

use crate::client::{self, PAUSE, SLOW};

fn settings(address: SocketAddr, loads: &[Load]) -> LoadSettings {
    let (warm_up, length) = (Duration::from_millis(100), Duration::from_millis(200));
    LoadSettings {
        address: address.to_string(),
        headers: Vec::new(),
        loads: loads.to_vec(),
        question: Question::default(),
        windows: Windows { warm_up, length, most: 5, ..Windows::default() },
        timeout: Duration::from_secs(10),
        most_open: 64,
    }
}

fn closed(clients: usize) -> Load {
    Load::Closed { clients }
}

fn open(rate: f64) -> Load {
    Load::Open { rate, arrivals: Arrivals::Constant }
}

/// Threads that answer at an address until they are dropped.
fn serve(app: Router) -> (Runtime, SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move { axum::serve(listener, app).await });
    (runtime, address)
}

fn measured(settings: &LoadSettings) -> LoadReport {
    load(settings, &mut |_| {}).unwrap()
}

fn kinds(point: &LoadPoint) -> Vec<&str> {
    point.errors.iter().map(|error| &error.kind[..]).collect()
}

/// Answers each connection with `answer` and closes it, `times` times; then nobody listens any more.
fn raw(times: usize, answer: impl Fn(usize) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for turn in 0..times {
            let Ok((mut stream, _)) = listener.accept() else { return };
            // The whole question is read, so that closing is no reset.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&answer(turn));
        }
    });
    address
}

#[test]
fn both_loops_measure_a_server() {
    let (_runtime, address) = serve(router(client::scripted(Limits::default())));
    let question = Question { images: 4, classes: vec!["0".into(), "Boot".into()], ..Question::default() };
    let windows = Windows { tolerance: 100.0, ..settings(address, &[]).windows };
    let settings = LoadSettings { question, windows, ..settings(address, &[closed(2), open(100.0)]) };
    let mut told = Vec::new();
    let report = load(&settings, &mut |now| told.push((now.done, now.load, now.window))).unwrap();
    assert_eq!(report.server["model"]["name"], "fixture");
    for point in &report.points {
        assert!(point.stable && point.windows == 3 && point.answered > 20, "{point:?}");
        assert_eq!((point.refused, point.errors.len(), point.batch), (0, 0, Some(1.0)));
        let (latency, queue) = (point.latency.unwrap(), point.queue.unwrap());
        assert!(queue.p50 <= latency.p50 && point.compute.unwrap().p50 <= latency.p50, "{point:?}");
        assert!((point.images_per_second - 4.0 * point.requests_per_second).abs() < 1e-9);
    }
    let rate = report.points[1].requests_per_second;
    assert!((60.0..140.0).contains(&rate) && report.points[1].sent_late.is_some(), "{rate}");
    assert_eq!(told.iter().filter(|(_, _, window)| *window == 0).count(), 2);
    assert_eq!(told.last(), Some(&((1, 2), open(100.0), 3)));
}

#[test]
fn what_a_full_server_refuses_is_counted_apart() {
    let limits = Limits { queue: 2, max_images: 1, ..Limits::default() };
    let (_runtime, address) = serve(router(client::scripted(limits)));
    let question = Question { classes: vec![SLOW.to_string()], ..Question::default() };
    let length = Duration::from_secs(1);
    let windows = Windows { length, most: 1, ..settings(address, &[]).windows };
    let report = measured(&LoadSettings { question, windows, ..settings(address, &[closed(6)]) });
    let point = &report.points[0];
    assert!(point.refused > 10 && point.errors.is_empty(), "{point:?}");
    // One image at a time, two on their way: each waits for the one before.
    assert!((2..=5).contains(&point.answered), "{point:?}");
    let pause = PAUSE.as_secs_f64() * 1e3;
    assert!(point.latency.unwrap().p50 >= pause && point.compute.unwrap().p50 >= pause, "{point:?}");
    assert!(report.to_string().contains("refused") && report.succeeded());
}

#[test]
fn a_stall_is_seen_by_those_who_were_due() {
    // A server that answers at once, except for half a second.
    let start = Instant::now();
    let stall = move || async move {
        let end = Duration::from_millis(1200);
        if (Duration::from_millis(700)..end).contains(&start.elapsed()) {
            tokio::time::sleep(end - start.elapsed()).await;
        }
        StatusCode::OK
    };
    let (_runtime, address) = serve(Router::new().fallback(stall));
    let windows = Windows { length: Duration::from_millis(1600), most: 1, ..settings(address, &[]).windows };
    let report = measured(&LoadSettings { windows, ..settings(address, &[open(100.0)]) });
    let point = &report.points[0];
    let latency = point.latency.unwrap();
    // 50 of 160 requests were due in the stall; their times are 500 ms and less, in equal steps.
    assert!(latency.max > 400.0 && latency.p90 > 250.0 && latency.p50 < 100.0, "{point:?}");
    // What such a server does not tell is not made up.
    assert!(point.queue.is_none() && point.batch.is_none() && report.server.is_null(), "{point:?}");
}

#[test]
fn requests_beyond_the_most_wait_and_their_time_counts() {
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        StatusCode::OK
    };
    let (_runtime, address) = serve(Router::new().fallback(slow));
    let length = Duration::from_secs(1);
    let windows = Windows { length, most: 1, ..settings(address, &[]).windows };
    let timeout = Duration::from_millis(700);
    let report = measured(&LoadSettings { windows, timeout, most_open: 1, ..settings(address, &[open(40.0)]) });
    let point = &report.points[0];
    // Ten a second can be sent: the last ones wait until they are given up, which the table says.
    assert!(point.latency.unwrap().max > 400.0 && kinds(point) == ["timeout"], "{point:?}");
    assert!(report.to_string().contains("requests left late"), "{report}");
}

#[test]
fn errors_are_told_by_kind_with_their_words() {
    let (_runtime, address) = serve(router(client::scripted(Limits::default())));
    let question = Question { classes: vec!["77".into()], ..Question::default() };
    let report = measured(&LoadSettings { question, ..settings(address, &[closed(1)]) });
    let point = &report.points[0];
    assert!(!report.succeeded() && kinds(point) == ["status 422"] && point.failed() > 5, "{point:?}");
    assert!(point.errors[0].first.contains("77"), "{point:?}");

    let never = || async { std::future::pending::<StatusCode>().await };
    let (_runtime, address) = serve(Router::new().route("/generate", axum::routing::post(never)));
    let timeout = Duration::from_millis(50);
    let report = measured(&LoadSettings { timeout, ..settings(address, &[closed(2), open(50.0)]) });
    for point in &report.points {
        assert!(kinds(point) == ["timeout"] && point.latency.is_none(), "{point:?}");
        assert_eq!(point.errors[0].first, "no answer within 0.05 s");
    }
}

#[test]
fn a_server_that_hangs_up_or_dies_is_an_error_of_its_kind() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: ";
    // It tells about itself, breaks off three answers each in another way, and is gone.
    let address = raw(4, move |turn| match turn {
        0 => format!("{head}2\r\n\r\n{{}}").into_bytes(),
        1 => Vec::new(),
        2 => format!("{head}100\r\n\r\nhalf").into_bytes(),
        _ => b"SSH-2.0-OpenSSH\r\n".to_vec(),
    });
    let windows = Windows { warm_up: Duration::ZERO, ..settings(address, &[]).windows };
    let report = measured(&LoadSettings { windows, ..settings(address, &[closed(1), closed(1)]) });
    let point = &report.points[0];
    // Windows before the last three are not counted, so the three that were broken off may be gone from the first.
    assert!(kinds(point).contains(&"connect") && point.answered == 0, "{point:?}");
    assert!(kinds(&report.points[1]) == ["connect"] && report.points[1].errors[0].first.contains("refused"));

    let address = raw(usize::MAX, |_| Vec::new());
    let report = measured(&LoadSettings { windows, ..settings(address, &[closed(2)]) });
    assert!(kinds(&report.points[0]) == ["broken"], "{report}");
}

#[test]
fn an_address_without_a_server_is_said_at_once() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let error = load(&settings(address, &[closed(1)]), &mut |_| {}).unwrap_err();
    assert!(matches!(error, LoadError::Unreachable { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains(&address.to_string()) && error.contains("refused"), "{error}");
}

#[test]
fn headers_go_along() {
    let key = Arc::new("secret".to_owned());
    let guard = move |headers: axum::http::HeaderMap| async move {
        match headers.get("x-key").is_some_and(|value| value == key.as_str()) {
            true => StatusCode::OK,
            false => StatusCode::UNAUTHORIZED,
        }
    };
    let (_runtime, address) = serve(Router::new().fallback(guard));
    let headers = vec![("x-key".to_owned(), "secret".to_owned())];
    let with = measured(&LoadSettings { headers, ..settings(address, &[closed(1)]) });
    let without = measured(&settings(address, &[closed(1)]));
    assert!(with.succeeded() && with.points[0].errors.is_empty());
    assert!(!without.succeeded() && kinds(&without.points[0]) == ["status 401"]);
}
