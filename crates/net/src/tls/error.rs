//! Why there is no TLS, in sentences for the operator.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::{Error, InconsistentKeys};

/// Which of the files is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFile {
    /// The server's certificate.
    Certificate,
    /// Its private key.
    Key,
    /// The authorities of client certificates.
    Authorities,
}

/// Why a file cannot be used, in a sentence for the operator: it names the file,
/// what is wrong with it, and what to do.
#[derive(Debug)]
pub struct TlsError {
    file: TlsFile,
    path: PathBuf,
    wrong: String,
    /// May be empty.
    advice: &'static str,
}

impl TlsError {
    pub(super) fn new(file: TlsFile, path: &Path, wrong: String, advice: &'static str) -> Self {
        Self { file, path: path.to_owned(), wrong, advice }
    }

    /// What rustls finds wrong with the certificate or its key.
    pub(super) fn rustls(file: TlsFile, path: &Path, error: &Error) -> Self {
        let (wrong, advice) = match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => (
                "this private key does not belong to the certificate".into(),
                "use the one that the certificate was made with; the server's own certificate \
                 comes first in its file, those of authorities after it",
            ),
            Error::InvalidCertificate(_) => (
                format!("its first certificate cannot be read ({error})"),
                "`openssl x509 -noout -text -in FILE` shows it; X.509 version 3 is needed",
            ),
            Error::General(_) if file != TlsFile::Authorities => (
                "this private key is of no kind that is supported".into(),
                "RSA from 2048 bits, ECDSA on P-256 or P-384, and Ed25519 are; \
                 `openssl pkey -noout -text -in FILE` shows what it is",
            ),
            _ => (error.to_string(), ""),
        };
        Self::new(file, path, wrong, advice)
    }

    /// Which of the files is meant.
    pub fn file(&self) -> TlsFile {
        self.file
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot use '{}': {}", self.path.display(), self.wrong)?;
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        Ok(())
    }
}

impl std::error::Error for TlsError {}
