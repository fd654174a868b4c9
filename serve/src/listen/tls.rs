//! The server's certificate.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// The protocols that are offered, the preferred one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where the certificate and its key lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM: the server's certificate, then those that lead to one that clients know.
    pub certificate: PathBuf,
    /// PEM: the private key of the first one.
    pub key: PathBuf,
}

/// A certificate or a key that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// A file that holds something else.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// Two files that do not belong together.
    #[error("the key {} does not belong to the first certificate in {}", settings.key.display(), settings.certificate.display())]
    Pair {
        /// Both of them.
        settings: TlsSettings,
    },
}

/// A certificate in use, which can be replaced while connections go on.
#[derive(Debug)]
pub(crate) struct Tls {
    settings: TlsSettings,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// # Errors
    /// The files cannot be read, hold something else or do not belong together.
    pub(crate) fn open(settings: &TlsSettings) -> Result<Self, TlsError> {
        let config = RwLock::new(Arc::new(config(settings)?));
        Ok(Self { settings: settings.clone(), config })
    }

    /// Reads the files again; new connections get what they hold then.
    ///
    /// # Errors
    /// As [`Tls::open`]; the certificate in use stays.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let new = Arc::new(config(&self.settings)?);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// The handshake.
    pub(super) fn accept(&self, stream: TcpStream) -> tokio_rustls::Accept<TcpStream> {
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        TlsAcceptor::from(config).accept(stream)
    }
}

fn config(settings: &TlsSettings) -> Result<ServerConfig, TlsError> {
    let (chain, key) = (certificates(&settings.certificate)?, key(&settings.key)?);
    let unusable = |path: &Path, problem: String| TlsError::File { path: path.to_owned(), problem };
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&settings.certificate, error.to_string()))?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Pair { settings: settings.clone() },
        rustls::Error::InvalidCertificate(error) => {
            unusable(&settings.certificate, format!("no certificate of a server: {error}"))
        }
        error => unusable(&settings.key, format!("no key that can be used (RSA, ECDSA and Ed25519 can): {error}")),
    })?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let wrong = |problem: String| TlsError::File { path: path.to_owned(), problem };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(format!("not PEM: {error}")))?;
    if chain.is_empty() {
        let hint = if PrivateKeyDer::from_pem_slice(&text).is_ok() { "only a key" } else { "none" };
        return Err(wrong(format!(
            "a certificate is wanted here, -----BEGIN CERTIFICATE----- and so on (PEM); the file holds {hint}"
        )));
    }
    Ok(chain)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(path)?;
    let problem = match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => return Ok(key),
        Err(pem::Error::NoItemsFound) if contains(&text, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") => {
            "the key has a password; `openssl pkey -in FILE -out NEW` writes it without".to_owned()
        }
        Err(pem::Error::NoItemsFound) => {
            let hint = if contains(&text, b"-----BEGIN CERTIFICATE-----") { "only certificates" } else { "none" };
            format!("a private key is wanted here, -----BEGIN PRIVATE KEY----- and so on (PEM); the file holds {hint}")
        }
        Err(error) => format!("not PEM: {error}"),
    };
    Err(TlsError::File { path: path.to_owned(), problem })
}

fn contains(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|cause| TlsError::Read { path: path.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Certificate and key as PEM.
    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn open(folder: &Path, certificate: &str, key: &str) -> Result<Tls, String> {
        let settings = TlsSettings { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
        std::fs::write(&settings.certificate, certificate).unwrap();
        std::fs::write(&settings.key, key).unwrap();
        Tls::open(&settings).map_err(|error| error.to_string())
    }

    #[test]
    fn wrong_files_are_named_with_what_would_be_right() {
        let folder = tempfile::tempdir().unwrap();
        let ((certificate, key), (other, _)) = (made(), made());
        let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        for (certificate, key, file, words) in [
            ("", key.as_str(), "cert.pem", "the file holds none"),
            (key.as_str(), key.as_str(), "cert.pem", "the file holds only a key"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", key.as_str(), "cert.pem", "not PEM"),
            (empty, key.as_str(), "cert.pem", "no certificate of a server"),
            (certificate.as_str(), "", "key.pem", "the file holds none"),
            (certificate.as_str(), certificate.as_str(), "key.pem", "the file holds only certificates"),
            (certificate.as_str(), no_key, "key.pem", "RSA, ECDSA and Ed25519"),
            (certificate.as_str(), locked, "key.pem", "openssl pkey"),
            (other.as_str(), key.as_str(), "key.pem", "does not belong to the first certificate"),
        ] {
            let error = open(folder.path(), certificate, key).unwrap_err();
            assert!(error.contains(file) && error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn a_new_certificate_is_taken_and_a_wrong_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let ((certificate, key), (newer, its_key)) = (made(), made());
        let tls = open(folder.path(), &certificate, &key).unwrap();
        let first = Arc::clone(&tls.config.read().unwrap());
        std::fs::write(folder.path().join("cert.pem"), newer).unwrap();
        tls.reload().unwrap_err();
        assert!(Arc::ptr_eq(&first, &tls.config.read().unwrap()));
        std::fs::write(folder.path().join("key.pem"), its_key).unwrap();
        tls.reload().unwrap();
        assert!(!Arc::ptr_eq(&first, &tls.config.read().unwrap()));
    }
}
