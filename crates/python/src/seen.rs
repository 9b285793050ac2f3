//! The part of an environ that proxies have a say in: what is believed of them
//! covers what the connection and the headers show.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use serve_net::{Scheme, Seen};

use crate::latin1::decode;

/// Changes `environ`, which is complete otherwise.
pub(crate) fn apply(environ: &Bound<'_, PyDict>, seen: &Seen) -> PyResult<()> {
    let py = environ.py();
    if let Some(id) = &seen.id {
        let text = decode(py, id.bytes(&mut [0; 24]));
        environ.set_item(intern!(py, "HTTP_X_REQUEST_ID"), text)?;
    }
    if seen.scheme == Some(Scheme::Https) {
        environ.set_item(intern!(py, "wsgi.url_scheme"), intern!(py, "https"))?;
    }
    for (name, value) in &seen.underscored {
        match name.as_str() {
            "SCRIPT_NAME" => mount(environ, value)?,
            _ => environ.set_item(format!("HTTP_{name}"), decode(py, value))?,
        }
    }
    if seen.host.is_some() || seen.port.is_some() {
        place(environ, seen)?;
    }
    Ok(())
}

/// Shows the client's certificate, under the names that Apache has for it.
pub(crate) fn vouch(environ: &Bound<'_, PyDict>, certificate: &str) -> PyResult<()> {
    let py = environ.py();
    environ.set_item(intern!(py, "SSL_CLIENT_VERIFY"), intern!(py, "SUCCESS"))?;
    environ.set_item(intern!(py, "SSL_CLIENT_CERT"), certificate)
}

/// The application is at `prefix`: that is not a part of its own paths.
fn mount(environ: &Bound<'_, PyDict>, prefix: &[u8]) -> PyResult<()> {
    let py = environ.py();
    let prefix = decode(py, prefix.trim_ascii_end().strip_suffix(b"/").unwrap_or(prefix));
    environ.set_item(intern!(py, "SCRIPT_NAME"), &prefix)?;
    let path = environ.get_item(intern!(py, "PATH_INFO"))?;
    let Some(path) = path.and_then(|path| path.cast_into::<PyString>().ok()) else { return Ok(()) };
    let (path, prefix) = (path.to_cow()?, prefix.to_cow()?);
    if let Some(rest) = path.strip_prefix(&*prefix)
        && (rest.is_empty() || rest.starts_with('/'))
    {
        environ.set_item(intern!(py, "PATH_INFO"), rest)?;
    }
    Ok(())
}

/// Where the client has found the first proxy.
fn place(environ: &Bound<'_, PyDict>, seen: &Seen) -> PyResult<()> {
    let py = environ.py();
    let known = match &seen.host {
        Some(host) => host.to_string(),
        None => match environ.get_item(intern!(py, "HTTP_HOST"))? {
            Some(host) => host.to_string(),
            None => return environ.set_item(intern!(py, "SERVER_PORT"), seen.port.map(text)),
        },
    };
    let usual = if seen.scheme == Some(Scheme::Https) { 443 } else { 80 };
    let (name, port) = match known.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
        _ => (known.as_str(), None),
    };
    let port = seen.port.or(port).unwrap_or(usual);
    environ.set_item(intern!(py, "SERVER_NAME"), name)?;
    environ.set_item(intern!(py, "SERVER_PORT"), text(port))?;
    let host = if port == usual { name.to_owned() } else { format!("{name}:{port}") };
    environ.set_item(intern!(py, "HTTP_HOST"), host)
}

fn text(port: u16) -> String {
    port.to_string()
}
