//! What a collector of traces is told.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use axum::body::Body;
use axum::http::Request;
use drifting_serve::{Collector, Limits, router};

use crate::client::{FAILING, scripted, send};

/// A collector that hands on the bodies of what it is sent.
fn stub() -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (sender, bodies) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            assert!(head.starts_with("post /v1/traces ") && head.contains("application/x-protobuf"), "{head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            sender.send(body).unwrap();
        }
    });
    (address, bodies)
}

fn count(body: &[u8], words: &[u8]) -> usize {
    body.windows(words.len()).filter(|window| *window == words).count()
}

/// The only test of this: a process has one collector.
#[test]
fn a_request_is_told_in_the_trace_of_its_client() {
    let (address, bodies) = stub();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let collector = Collector::at(&address, runtime.handle().clone()).unwrap();
    let app = router(scripted(Limits::default()));
    let trace = "0123456789abcdef0011223344556677";
    let ask = async |method: &str, address: &str, parent: &str| {
        let request = Request::builder().method(method).uri(address).header("x-request-id", "number-7");
        send(&app, request.header("traceparent", parent).body(Body::empty()).unwrap()).await.status.as_u16()
    };
    runtime.block_on(async {
        let sampled = format!("00-{trace}-a1a2a3a4a5a6a7a8-01");
        assert_eq!(ask("POST", "/generate?class=0", &sampled).await, 200);
        assert_eq!(ask("POST", &format!("/generate?class={FAILING}"), "no parent").await, 500);
        assert_eq!(ask("GET", "/healthz", &sampled).await, 200);
        // A client that does not want to be traced is not.
        assert_eq!(ask("GET", "/classes", &format!("00-{trace}-a1a2a3a4a5a6a7a8-00")).await, 200);
    });
    collector.finish().unwrap();
    let body: Vec<u8> = bodies.try_iter().flatten().collect();
    let trace: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&trace[2 * at..2 * at + 2], 16).unwrap()).collect();
    // The request, and queue, compute and encode within it.
    assert_eq!(count(&body, &trace), 4);
    assert_eq!(count(&body, b"\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8"), 1);
    for (words, times) in
        [(&b"POST /generate"[..], 2), (b"queue", 1), (b"compute", 1), (b"encode", 1), (b"number-7", 2)]
    {
        assert_eq!(count(&body, words), times, "{}", String::from_utf8_lossy(words));
    }
    assert_eq!((count(&body, b"/healthz"), count(&body, b"/classes")), (0, 0));
    assert!(count(&body, b"service.name") == 1 && count(&body, b"drifting-serve") >= 1);
}
