//! Values of an environ that the access log shows (`%({REMOTE_USER}e)s`).

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use serve_net::{ExchangeId, Shared};

use crate::latin1::encode;

/// Bytes of a value that reach the log.
const MOST: usize = 4096;

/// The names; mostly none.
pub(crate) struct Noted(Vec<Py<PyString>>);

impl Noted {
    pub(crate) fn new(py: Python<'_>, reactor: &Shared) -> Self {
        let names = reactor.lock().environ_wanted().to_vec();
        Self(names.iter().map(|name| PyString::intern(py, name).unbind()).collect())
    }

    /// Tells `reactor` what the application has made of `environ`.
    pub(crate) fn tell(&self, reactor: &Shared, id: ExchangeId, environ: &Bound<'_, PyDict>) {
        if !self.0.is_empty() {
            let values = self.0.iter().map(|name| text(environ, name)).collect();
            reactor.lock().note_environ(id, values);
        }
    }
}

/// What has no text is not shown.
fn text(environ: &Bound<'_, PyDict>, name: &Py<PyString>) -> Option<Vec<u8>> {
    let text = environ.get_item(name).ok()??.str().ok()?;
    let mut bytes = match encode(&text) {
        Ok(bytes) => bytes.to_vec(),
        Err(_) => text.to_string_lossy().into_owned().into_bytes(),
    };
    bytes.truncate(MOST);
    Some(bytes)
}
