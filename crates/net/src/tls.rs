//! TLS, by rustls: what a worker needs for it, and the session of one connection.
//!
//! The files are read once for a generation, by a process that may read them;
//! nothing here touches them later. Which listeners speak TLS, and what becomes
//! of a connection whose handshake fails, is decided elsewhere.

mod error;
mod files;
mod session;
mod tickets;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};

pub use error::{TlsError, TlsFile};
pub(crate) use session::{Session, Shake};
use tickets::Tickets;

/// What is offered to clients (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

/// What TLS is made of, all of it in PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate, and behind it the authorities in between.
    pub certificate: PathBuf,
    /// Its private key; `None`: it is in the same file.
    pub key: Option<PathBuf>,
    /// Whether clients have to show a certificate.
    pub clients: Clients,
}

/// Whether clients have to show a certificate, and by which authorities.
#[derive(Debug, Clone)]
pub enum Clients {
    /// They are not asked.
    Unasked,
    /// A client may come without one; a wrong one is refused.
    Optional(PathBuf),
    /// Nobody is served without one.
    Required(PathBuf),
}

/// What the connections of a generation's workers have in common: the
/// certificate, its key, and the secret of the session tickets. So a session of
/// one worker can be resumed by another, and by none of the next generation,
/// which may trust other clients.
#[derive(Debug, Clone)]
pub struct Tls(Arc<ServerConfig>);

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// In the words of [`TlsError`].
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let identity = identity(files, &provider)?;
        let clients = clients(&files.clients, &provider)?;
        let unusable = |error| TlsError::rustls(TlsFile::Certificate, &files.certificate, &error);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(unusable)?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::new(Tickets::new().map_err(unusable)?);
        Ok(Self(Arc::new(config)))
    }
}

/// The server's certificate with its key.
fn identity(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let (chain, key) = files::chain_and_key(&files.certificate, files.key.as_deref())?;
    let (what, path) = match &files.key {
        Some(path) => (TlsFile::Key, path),
        None => (TlsFile::Certificate, &files.certificate),
    };
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        // It is the certificate that could not be read.
        rustls::Error::InvalidCertificate(_) => {
            TlsError::rustls(TlsFile::Certificate, &files.certificate, &error)
        }
        error => TlsError::rustls(what, path, &error),
    })
}

fn clients(
    clients: &Clients,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let path = match clients {
        Clients::Unasked => return Ok(Arc::new(NoClientAuth)),
        Clients::Optional(path) | Clients::Required(path) => path,
    };
    let roots = Arc::new(files::authorities(path)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let builder = match clients {
        Clients::Optional(_) => builder.allow_unauthenticated(),
        Clients::Unasked | Clients::Required(_) => builder,
    };
    let built = builder.build();
    built
        .map(|verifier| verifier as _)
        .map_err(|error| TlsError::new(TlsFile::Authorities, path, error.to_string(), ""))
}
