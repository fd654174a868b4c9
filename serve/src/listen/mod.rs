//! The server's socket: which connections are taken, how long they may take, and how they end.

mod accept;
mod activity;
mod connection;
mod tls;
mod watched;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub(crate) use tls::Tls;
pub use tls::{TlsError, TlsSettings};

/// What a server bears of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Connections that are open at a time. More wait in the system's queue until one is closed.
    pub max: usize,
    /// How long a client may take for a TLS handshake, for the head of a request, and between two pieces of an answer
    /// that it takes.
    pub client_timeout: Duration,
    /// How long a connection may stay open without a request.
    pub idle_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { max: 1024, client_timeout: Duration::from_secs(30), idle_timeout: Duration::from_secs(75) }
    }
}

impl ConnectionLimits {
    /// # Errors
    /// A limit that no client could keep.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self { max, client_timeout, idle_timeout } = *self;
        match () {
            () if !(1..=Semaphore::MAX_PERMITS).contains(&max) => {
                Err(format!("max_connections is {max}; 1 is the least"))
            }
            () if client_timeout.is_zero() => Err("client_timeout is 0".to_owned()),
            () if idle_timeout.is_zero() => Err("idle_timeout is 0".to_owned()),
            () => Ok(()),
        }
    }
}

/// A socket and what belongs to it.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) limits: ConnectionLimits,
}

/// Answers requests with `router` until `stop` is done; then takes no new connections and ends once those that are open
/// have got their answers. Dropping the future closes them at once.
pub(crate) async fn serve(listener: Listener, router: Router, stop: impl Future<Output = ()>) {
    let Listener { socket, tls, limits } = listener;
    let room = Arc::new(Semaphore::new(limits.max));
    let (told, stopping) = watch::channel(false);
    let mut open = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            (stream, place) = accept::accept(&socket, &room) => {
                let connection = connection::serve(stream, tls.clone(), limits, router.clone(), stopping.clone());
                open.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Some(_) = open.join_next() => {}
            () = &mut stop => break,
        }
    }
    // A client that comes now is refused, not kept waiting.
    drop(socket);
    told.send_replace(true);
    while open.join_next().await.is_some() {}
}
