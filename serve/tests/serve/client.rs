//! Drives the router in-process.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use drifting_serve::engine::{self, Engine, EngineChoice, EngineError, EngineInfo, EngineSettings};
use drifting_serve::{Limits, Model, Models, Part, router};
use drifting_spec::Inputs;
use serde_json::Value;
use tower::ServiceExt;

use crate::fixture;

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name}: {self:?}")).to_str().unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A decoded PNG.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) pixels: Vec<u8>,
    pub(crate) text: Vec<(String, String)>,
}

pub(crate) fn decode(file: &[u8]) -> Picture {
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    let info = reader.info();
    let text = info.uncompressed_latin1_text.iter().map(|chunk| (chunk.keyword.clone(), chunk.text.clone())).collect();
    Picture { width: info.width, height: info.height, pixels, text }
}

/// The fixture in rten, with two threads.
pub(crate) fn fixture_part(name: &str) -> Part {
    let model = Model::from_bytes(fixture::model()).unwrap();
    let settings =
        EngineSettings { choice: EngineChoice::Rten, threads: 2.try_into().ok(), ..EngineSettings::default() };
    let engine = engine::open(&model, &settings, &|message| panic!("{message}")).unwrap();
    Part { name: name.to_owned(), model, engines: vec![engine] }
}

/// A server with the fixture in rten.
pub(crate) fn service(limits: Limits) -> Arc<Models> {
    Models::start(vec![fixture_part("fixture")], limits).unwrap()
}

pub(crate) fn app() -> Router {
    router(service(Limits::default()))
}

pub(crate) async fn send(app: &Router, request: Request<Body>) -> Answer {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer { status: parts.status, headers: parts.headers, body: to_bytes(body, usize::MAX).await.unwrap() }
}

pub(crate) async fn call(app: &Router, method: Method, address: &str) -> Answer {
    send(app, Request::builder().method(method).uri(address).body(Body::empty()).unwrap()).await
}

/// `POST /generate` with a JSON body.
pub(crate) async fn post(app: &Router, query: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post(format!("/generate{query}")).header("content-type", "application/json");
    send(app, request.body(body.into()).unwrap()).await
}

pub(crate) async fn generate(app: &Router, query: &str) -> Answer {
    call(app, Method::POST, &format!("/generate?{query}")).await
}

/// Status, code and parameter of an error; checks what all of them have in common.
pub(crate) fn error(answer: &Answer) -> (u16, String, Option<String>) {
    let body = answer.json();
    let error = body["error"].as_object().unwrap_or_else(|| panic!("no error: {body}"));
    assert_eq!(error["request_id"], answer.header("x-request-id"));
    assert!(!error["message"].as_str().unwrap().is_empty());
    let word = |key: &str| error.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    (answer.status.as_u16(), word("code").unwrap(), word("parameter"))
}

/// The bytes that base64 stands for.
pub(crate) fn debase64(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.trim_end_matches('=').bytes().map(value).collect();
    let group = |group: &[u8]| {
        let bits = group.iter().fold(0u32, |bits, &digit| bits << 6 | u32::from(digit)) << (6 * (4 - group.len()));
        bits.to_be_bytes()[1..group.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}

/// How long the scripted engine takes for an image of class [`SLOW`].
pub(crate) const PAUSE: Duration = Duration::from_millis(300);
/// A class that takes [`PAUSE`].
pub(crate) const SLOW: i64 = 1;
/// A class at which the engine fails.
pub(crate) const FAILING: i64 = 2;
/// A class whose image is not finite.
pub(crate) const INFINITE: i64 = 3;

/// An engine whose image is its noise, except for the classes above.
struct Scripted(EngineInfo);

impl Engine for Scripted {
    fn info(&self) -> &EngineInfo {
        &self.0
    }

    fn run(&mut self, inputs: &Inputs) -> Result<Vec<f32>, EngineError> {
        match inputs.class[0] {
            SLOW => std::thread::sleep(PAUSE),
            FAILING => return Err(EngineError::Run { engine: "scripted", problem: "a secret path".to_owned() }),
            INFINITE => return Ok(vec![f32::NAN; inputs.noise.len()]),
            _ => {}
        }
        Ok(inputs.noise.clone())
    }
}

/// The scripted engine, for the fixture's manifest.
pub(crate) fn scripted_part(name: &str) -> Part {
    let model = Model::from_bytes(fixture::model()).unwrap();
    let fallback = Some("two\nlines, é".to_owned());
    let info =
        EngineInfo { name: "scripted", version: "1".to_owned(), provider: "test", threads: 1, library: None, fallback };
    Part { name: name.to_owned(), model, engines: vec![Box::new(Scripted(info))] }
}

/// A server with the scripted engine, one image at a time.
pub(crate) fn scripted(limits: Limits) -> Arc<Models> {
    Models::start(vec![scripted_part("fixture")], Limits { max_batch: 1, ..limits }).unwrap()
}
