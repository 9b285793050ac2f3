//! Certificates and keys, read from PEM files (RFC 7468).

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::{TlsError, TlsFile};

/// No file of certificates is larger: all the authorities of an operating system
/// are a quarter of that.
const MOST: u64 = 1 << 20;

/// How each part of a PEM file begins.
const BEGIN: &str = "-----BEGIN ";

/// Characters of a line of it.
const LINE: usize = 64;

const SWAPPED: &str = "perhaps certfile and keyfile are exchanged";

/// The chain that clients are shown, and the key of its first certificate; in
/// the same file if `key` is `None`.
pub(super) fn chain_and_key(
    certificate: &Path,
    key: Option<&Path>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let pem = read(TlsFile::Certificate, certificate)?;
    let chain = certificates(TlsFile::Certificate, certificate, &pem)?;
    let key = match key {
        None => private_key(TlsFile::Certificate, certificate, &pem)?,
        Some(path) => private_key(TlsFile::Key, path, &read(TlsFile::Key, path)?)?,
    };
    Ok((chain, key))
}

/// Those who vouch for clients.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let pem = read(TlsFile::Authorities, path)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(TlsFile::Authorities, path, &pem)? {
        roots.add(certificate).map_err(|error| {
            let wrong = format!("one of its certificates is not an authority's ({error})");
            TlsError::new(TlsFile::Authorities, path, wrong, "")
        })?;
    }
    Ok(roots)
}

fn certificates(
    file: TlsFile,
    path: &Path,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| broken(file, path, &error))?;
    if found.is_empty() {
        let advice = if has_key(pem) { SWAPPED } else { "" };
        let wrong = format!("there is no certificate in it ({BEGIN}CERTIFICATE-----)");
        return Err(TlsError::new(file, path, wrong, advice));
    }
    Ok(found)
}

fn private_key(file: TlsFile, path: &Path, pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    if pem.contains("BEGIN ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(TlsError::new(
            file,
            path,
            "its private key is encrypted".into(),
            "nobody is there to type the password: decrypt it with `openssl pkey -in FILE -out KEY`, \
             and let only the server's user read it",
        ));
    }
    let found = PrivateKeyDer::pem_slice_iter(pem.as_bytes()).next();
    let found = found.transpose().map_err(|error| broken(file, path, &error))?;
    found.ok_or_else(|| {
        let advice = match file {
            TlsFile::Certificate => "name the file of the key with --keyfile",
            _ if pem.contains("BEGIN CERTIFICATE") => SWAPPED,
            _ => "",
        };
        let wrong = format!("there is no private key in it ({BEGIN}PRIVATE KEY-----)");
        TlsError::new(file, path, wrong, advice)
    })
}

/// A certificate as a PEM file has it.
pub(super) fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = BASE64.encode(certificate);
    let mut pem = format!("{BEGIN}CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem + "-----END CERTIFICATE-----\n"
}

fn has_key(pem: &str) -> bool {
    pem.contains("PRIVATE KEY-----")
}

fn broken(file: TlsFile, path: &Path, error: &rustls::pki_types::pem::Error) -> TlsError {
    let wrong = format!("it is damaged ({error})");
    TlsError::new(file, path, wrong, "copy it anew from where it comes from")
}

/// The text of a PEM file.
fn read(file: TlsFile, path: &Path) -> Result<String, TlsError> {
    let mut bytes = Vec::new();
    let opened = File::open(path).and_then(|it| it.take(MOST + 1).read_to_end(&mut bytes));
    opened.map_err(|error| unreadable(file, path, &error))?;
    if bytes.len() as u64 > MOST {
        let wrong = "it is larger than any file of certificates".into();
        return Err(TlsError::new(file, path, wrong, ""));
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if !text.contains(BEGIN) {
        let advice = match bytes.first() {
            // What DER begins with: a sequence.
            Some(0x30) => {
                "it looks like DER: `openssl x509 -inform der -in FILE -out PEM` converts \
                           a certificate, `openssl pkey -inform der` a key"
            }
            _ => "",
        };
        let wrong = format!("it is not in PEM format (no line with {BEGIN}...)");
        return Err(TlsError::new(file, path, wrong, advice));
    }
    Ok(text)
}

fn unreadable(file: TlsFile, path: &Path, error: &io::Error) -> TlsError {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "it is read before the server becomes --user: start it as root, or let the user that \
             starts it read the file"
        }
        io::ErrorKind::NotFound if path.is_relative() => {
            "the path counts from the working directory, which --chdir changes"
        }
        _ => "",
    };
    // "(os error 2)" helps nobody who reads the sentence.
    let text = error.to_string();
    let wrong = text.split(" (os error").next().unwrap_or(&text).to_owned();
    TlsError::new(file, path, wrong, advice)
}
