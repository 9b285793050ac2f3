//! TLS as the settings describe it: whether what they say goes together, which
//! the master looks at, and what is in the files, which a mold reads while it
//! still may.

use std::path::{Path, PathBuf};

use serve_config::Settings;
use serve_net::{Clients, Tls, TlsFile, TlsFiles};

/// Whether the settings go together.
///
/// # Errors
/// A sentence for the operator.
pub(crate) fn check(settings: &Settings) -> Result<(), String> {
    let (key, authorities) = (settings.keyfile.is_some(), settings.ca_certs.is_some());
    if settings.certfile.is_none() {
        let orphan = [("keyfile", key), ("ca_certs", authorities), ("cert_reqs", asks(settings))];
        return match orphan.into_iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((name, _)) => Err(format!(
                "{} needs a certificate, and there is none: name its file with --certfile",
                settings.place(name)
            )),
        };
    }
    match (asks(settings), authorities) {
        (true, false) => Err(format!(
            "{} asks clients for certificates, and nobody vouches for them: name a file with the \
             certificates of their authorities with --ca-certs",
            settings.place("cert_reqs")
        )),
        (false, true) => {
            log::warn!(
                "{} has no effect, since clients are not asked for a certificate: --cert-reqs 2 \
                 asks them",
                settings.place("ca_certs")
            );
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Reads the files; `None`: there is no TLS.
///
/// # Errors
/// A sentence for the operator.
pub(crate) fn load(settings: &Settings) -> Result<Option<Tls>, String> {
    let Some(certificate) = &settings.certfile else { return Ok(None) };
    let clients = match (settings.cert_reqs, &settings.ca_certs) {
        (1, Some(path)) => Clients::Optional(path.into()),
        (2, Some(path)) => Clients::Required(path.into()),
        _ => Clients::Unasked,
    };
    let key = settings.keyfile.as_ref().map(PathBuf::from);
    let files = TlsFiles { certificate: Path::new(certificate).to_owned(), key, clients };
    Tls::load(&files).map(Some).map_err(|error| {
        let name = match error.file() {
            TlsFile::Certificate => "certfile",
            TlsFile::Key => "keyfile",
            TlsFile::Authorities => "ca_certs",
        };
        format!("{}: {error}", settings.place(name))
    })
}

/// Whether clients are asked for a certificate.
fn asks(settings: &Settings) -> bool {
    settings.cert_reqs > 0
}
