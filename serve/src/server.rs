//! From settings to a server on a socket, and its orderly end.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::api;
use crate::credentials::Credentials;
use crate::engine::{EngineError, EngineInfo, EngineSettings};
use crate::gate::{GateSettings, KeysError};
use crate::listen::{self, ConnectionLimits, Listener, TlsError, TlsSettings};
use crate::model::ModelError;
use crate::models::{ModelSettings, Models, NameError};
use crate::service::{Limits, ServiceError};

/// How long the engines' threads are looked after at a time once the server has stopped.
const TICK: Duration = Duration::from_millis(10);

/// Everything that a server needs to know.
#[derive(Clone, Debug)]
pub struct ServeSettings {
    /// What is served; the first one is asked where none is named.
    pub models: Vec<ModelSettings>,
    /// Where to listen; port 0 takes any free one.
    pub address: SocketAddr,
    /// The engine and its threads.
    pub engine: EngineSettings,
    /// Engines that each model gets, which run side by side.
    pub replicas: NonZeroUsize,
    /// What one model does at most.
    pub limits: Limits,
    /// What it bears of its connections.
    pub connections: ConnectionLimits,
    /// The certificate of an `https` server.
    pub tls: Option<TlsSettings>,
    /// Who is let in.
    pub gate: GateSettings,
    /// How long requests may take to finish once the server is told to stop.
    pub shutdown_deadline: Duration,
}

/// A server that cannot start or did not end well, and why.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}: {}", explain(.cause))]
    Bind {
        /// Where to listen.
        address: SocketAddr,
        /// What the operating system says.
        cause: io::Error,
    },
    /// The limits of connections cannot be kept.
    #[error("limits: {0}")]
    Connections(String),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The API keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The models' names cannot tell them apart.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A model file cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The engine cannot be loaded.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The model cannot be served.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The socket failed.
    #[error("the server's socket failed: {0}")]
    Socket(#[from] io::Error),
    /// Requests were still running when the time to stop was up.
    #[error("{images} images were still being made {} s after the server was told to stop; they were given up", deadline.as_secs_f32())]
    Deadline {
        /// Images that were given up.
        images: usize,
        /// The time that was given.
        deadline: Duration,
    },
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program uses this port; choose another one with --port".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied; ports below 1024 belong to the administrator".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    }
}

/// A server that is ready: it listens, its models are loaded and warm.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    credentials: Credentials,
    connections: ConnectionLimits,
    models: Arc<Models>,
    deadline: Duration,
}

impl Server {
    /// Takes the port, reads the models, loads them into engines and runs each once in every batch size. Blocks for as
    /// long as that takes; `notify` is told before ONNX Runtime is downloaded.
    ///
    /// # Errors
    /// The port is taken, or a model file, its name or its engine is not usable.
    pub fn bind(settings: &ServeSettings, notify: &dyn Fn(&str)) -> Result<Self, ServeError> {
        let bind = |cause| ServeError::Bind { address: settings.address, cause };
        let listener = TcpListener::bind(settings.address).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let connections = settings.connections;
        connections.check().map_err(ServeError::Connections)?;
        let credentials = Credentials::open(settings.tls.as_ref(), &settings.gate)?;
        let models = Models::open(settings, notify)?;
        for slot in models.slots() {
            let (name, service) = (&slot.name, slot.service());
            let (engine, batch_sizes) = (&service.engine, &service.batch_sizes);
            tracing::info!(name, %engine, ?batch_sizes, sha256 = service.model.sha256, "loaded");
        }
        tracing::info!(%address, "ready");
        let deadline = settings.shutdown_deadline;
        Ok(Self { listener, address, credentials, connections, models, deadline })
    }

    /// Where the server listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What can be read again while the server runs.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        self.credentials.clone()
    }

    /// What is served: name and engine of each model, the default one first.
    #[must_use]
    pub fn models(&self) -> Vec<(String, EngineInfo)> {
        self.models.slots().map(|slot| (slot.name.clone(), slot.service().engine.clone())).collect()
    }

    /// Answers requests until `shutdown` is done; then takes no new ones and finishes those that run.
    ///
    /// # Errors
    /// The socket fails, or requests are still running after the deadline.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), ServeError> {
        let Self { listener, credentials: Credentials { tls, gate }, connections, models, deadline, .. } = self;
        let socket = tokio::net::TcpListener::from_std(listener)?;
        let listener = Listener { socket, tls, limits: connections };
        let router = api::guarded(Arc::clone(&models), &gate);
        let (stop, stopped) = oneshot::channel::<()>();
        let mut serving = Box::pin(listen::serve(listener, router, async {
            let _ = stopped.await;
        }));
        tokio::select! {
            // Nothing ends it before it is told to stop.
            () = &mut serving => return Ok(()),
            () = shutdown => {}
        }
        models.drain();
        tracing::info!("told to stop; finishing what is running");
        let end = Instant::now() + deadline;
        let _ = stop.send(());
        tokio::select! {
            () = &mut serving => {}
            () = sleep_until(end) => {
                let images = models.busy();
                return Err(ServeError::Deadline { images, deadline });
            }
        }
        models.close();
        // A library's own threads must not outlive main: the process would end under their feet.
        while models.has_threads() && Instant::now() < end {
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }
}
