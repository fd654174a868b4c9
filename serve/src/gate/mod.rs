//! Who is let in: API keys, and the pages of other servers.

mod cors;
mod credentials;
mod keys;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::http::HeaderMap;

pub use cors::Origins;
use keys::Keys;
pub use keys::KeysError;

/// Who is let in. By default everybody who reaches the port, and no other server's page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateSettings {
    /// The file of API keys, one a line. With it, every request needs one, but for `/healthz` and `/readyz`.
    pub keys: Option<PathBuf>,
    /// The pages that may use the interface from a browser.
    pub origins: Origins,
}

/// Tells who is let in.
#[derive(Debug, Default)]
pub struct Gate {
    keys: Option<(PathBuf, RwLock<Arc<Keys>>)>,
    origins: Origins,
}

/// What a request's credentials are worth.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Nobody needs a key.
    Open,
    /// A key of this name.
    Key(Arc<str>),
    /// None was given.
    Missing,
    /// None of those that were given is one of this server's.
    Wrong,
}

impl Gate {
    /// # Errors
    /// The file of keys cannot be read or is wrong.
    pub fn open(settings: &GateSettings) -> Result<Self, KeysError> {
        let keys = settings.keys.clone().map(|path| {
            let keys = Keys::read(&path)?;
            tracing::info!(keys = keys.len(), path = %path.display(), "every request needs a key");
            Ok((path, RwLock::new(Arc::new(keys))))
        });
        Ok(Self { keys: keys.transpose()?, origins: settings.origins.clone() })
    }

    /// Reads the file of keys again.
    ///
    /// # Errors
    /// As [`Gate::open`]; the keys in use stay.
    pub fn reload(&self) -> Result<(), KeysError> {
        if let Some((path, keys)) = &self.keys {
            let new = Arc::new(Keys::read(path)?);
            *keys.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
        Ok(())
    }

    /// What the credentials among `headers` are worth.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Admission {
        let Some((_, keys)) = &self.keys else { return Admission::Open };
        let keys = Arc::clone(&keys.read().unwrap_or_else(PoisonError::into_inner));
        let mut answer = Admission::Missing;
        for given in credentials::given(headers) {
            match keys.find(&given) {
                Some(name) => return Admission::Key(name),
                None => answer = Admission::Wrong,
            }
        }
        answer
    }

    /// `router`, open to the pages of the origins that may use it.
    pub(crate) fn open_to_origins(&self, router: Router) -> Router {
        match self.origins.layer() {
            Some(layer) => router.layer(layer),
            None => router,
        }
    }
}
