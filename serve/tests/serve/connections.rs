//! Connections that are slow, idle, many, or gone.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use drifting_serve::ConnectionLimits;

use crate::socket::{Running, ask};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(100);

fn limited(max: usize, client_timeout: Duration, idle_timeout: Duration) -> Running {
    Running::start(|settings| settings.connections = ConnectionLimits { max, client_timeout, idle_timeout })
}

/// Reads one answer of a connection that goes on.
fn answer(stream: &mut TcpStream) -> String {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&bytes));
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    head
}

/// Waits until the server ends the connection; whether it does so with a reset is not told.
fn time_to_end(stream: &mut TcpStream) -> Duration {
    let begun = Instant::now();
    let mut rest = [0; 1024];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return begun.elapsed(),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return begun.elapsed(),
            other => assert_eq!(other.unwrap(), 0, "{:?}", String::from_utf8_lossy(&rest)),
        }
    }
}

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n";

#[test]
fn a_head_that_comes_byte_by_byte_is_cut_off() {
    let server = limited(8, SHORT, LONG);
    let mut slow = server.connect();
    let mut silent = server.connect();
    let mut writer = slow.try_clone().unwrap();
    let dripping = thread::spawn(move || {
        let begun = Instant::now();
        // Ends when the socket is gone.
        while writer.write_all(b"GET /healthz HTTP/1.1\r\nx: ").is_ok() && begun.elapsed() < LONG {
            thread::sleep(SHORT / 10);
        }
    });
    assert!(ask(server.address, "GET /healthz").starts_with("HTTP/1.1 200"));
    let time = time_to_end(&mut slow);
    assert!(time < 10 * SHORT, "{time:?}");
    assert!(time_to_end(&mut silent) < 10 * SHORT);
    dripping.join().unwrap();
    server.stop().unwrap();
}

#[test]
fn a_connection_without_requests_is_closed_and_one_with_them_is_not() {
    let server = limited(8, LONG, SHORT);
    let mut stream = server.connect();
    for _ in 0..6 {
        stream.write_all(HEALTH).unwrap();
        assert!(answer(&mut stream).starts_with("HTTP/1.1 200"));
        thread::sleep(SHORT / 3);
    }
    let time = time_to_end(&mut stream);
    assert!((SHORT / 3..10 * SHORT).contains(&time), "{time:?}");
    server.stop().unwrap();
}

#[test]
fn what_is_beyond_the_bound_waits_for_a_place() {
    let server = limited(2, LONG, LONG);
    let mut open: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for stream in &mut open {
        stream.write_all(HEALTH).unwrap();
        answer(stream);
    }
    let mut third = server.connect();
    third.write_all(HEALTH).unwrap();
    third.set_read_timeout(Some(SHORT)).unwrap();
    let kind = third.read(&mut [0]).unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind}");
    drop(open.pop());
    third.set_read_timeout(Some(LONG)).unwrap();
    assert!(answer(&mut third).starts_with("HTTP/1.1 200"));
    drop((open, third));
    server.stop().unwrap();
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let server = limited(4, LONG, LONG);
    let beginnings = [
        "GET /hea",
        "POST /generate?class=1 HTTP/1.1\r\nhost: test\r\ncontent-le",
        "POST /generate HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"cl",
        "POST /generate HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"c",
        "POST /generate?class=1&n=64 HTTP/1.1\r\nhost: test\r\n\r\n",
        "",
    ];
    // Each would keep its place for a hundred seconds if it were not noticed.
    for round in 0..10 {
        for beginning in beginnings {
            server.connect().write_all(beginning.as_bytes()).unwrap();
        }
        assert!(ask(server.address, "GET /healthz").starts_with("HTTP/1.1 200"), "{round}");
    }
    let begun = Instant::now();
    while !ask(server.address, "GET /healthz").contains("\"images_in_queue\":0") {
        assert!(begun.elapsed() < LONG, "what they asked for is still in the queue");
    }
    server.stop().unwrap();
}

#[test]
fn ten_megabytes_are_refused_by_a_word_that_arrives() {
    let server = limited(4, LONG, LONG);
    let head = "POST /generate HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n";
    let body = vec![b' '; 10 << 20];
    for framing in [
        format!("content-length: {}\r\n\r\n", body.len()),
        format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len()),
    ] {
        let mut stream = server.connect();
        stream.write_all(format!("{head}{framing}").as_bytes()).unwrap();
        // All of it, as clients do that only then look for an answer.
        stream.write_all(&body).unwrap();
        let head = answer(&mut stream);
        assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    }
    server.stop().unwrap();
}

#[test]
fn a_client_that_takes_no_answers_is_cut_off() {
    let server = limited(4, SHORT, LONG);
    let mut stream = server.connect();
    let question = b"GET /openapi.json HTTP/1.1\r\nhost: test\r\n\r\n";
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let begun = Instant::now();
    // Questions without end, of which no answer is read: at last nobody reads the questions either.
    let error = loop {
        if let Err(error) = stream.write_all(question) {
            break error;
        }
    };
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    assert!(begun.elapsed() > SHORT && begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    server.stop().unwrap();
}

#[test]
fn many_connections_are_answered_together() {
    let server = limited(1024, LONG, LONG);
    let mut streams: Vec<_> = (0..300).map(|_| server.connect()).collect();
    for _ in 0..3 {
        for stream in &mut streams {
            stream.write_all(HEALTH).unwrap();
        }
        for stream in &mut streams {
            assert!(answer(stream).starts_with("HTTP/1.1 200"));
        }
    }
    // Those that are idle do not hold the server.
    let begun = Instant::now();
    server.stop().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(streams.iter_mut().all(|stream| time_to_end(stream) < LONG));
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let server = limited(4, LONG, LONG);
    let mut stream = server.connect();
    let head = format!("GET /healthz HTTP/1.1\r\nhost: test\r\nx: {}\r\n\r\n", "x".repeat(200_000));
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    server.stop().unwrap();
}
