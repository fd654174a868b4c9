//! What proves who is who, on both sides of a connection.

use std::sync::Arc;

use crate::gate::{Gate, GateSettings};
use crate::listen::{Tls, TlsSettings};
use crate::server::ServeError;

/// The server's certificate and the keys of its clients. Clones share them.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) gate: Arc<Gate>,
}

impl Credentials {
    /// # Errors
    /// A file cannot be read, or does not hold what it should.
    pub(crate) fn open(tls: Option<&TlsSettings>, gate: &GateSettings) -> Result<Self, ServeError> {
        Ok(Self { tls: tls.map(Tls::open).transpose()?.map(Arc::new), gate: Arc::new(Gate::open(gate)?) })
    }

    /// Reads all files again. New connections get the new certificate, new requests are held against the new keys; what
    /// is under way goes on.
    ///
    /// # Errors
    /// As at the start. What cannot be used leaves in use what was.
    pub fn reload(&self) -> Result<(), ServeError> {
        let keys = self.gate.reload();
        self.tls.as_ref().map_or(Ok(()), |tls| tls.reload())?;
        Ok(keys?)
    }
}
