//! Requests that nobody should send: each has its proper status or a closed connection, and others do not notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::{Connection, Failure};
use crate::running::Running;

/// Bytes that are sent as they are, and the statuses that may come of them; 0 stands for a closed connection.
type Fault = (&'static str, Vec<u8>, &'static [u16]);

/// A request with a query.
fn query(query: &str) -> Vec<u8> {
    head(&[b"POST /generate?", query.as_bytes(), b" HTTP/1.1"].concat(), &[b"content-length: 0"])
}

fn head(line: &[u8], headers: &[&[u8]]) -> Vec<u8> {
    let headers = headers.iter().flat_map(|header| [header, &b"\r\n"[..]].concat());
    [line, b"\r\nhost: test\r\n"].concat().into_iter().chain(headers).chain(*b"\r\n").collect()
}

/// A request with a JSON body.
fn body(body: &[u8]) -> Vec<u8> {
    let length = format!("content-length: {}", body.len());
    let head = head(b"POST /generate HTTP/1.1", &[b"content-type: application/json", length.as_bytes()]);
    [&head, body].concat()
}

fn chunked(chunks: &[u8]) -> Vec<u8> {
    let headers: [&[u8]; 2] = [b"content-type: application/json", b"transfer-encoding: chunked"];
    [&head(b"POST /generate HTTP/1.1", &headers), chunks].concat()
}

/// A request without a body, with another header.
fn header(header: &[u8]) -> Vec<u8> {
    head(b"POST /generate?class=3&seed=7 HTTP/1.1", &[b"content-length: 0", header])
}

fn faults() -> Vec<Fault> {
    let large = vec![b' '; 10 << 20];
    let chunk = [format!("{:x}\r\n", 1 << 20).as_bytes(), &large[..1 << 20], b"\r\n"].concat();
    let many = (0..20_000).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
    vec![
        ("alpha NaN", query("class=3&alpha=NaN"), &[422]),
        ("alpha infinite", query("class=3&alpha=inf"), &[422]),
        ("alpha infinite, spelled out", query("class=3&alpha=-Infinity"), &[422]),
        ("alpha beyond f32", query("class=3&alpha=1e39"), &[422]),
        ("alpha of 400 digits", query(&format!("class=3&alpha={}", "9".repeat(400))), &[422]),
        ("alpha in bytes that are no text", query("class=3&alpha=%FF"), &[400]),
        ("alpha NaN in a text", body(b"{\"class\": 3, \"alpha\": \"NaN\"}"), &[422]),
        ("alpha NaN, which JSON has not", body(b"{\"class\": 3, \"alpha\": NaN}"), &[400]),
        ("alpha 1e999, which no number holds", body(b"{\"class\": 3, \"alpha\": 1e999}"), &[400]),
        ("a class in bytes that are no text", query("class=%FF%FE"), &[422]),
        ("a name in bytes that are no text", query("%C3%28=3"), &[400]),
        ("an escape that is none", query("class=%zz"), &[422]),
        ("a NUL", query("class=%00"), &[422]),
        ("a class as long as a book", query(&format!("class={}", "a".repeat(10_000))), &[422]),
        ("a seed beyond 64 bits", query("class=3&seed=18446744073709551616"), &[422]),
        ("a negative seed", query("class=3&seed=-1"), &[400]),
        ("no image", query("class=3&n=0"), &[422]),
        ("a billion images", query("class=3&n=1000000000"), &[422]),
        ("a body that is no text", body(b"{\"class\": \"\xff\xfe\"}"), &[400]),
        ("half a surrogate", body(b"{\"class\": \"\\ud800\"}"), &[400]),
        ("lists in lists", body(&b"[".repeat(16_000)), &[400]),
        ("10 MB of JSON", body(&large), &[413, 0]),
        ("10 MB in chunks", chunked(&[&chunk.repeat(10)[..], b"0\r\n\r\n"].concat()), &[413, 0]),
        (
            "10 MB of no JSON",
            [&header(format!("content-length: {}", large.len()).as_bytes()), &large[..]].concat(),
            &[400, 0],
        ),
        ("chunks of no length", chunked(b"zz\r\n{}\r\n0\r\n\r\n"), &[400, 0]),
        ("a chunk without an end", chunked(b"FFFFFFFFFFFFFFFFFF\r\n{}"), &[400, 0]),
        (
            "a target that is no text",
            head(b"POST /generate?class=\xff HTTP/1.1", &[b"content-length: 0"]),
            &[400, 422, 0],
        ),
        ("a target as long as a book", query(&format!("class=3&seed={}", "1".repeat(500_000))), &[414, 431, 0]),
        ("a number of the request that is no text", header(b"x-request-id: \xff"), &[200]),
        ("accept that is no text", header(b"accept: \xff\xfe"), &[200]),
        ("a type that is no text", header(b"content-type: \xff"), &[200]),
        ("20000 headers", header(many.trim_end().as_bytes()), &[431, 0]),
        ("a header of 1 MB", header(&[b"x: ", &large[..1 << 20], b"y"].concat()), &[431, 0]),
        ("a length that is no number", head(b"POST /generate?class=3 HTTP/1.1", &[b"content-length: -1"]), &[400, 0]),
        ("two lengths", header(b"content-length: 5"), &[400, 0]),
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), &[400, 0]),
        ("another version", head(b"POST /generate?class=3 HTTP/3.7", &[]), &[400, 505, 0]),
        ("HTTP/2 without asking", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[400, 505, 0]),
    ]
}

#[test]
fn every_fault_has_its_status_and_harms_nobody() {
    let server = Running::start(&["--timeout", "5"]);
    let good = server.generate("class=3&seed=7").body;
    let over = AtomicBool::new(false);
    let mut wrong = Vec::new();
    let answered = std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| {
            let (mut connection, mut answered) = (server.connect(), 0);
            while !over.load(Ordering::Relaxed) {
                assert_eq!(connection.post("/generate?class=3&seed=7").unwrap().body, good);
                answered += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            answered
        });
        for (name, bytes, statuses) in faults() {
            let mut connection = server.connect();
            connection.write(&bytes);
            let status = match connection.read() {
                Ok(answer) => answer.status,
                Err(Failure::Closed) => 0,
                Err(Failure::Cut) => 1,
            };
            if !statuses.contains(&status) {
                wrong.push((name, status));
            }
        }
        vanish(&server);
        over.store(true, Ordering::Relaxed);
        neighbour.join().unwrap()
    });
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(answered > 10, "{answered}");
    assert_eq!(server.generate("class=3&seed=7").body, good);
    let log = server.log();
    assert!(!log.contains("ERROR"), "{:?}", log.lines().find(|line| line.contains("ERROR")));
}

/// Clients that leave at any point of a request and of its answer.
fn vanish(server: &Running) {
    let whole = body(b"{\"class\": 3, \"seed\": 7, \"n\": 64}");
    for end in (1..=whole.len()).step_by(3) {
        let mut connection = Connection::open(&server.address).unwrap();
        connection.write(&whole[..end]);
    }
    // What they left behind is not in anybody's way.
    let begun = std::time::Instant::now();
    while server.busy() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "{} images wait for nobody", server.busy());
        std::thread::sleep(Duration::from_millis(10));
    }
}
