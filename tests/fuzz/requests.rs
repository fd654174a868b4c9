//! Requests as they come from outside: bytes on a connection, read by hyper and by every handler behind it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use drifting_serve::engine::{Engine, EngineError, EngineInfo};
use drifting_serve::{Limits, Model, Models, Part, router};
use drifting_spec::Inputs;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

use crate::Target;
use crate::mutate::{Random, bytes, json};
use crate::readers::onnx;

/// Statuses that a request may be answered with. Nothing here is slow, full or broken.
const STATUSES: [u16; 12] = [200, 304, 400, 404, 405, 406, 408, 413, 414, 415, 422, 431];

/// What the parts of a request are made of.
const PATHS: [&str; 12] = [
    "/generate",
    "/generate",
    "/models/tiny/generate",
    "/models/tiny/classes",
    "/v2/models/tiny/infer",
    "/v2/models/tiny/infer",
    "/v2/models/tiny/versions/1",
    "/v2/health/ready",
    "/",
    "/info",
    "/metrics",
    "/none",
];
const QUERIES: [&str; 6] = [
    "class=1&alpha=1.5&seed=7&n=2&format=png&grid=1",
    "class=random&seed=18446744073709551615",
    "class=%31&alpha=%2B2.5e0&n=008",
    "class=1&format=json&n=3",
    "seed=7",
    "",
];
const BODIES: [&str; 9] = [
    "",
    r#"{"id": "a", "inputs": [{"name": "class", "datatype": "INT64", "shape": [2], "data": [1, 2]}]}"#,
    r#"{"inputs": [{"name": "class", "datatype": "BYTES", "shape": [2], "data": ["random", "0"]},
        {"name": "alpha", "datatype": "FP32", "shape": [2], "data": [1.5, 2]},
        {"name": "seed", "datatype": "UINT64", "shape": [2], "data": [18446744073709551615, 7]}],
        "outputs": [{"name": "values"}, {"name": "seed", "parameters": {"binary_data": false}}], "parameters": {}}"#,
    r#"{"inputs": [{"name": "class", "datatype": "INT64", "shape": [9], "data": [1, 1, 1, 1, 1, 1, 1, 1, 1]}]}"#,
    r#"{"class": 1, "alpha": 1.5, "seed": 7, "n": 2, "format": "webp", "grid": 1}"#,
    r#"{"class": "random", "seed": "18446744073709551615", "format": "npy"}"#,
    r#"{"class": "0", "alpha": "2", "n": "4"}"#,
    r#"{"class": null, "seed": [1, {"a": "\u00e9"}]}"#,
    r#"{}"#,
];
const HEADERS: [&str; 12] = [
    "accept: image/png",
    "accept: image/webp;q=0.5, image/*;q=0.8, */*;q=0",
    "accept: application/json, application/x-npy;q=1.0",
    "accept: text/html",
    "content-type: application/json",
    "content-type: application/json; charset=utf-8",
    "content-type: text/plain",
    "x-request-id: abc-1",
    "authorization: Bearer none",
    "expect: 100-continue",
    "if-none-match: \"1\"",
    "cookie: class=3",
];
const METHODS: [&str; 8] = ["POST", "POST", "POST", "POST", "GET", "HEAD", "OPTIONS", "DELETE"];

/// The image is the noise, so that nearly all time is spent on requests.
struct Noise(EngineInfo);

impl Engine for Noise {
    fn info(&self) -> &EngineInfo {
        &self.0
    }

    fn run(&mut self, inputs: &Inputs) -> Result<Vec<f32>, EngineError> {
        Ok(inputs.noise.clone())
    }
}

/// The server's routes.
pub(crate) struct Requests {
    runtime: Runtime,
    router: Router,
}

impl Requests {
    pub(crate) fn new() -> Self {
        let model = Model::from_bytes(onnx()).unwrap();
        let info = EngineInfo {
            name: "noise",
            version: "1".to_owned(),
            provider: "test",
            threads: 1,
            library: None,
            fallback: None,
        };
        let limits = Limits { max_images: 8, ..Limits::default() };
        let part = Part { name: "tiny".to_owned(), model, engines: vec![Box::new(Noise(info))] };
        let models = Models::start(vec![part], limits).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let requests = Self { runtime, router: router(models) };
        let answer = requests.send(b"POST /generate?class=1 HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        requests
    }

    /// All that is written to a connection from which `request` comes, and then its end.
    fn send(&self, request: &[u8]) -> Vec<u8> {
        let written = Rc::default();
        let wire = Wire { left: request.to_vec().into(), written: Rc::clone(&written) };
        let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| {
            self.router.clone().oneshot(request.map(Body::new))
        });
        // What is no HTTP ends in an error, and what was written before counts.
        let _ = self.runtime.block_on(http1::Builder::new().half_close(true).serve_connection(wire, service));
        written.take()
    }
}

