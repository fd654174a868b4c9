//! A server on a real socket, from its settings to its end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use drifting_serve::engine::{EngineChoice, EngineSettings};
use drifting_serve::{ConnectionLimits, Credentials, GateSettings, Limits, ServeError, ServeSettings, Server};
use tokio::sync::oneshot;

use crate::fixture;

pub(crate) fn settings(model: PathBuf) -> ServeSettings {
    ServeSettings {
        models: vec![model.into()],
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        engine: EngineSettings { choice: EngineChoice::Rten, threads: 2.try_into().ok(), ..EngineSettings::default() },
        replicas: NonZeroUsize::MIN,
        limits: Limits::default(),
        connections: ConnectionLimits::default(),
        tls: None,
        gate: GateSettings::default(),
        shutdown_deadline: Duration::from_secs(10),
    }
}

pub(crate) fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("{request} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A server that runs on its own thread until it is stopped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) credentials: Credentials,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<(), ServeError>>,
    _folder: tempfile::TempDir,
}

impl Running {
    /// Starts the fixture with `change`d settings.
    pub(crate) fn start(change: impl FnOnce(&mut ServeSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(fixture::model_file(folder.path()));
        change(&mut settings);
        let server = Server::bind(&settings, &|_| {}).unwrap();
        let (address, credentials) = (server.local_addr(), server.credentials());
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let thread = std::thread::spawn(move || {
            let result = runtime.block_on(server.run(async move {
                let _ = stopped.await;
            }));
            runtime.shutdown_background();
            result
        });
        Self { address, credentials, stop, thread, _folder: folder }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) fn stop(self) -> Result<(), ServeError> {
        let _ = self.stop.send(());
        self.thread.join().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_and_ends_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::bind(&settings(fixture::model_file(folder.path())), &|_| {}).unwrap();
    let address = server.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async move {
        let _ = stopped.await;
    }));
    let answer = tokio::task::spawn_blocking(move || ask(address, "POST /generate?class=3&seed=7")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("x-seed: 7"), "{answer}");
    // A client that is being answered when the server is told to stop gets its answer.
    let late = tokio::task::spawn_blocking(move || ask(address, "POST /generate?class=3&n=64"));
    tokio::time::sleep(Duration::from_millis(20)).await;
    stop.send(()).unwrap();
    assert!(late.await.unwrap().starts_with("HTTP/1.1 200 OK"));
    running.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_ends_cannot_hold_it() {
    let folder = tempfile::tempdir().unwrap();
    let patient = settings(fixture::model_file(folder.path()));
    let hasty = ServeSettings { shutdown_deadline: Duration::from_millis(100), ..patient };
    let server = Server::bind(&hasty, &|_| {}).unwrap();
    let mut stream = TcpStream::connect(server.local_addr()).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async move {
        let _ = stopped.await;
    }));
    stream.write_all(b"POST /generate?class=1 HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\nhalf").unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begun = Instant::now();
    stop.send(()).unwrap();
    let error = running.await.unwrap().unwrap_err();
    assert!(matches!(error, ServeError::Deadline { images: 0, .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { request_timeout: Duration::from_millis(100), ..Limits::default() };
    let hasty = ServeSettings { limits, ..settings(fixture::model_file(folder.path())) };
    let server = Server::bind(&hasty, &|_| {}).unwrap();
    let address = server.local_addr();
    let running = tokio::spawn(server.run(std::future::pending()));
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = "POST /generate?class=1 HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n";
        stream.write_all(format!("{head}content-length: 9\r\n\r\n{{\"n\":").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_timeout"), "{answer}");
    running.abort();
}

#[test]
fn what_keeps_it_from_starting_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let good = settings(fixture::model_file(folder.path()));
    let first = Server::bind(&good, &|_| {}).unwrap();
    let taken = ServeSettings { address: first.local_addr(), ..good.clone() };
    let error = Server::bind(&taken, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("another program uses this port") && error.contains("127.0.0.1"), "{error}");

    let absent = ServeSettings { models: vec![folder.path().join("absent.onnx").into()], ..good.clone() };
    assert!(Server::bind(&absent, &|_| {}).unwrap_err().to_string().contains("absent.onnx"));
    let narrow = ServeSettings { limits: Limits { queue: 1, ..Limits::default() }, ..good };
    assert!(Server::bind(&narrow, &|_| {}).unwrap_err().to_string().contains("queue is 1"));
}
