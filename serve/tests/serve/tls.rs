//! A server with a certificate.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use drifting_serve::{ConnectionLimits, Server, TlsSettings};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::fixture;
use crate::socket::{Running, ask, settings};

/// Writes a certificate for `localhost` with its key.
fn certificate(folder: &Path) -> TlsSettings {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let settings = TlsSettings { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
    std::fs::write(&settings.certificate, made.cert.pem()).unwrap();
    std::fs::write(&settings.key, made.signing_key.serialize_pem()).unwrap();
    settings
}

/// A client that trusts `tls` alone.
fn client(tls: &TlsSettings, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&tls.certificate).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

fn secure(server: &Running, tls: &TlsSettings) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let connection = ClientConnection::new(client(tls, &[]), name()).unwrap();
    let mut stream = StreamOwned::new(connection, server.connect());
    stream.write_all(b"POST /generate?class=3&seed=7 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    Ok(stream)
}

#[test]
fn it_speaks_https_and_its_client_sees_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let tls = certificate(folder.path());
    let server = Running::start(|settings| settings.tls = Some(tls.clone()));
    let mut answer = Vec::new();
    // Without a close_notify this is an error.
    secure(&server, &tls).unwrap().read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("x-seed: 7"), "{answer}");

    let elsewhere = tempfile::tempdir().unwrap();
    let other = certificate(elsewhere.path());
    secure(&server, &other).and_then(|mut stream| stream.read(&mut [0])).unwrap_err();
    assert!(!ask(server.address, "GET /healthz").contains("200"));
    server.stop().unwrap();
}

#[test]
fn a_certificate_is_changed_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let old = certificate(folder.path());
    let server = Running::start(|settings| settings.tls = Some(old.clone()));
    // A client that trusts the old one, whatever the file holds now.
    let trusts_old = client(&old, &[]);
    let mut under_way = StreamOwned::new(ClientConnection::new(trusts_old, name()).unwrap(), server.connect());
    under_way.write_all(b"POST /generate?class=1 HTTP/1.1\r\nhost: localhost\r\n").unwrap();
    let new = certificate(folder.path());
    server.credentials.reload().unwrap();
    let mut answer = Vec::new();
    secure(&server, &new).unwrap().read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    answer.clear();
    under_way.write_all(b"connection: close\r\n\r\n").unwrap();
    under_way.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    // A half-written one is told and changes nothing.
    std::fs::write(&new.key, "").unwrap();
    assert!(server.credentials.reload().unwrap_err().to_string().contains("key.pem"));
    answer.clear();
    secure(&server, &new).unwrap().read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    server.stop().unwrap();
}

#[test]
fn http2_is_there_for_those_who_speak_it() {
    let folder = tempfile::tempdir().unwrap();
    let tls = certificate(folder.path());
    let server = Running::start(|settings| settings.tls = Some(tls.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let stream = TlsConnector::from(client(&tls, &[b"h2", b"http/1.1"])).connect(name(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let running = tokio::spawn(connection);
        let ask = |seed| {
            let address = format!("https://localhost/generate?class=1&seed={seed}");
            Request::post(address).body(Body::empty()).unwrap()
        };
        let together: Vec<_> = (0..20).map(|seed| sender.send_request(ask(seed))).collect();
        for (seed, answer) in together.into_iter().enumerate() {
            let answer = answer.await.unwrap();
            assert_eq!(
                (answer.status().as_u16(), answer.headers()["x-seed"].to_str().unwrap()),
                (200, &*seed.to_string())
            );
        }
        drop(sender);
        running.await.unwrap().unwrap();
    });
    server.stop().unwrap();
}

#[test]
fn a_handshake_that_does_not_come_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let tls = certificate(folder.path());
    let server = Running::start(|settings| {
        settings.tls = Some(tls.clone());
        settings.connections.client_timeout = Duration::from_millis(200);
    });
    for beginning in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = server.connect();
        stream.write_all(beginning).unwrap();
        let begun = Instant::now();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    // One that is under way does not hold a server that is told to stop.
    let waiting = Running::start(|settings| settings.tls = Some(tls.clone()));
    let _silent = waiting.connect();
    let begun = Instant::now();
    waiting.stop().unwrap();
    server.stop().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn wrong_files_are_named_before_anything_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let good = certificate(folder.path());
    let absent = folder.path().join("absent.pem");
    let refused = |tls: TlsSettings| {
        let base = settings(folder.path().join("no-model.onnx"));
        let settings = drifting_serve::ServeSettings { tls: Some(tls), ..base };
        Server::bind(&settings, &|_| {}).unwrap_err().to_string()
    };
    assert!(refused(good.clone()).contains("no-model.onnx"));
    let error = refused(TlsSettings { key: absent, ..good.clone() });
    assert!(error.contains("absent.pem"), "{error}");
    let base = settings(fixture::model_file(folder.path()));
    let none = drifting_serve::ServeSettings { connections: ConnectionLimits { max: 0, ..base.connections }, ..base };
    assert!(Server::bind(&none, &|_| {}).unwrap_err().to_string().contains("max_connections is 0"));
}
