//! How spans travel: the client that `drifting load` has, too.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

/// How long one batch of spans may take to be sent.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a collector's answer that are read.
const MAX_ANSWER: usize = 1 << 20;

/// Sends requests from a runtime, whichever thread asks for it.
#[derive(Debug)]
pub(super) struct Client {
    runtime: Handle,
    connections: legacy::Client<HttpConnector, Full<Bytes>>,
}

impl Client {
    pub(super) fn new(runtime: Handle) -> Self {
        Self { runtime, connections: legacy::Client::builder(TokioExecutor::new()).build_http() }
    }
}

type Answer = Result<Response<Bytes>, HttpError>;

impl HttpClient for Client {
    // As the trait's macro would write it.
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> Pin<Box<dyn Future<Output = Answer> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let asked = self.connections.request(request.map(Full::new));
        let exchange = async {
            let (head, body) = asked.await?.into_parts();
            Ok(Response::from_parts(head, Limited::new(body, MAX_ANSWER).collect().await?.to_bytes()))
        };
        // A timer needs the runtime around it.
        let answer = self.runtime.spawn(async { tokio::time::timeout(TIMEOUT, exchange).await? });
        Box::pin(async { answer.await? })
    }
}
