//! One connection, from its first byte to its end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tower::Service;

use super::activity::{self, Activity};
use super::watched::Watched;
use super::{ConnectionLimits, Tls};

/// Bytes of a request's head; a longer one is answered 431.
const MAX_HEAD: usize = 64 << 10;
/// Requests that one HTTP/2 connection may have open at a time.
const MAX_STREAMS: u32 = 100;

/// Answers what comes over `stream` until its client leaves, takes too long or `stopping` turns true.
pub(super) async fn serve(
    stream: TcpStream,
    tls: Option<Arc<Tls>>,
    limits: ConnectionLimits,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let Some(tls) = tls else { return http(stream, http1(), limits, router, stopping).await };
    let stream = tokio::select! {
        accepted = timeout(limits.client_timeout, tls.accept(stream)) => match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => return tracing::debug!("a TLS handshake took too long"),
        },
        _ = stopping.wait_for(|&stopping| stopping) => return,
    };
    let builder = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => http2(),
        _ => http1(),
    };
    http(stream, builder, limits, router, stopping).await;
}

fn http1() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().max_buf_size(MAX_HEAD);
    builder
}

fn http2() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http2_only();
    builder.http2().max_concurrent_streams(MAX_STREAMS).max_header_list_size(MAX_HEAD as u32);
    builder
}

async fn http<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    builder: auto::Builder<TokioExecutor>,
    limits: ConnectionLimits,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let activity = Activity::new(builder.is_http1_available());
    let io = TokioIo::new(Watched::new(stream, activity.clone()));
    let service = service_fn(|request: Request<Incoming>| {
        let open = activity.request();
        let answer = router.clone().call(request);
        async move {
            let response = answer.await?;
            Ok::<_, Infallible>(response.map(|body| Answer { body, _request: open }))
        }
    });
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut stop = pin!(stopping.wait_for(|&stopping| stopping));
    let mut is_told = false;
    let mut timer = pin!(sleep_until(Instant::now() + limits.client_timeout));
    poll_fn(|cx| {
        if !is_told && stop.as_mut().poll(cx).is_ready() {
            is_told = true;
            activity.stop();
            connection.as_mut().graceful_shutdown();
        }
        // Whatever ends a connection, its client knows.
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // What happened is known now, and whether there is less time than the timer says.
        while let Some(deadline) = activity.deadline(&limits) {
            if timer.is_elapsed() || deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(cx).is_pending() {
                break;
            }
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
}

/// An answer's body, which holds its request open until it is written.
struct Answer {
    body: Body,
    _request: activity::Request,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