/// A connection whose other side has said everything.
struct Wire {
    left: VecDeque<u8>,
    written: Rc<RefCell<Vec<u8>>>,
}

impl Read for Wire {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context, mut buffer: ReadBufCursor) -> Poll<io::Result<()>> {
        let length = buffer.remaining().min(self.left.len());
        let bytes: Vec<u8> = self.left.drain(..length).collect();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.borrow_mut().extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Target for Requests {
    fn name(&self) -> String {
        "requests".to_owned()
    }

    fn execute(&mut self, random: &mut Random) -> bool {
        let answer = self.send(&request(random));
        let Some((status, body)) = read(&answer) else { return false };
        assert!(STATUSES.contains(&status), "status {status}: {}", String::from_utf8_lossy(&answer));
        // An error of ours says what is wrong; hyper's own have no body.
        if status >= 400 && !body.is_empty() {
            let error: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
            let message = error["error"]["message"].as_str().or(error["error"].as_str()).unwrap_or_default();
            assert!(!message.is_empty() && message.len() < 40_000, "{}", String::from_utf8_lossy(&answer));
        }
        status == 200
    }
}

/// Status and body of the first answer; nothing where the connection was closed without one.
fn read(answer: &[u8]) -> Option<(u16, &[u8])> {
    // What a client may be told before it sends its body.
    let answer = answer.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(answer);
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.parse().unwrap());
    // An answer to HEAD has a length and no body.
    let body = answer[end + 4..].get(..length).filter(|body| !body.starts_with(b"HTTP/1.1 "));
    Some((status, body.unwrap_or_default()))
}

/// One or two requests, mostly right, with a part of them changed.
fn request(random: &mut Random) -> Vec<u8> {
    let mut all = one(random);
    if random.one_in(8) {
        all.extend(one(random));
    }
    if random.one_in(4) {
        bytes(&mut all, 0..usize::MAX, random);
    }
    all
}

fn one(random: &mut Random) -> Vec<u8> {
    let mut target = random.pick(&PATHS).as_bytes().to_vec();
    let mut query = random.pick(&QUERIES).to_owned();
    let mut body = random.pick(&BODIES).to_owned();
    let mut headers: Vec<Vec<u8>> = (0..random.below(4)).map(|_| random.pick(&HEADERS).as_bytes().to_vec()).collect();
    if !body.is_empty() && !random.one_in(8) {
        headers.push(b"content-type: application/json".to_vec());
        // A parameter may be given once.
        if !random.one_in(4) {
            query.clear();
        }
    }
    match random.below(6) {
        0 => json(&mut query, random),
        1 | 2 => json(&mut body, random),
        3 => bytes(&mut target, 1..usize::MAX, random),
        4 => {
            let at = random.below(headers.len());
            if let Some(header) = headers.get_mut(at) {
                bytes(header, 0..usize::MAX, random);
            }
        }
        _ => {}
    }
    let (mut query, mut body) = (query.into_bytes(), body.into_bytes());
    match random.below(8) {
        0 => bytes(&mut query, 0..usize::MAX, random),
        1 => bytes(&mut body, 0..usize::MAX, random),
        2 => body = body.repeat(1 + random.below(400)),
        _ => {}
    }
    if !query.is_empty() {
        target.push(b'?');
        // What cannot stand in a target is escaped, or the parameters would never see it.
        let escape = |byte: &u8| match byte {
            0x21..=0x7e => vec![*byte],
            other => format!("%{other:02X}").into_bytes(),
        };
        target.extend(query.iter().flat_map(escape));
    }
    let body = if random.one_in(6) { chunked(&body, &mut headers, random) } else { plain(body, &mut headers, random) };
    let line = [random.pick(&METHODS).as_bytes(), b" ", &target, b" HTTP/1.1\r\nhost: a\r\n"].concat();
    let headers = headers.into_iter().flat_map(|header| [&header[..], b"\r\n"].concat());
    line.into_iter().chain(headers).chain(*b"\r\n").chain(body).collect()
}

/// A body with its length, now and then a wrong one.
fn plain(body: Vec<u8>, headers: &mut Vec<Vec<u8>>, random: &mut Random) -> Vec<u8> {
    let length = if random.one_in(16) { random.below(100_000) } else { body.len() };
    headers.push(format!("content-length: {length}").into_bytes());
    body
}

fn chunked(body: &[u8], headers: &mut Vec<Vec<u8>>, random: &mut Random) -> Vec<u8> {
    headers.push(b"transfer-encoding: chunked".to_vec());
    let chunks = body.chunks(1 + random.below(64));
    let chunks = chunks.flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    chunks.chain(*b"0\r\n\r\n").collect()
}
