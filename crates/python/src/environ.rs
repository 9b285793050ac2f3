//! The environ of a request (PEP 3333, "environ Variables"; RFC 3875).
//!
//! A dictionary per listener holds what every request shares and is copied;
//! header names become `HTTP_…` strings once; a value that repeats on the next
//! request is the same object again; of requests with the same headers, the third
//! begins with a copy of the second's. Hostile names cannot grow the tables.

use std::net::{IpAddr, SocketAddr};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use rustc_hash::FxHashMap;
use serve_http::{Head, Version};
use serve_net::{Exchange, Listener, Peer, Scheme};

use crate::drive::{Driver, Options};
use crate::input::Input;
use crate::latin1::decode;
use crate::seen;

/// Header names remembered; a client may invent more, they are made anew.
const NAMES: usize = 256;

/// A dictionary with so many items has room for 42 of them.
const TAKEN: usize = 22;

/// A listener as an application sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// SERVER_NAME; `None` for a unix socket, then Host tells.
    pub name: Option<String>,
    /// SERVER_PORT.
    pub port: String,
}

impl From<&Listener> for Origin {
    fn from(listener: &Listener) -> Self {
        match listener.tcp() {
            Some(address) => {
                Self { name: Some(address.ip().to_string()), port: address.port().to_string() }
            }
            None => Self { name: None, port: "80".into() },
        }
    }
}

/// Makes environs, one at a time.
pub(crate) struct Environs {
    templates: Vec<Py<PyDict>>,
    names: FxHashMap<Box<[u8]>, Name>,
    /// Last value of what is not a header.
    target: Last,
    path: Last,
    query: Last,
    /// Of the last client: behind a proxy, of all.
    address: Option<(IpAddr, Py<PyString>)>,
    ports: Ports,
    method: Last,
    scratch: Vec<u8>,
    recent: Recent,
}

/// The last request, and its environ if its headers were those of the one before
/// as well: health checks and programs send the same ones again and again.
#[derive(Default)]
struct Recent {
    // What an environ's headers depend on.
    listener: usize,
    version: Version,
    scheme: Option<Scheme>,
    /// Of the client; `None`: by a unix socket.
    address: Option<IpAddr>,
    fields: Vec<u8>,
    /// Without what is only for one request, or one connection.
    environ: Option<Py<PyDict>>,
    /// Of that environ.
    request_line: Vec<u8>,
}

impl Recent {
    /// Header lines of more bytes are not compared.
    const MOST: usize = 8 * 1024;

    fn is_like(&self, head: &Head, exchange: &Exchange) -> bool {
        self.fields == head.field_lines()
            && self.listener == exchange.listener
            && self.version == head.version()
            && self.scheme == exchange.seen.scheme
            && self.address == address(exchange.peer)
            // Of another form, it can replace a header.
            && head.target().first() == Some(&b'/')
    }

    /// The next request may be like this one; `again`: it was like the last one.
    fn note(
        &mut self,
        environ: &Bound<'_, PyDict>,
        again: bool,
        head: &Head,
        exchange: &Exchange,
    ) -> PyResult<()> {
        if again {
            self.environ = Some(environ.copy()?.unbind());
            self.request_line.clear();
            self.request_line.extend_from_slice(head.request_line());
            return Ok(());
        }
        self.environ = None;
        (self.listener, self.version) = (exchange.listener, head.version());
        (self.scheme, self.address) = (exchange.seen.scheme, address(exchange.peer));
        self.fields.clear();
        if head.field_lines().len() <= Self::MOST {
            self.fields.extend_from_slice(head.field_lines());
        }
        Ok(())
    }
}

/// What is known of a header name, spelled as it was sent.
enum Name {
    /// Not for the application.
    Dropped,
    Key {
        key: Py<PyString>,
        repeats: Repeats,
        last: Last,
    },
}

/// How several fields of one name become one value.
#[derive(Clone, Copy)]
enum Repeats {
    Comma,
    /// RFC 6265 section 5.4: cookies are joined as one Cookie field has them.
    Semicolon,
}

/// A value and the `str` made of it.
#[derive(Default)]
struct Last {
    bytes: Vec<u8>,
    text: Option<Py<PyString>>,
}

impl Last {
    fn of<'py>(&mut self, py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
        match &self.text {
            Some(text) if self.bytes == bytes => text.bind(py).clone(),
            _ => {
                let text = decode(py, bytes);
                self.bytes.clear();
                self.bytes.extend_from_slice(bytes);
                self.text = Some(text.clone().unbind());
                text
            }
        }
    }
}

/// The ports of kept connections, which come again and again, as text: each at
/// its place, where the last one of those that share it wins.
#[derive(Default)]
struct Ports(Vec<Option<(u16, Py<PyString>)>>);

impl Ports {
    const PLACES: u16 = 256;

    fn of<'py>(&mut self, py: Python<'py>, port: u16) -> Bound<'py, PyString> {
        if self.0.is_empty() {
            self.0.resize_with(usize::from(Self::PLACES), || None);
        }
        let place = &mut self.0[usize::from(port % Self::PLACES)];
        match place {
            Some((known, text)) if *known == port => text.bind(py).clone(),
            _ => {
                let text = PyString::new(py, itoa::Buffer::new().format(port));
                *place = Some((port, text.clone().unbind()));
                text
            }
        }
    }
}

impl Environs {
    /// `more` is what an environ has beyond PEP 3333 and the CGI's variables.
    pub(crate) fn new(
        py: Python<'_>,
        options: &Options,
        more: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let templates = options.origins.iter().map(|origin| {
            let environ = template(py, origin, options)?;
            environ.update(more.as_mapping())?;
            reserve(&environ)?;
            Ok(environ.unbind())
        });
        Ok(Self {
            templates: templates.collect::<PyResult<_>>()?,
            names: FxHashMap::default(),
            target: Last::default(),
            path: Last::default(),
            query: Last::default(),
            address: None,
            ports: Ports::default(),
            method: Last::default(),
            scratch: Vec::new(),
            recent: Recent::default(),
        })
    }

    pub(crate) fn make<'py>(
        &mut self,
        py: Python<'py>,
        head: &Head,
        exchange: &Exchange,
        input: &Bound<'py, Input>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let environ = self.for_head(py, head, exchange)?;
        // 0: a proxy did not say.
        if let Peer::Tcp(address) = exchange.peer
            && address.port() != 0
        {
            environ.set_item(intern!(py, "REMOTE_PORT"), self.ports.of(py, address.port()))?;
        }
        if let Some(proxy) = exchange.proxy {
            set_proxy(&environ, proxy)?;
        }
        seen::apply(&environ, &exchange.seen)?;
        if let serve_http::Framing::Chunked = head.framing() {
            // The body is whole: its length is known, whatever framing it had.
            environ.set_item(intern!(py, "CONTENT_LENGTH"), input.borrow().left().to_string())?;
        }
        environ.set_item(intern!(py, "wsgi.input"), input)?;
        Ok(environ)
    }

    /// What the head and the client's address decide.
    fn for_head<'py>(
        &mut self,
        py: Python<'py>,
        head: &Head,
        exchange: &Exchange,
    ) -> PyResult<Bound<'py, PyDict>> {
        let again = self.recent.is_like(head, exchange);
        if again && let Some(kept) = &self.recent.environ {
            let environ = kept.bind(py).copy()?;
            if self.recent.request_line != head.request_line() {
                self.set_target(&environ, head)?;
            }
            return Ok(environ);
        }
        let environ = self.templates[exchange.listener].bind(py).copy()?;
        self.set_target(&environ, head)?;
        if head.version() == Version::Http10 {
            environ.set_item(intern!(py, "SERVER_PROTOCOL"), intern!(py, "HTTP/1.0"))?;
        }
        self.set_fields(&environ, head, exchange.seen.scheme)?;
        self.set_address(&environ, exchange.peer)?;
        self.recent.note(&environ, again, head, exchange)?;
        Ok(environ)
    }

    fn set_target(&mut self, environ: &Bound<'_, PyDict>, head: &Head) -> PyResult<()> {
        let py = environ.py();
        environ.set_item(intern!(py, "REQUEST_METHOD"), self.method.of(py, head.method()))?;
        let path = head.path();
        let path = if path.contains(&b'%') {
            unquote(path, &mut self.scratch);
            self.scratch.as_slice()
        } else {
            path
        };
        environ.set_item(intern!(py, "PATH_INFO"), self.path.of(py, path))?;
        environ.set_item(intern!(py, "QUERY_STRING"), self.query.of(py, head.query()))?;
        environ.set_item(intern!(py, "RAW_URI"), self.target.of(py, head.target()))
    }

    fn set_address(&mut self, environ: &Bound<'_, PyDict>, peer: Peer) -> PyResult<()> {
        let py = environ.py();
        let text = match (address(peer), &self.address) {
            (None, _) => intern!(py, "").clone(),
            (Some(ip), Some((known, text))) if *known == ip => text.bind(py).clone(),
            (Some(ip), _) => {
                let text = PyString::new(py, &ip.to_string());
                self.address = Some((ip, text.clone().unbind()));
                text
            }
        };
        environ.set_item(intern!(py, "REMOTE_ADDR"), text)
    }

    fn set_fields(
        &mut self,
        environ: &Bound<'_, PyDict>,
        head: &Head,
        scheme: Option<Scheme>,
    ) -> PyResult<()> {
        let py = environ.py();
        let mut repeated = Vec::new();
        for (name, value) in head.fields() {
            let known = match self.names.get_mut(name) {
                Some(known) => known,
                None => {
                    if self.names.len() >= NAMES {
                        self.names.clear();
                    }
                    self.names.entry(name.into()).or_insert_with(|| Name::new(py, name))
                }
            };
            let Name::Key { key, repeats, last } = known else { continue };
            let key = key.bind(py);
            let size = environ.len();
            environ.set_item(key, last.of(py, value))?;
            if environ.len() == size {
                repeated.push((name, key.clone(), *repeats));
            }
        }
        // Each name once: a client may have thousands of fields with the same.
        repeated.sort_by_cached_key(|(name, ..)| name.to_ascii_lowercase());
        repeated.dedup_by(|(one, ..), (other, ..)| one.eq_ignore_ascii_case(other));
        for (name, key, repeats) in repeated {
            environ.set_item(key, decode(py, &repeats.join(head, name)))?;
        }
        // RFC 9112 section 3.2.2: an absolute target's authority replaces Host.
        if head.target().first() != Some(&b'/')
            && let Some(host) = head.host()
        {
            environ.set_item(intern!(py, "HTTP_HOST"), decode(py, host))?;
        }
        if !environ.contains(intern!(py, "SERVER_NAME"))? {
            set_name_from_host(environ, head.host().unwrap_or_default(), scheme)?;
        }
        Ok(())
    }
}

fn address(peer: Peer) -> Option<IpAddr> {
    match peer {
        Peer::Tcp(address) => Some(address.ip()),
        Peer::Unix => None,
    }
}

/// gunicorn's names for what the PROXY protocol says beside the client.
fn set_proxy(environ: &Bound<'_, PyDict>, proxy: SocketAddr) -> PyResult<()> {
    let py = environ.py();
    let family = if proxy.is_ipv4() { intern!(py, "TCP4") } else { intern!(py, "TCP6") };
    environ.set_item(intern!(py, "PROXY_PROTOCOL"), family)?;
    environ.set_item(intern!(py, "PROXY_ADDR"), proxy.ip().to_string())?;
    environ.set_item(intern!(py, "PROXY_PORT"), proxy.port().to_string())
}

impl Name {
    fn new(py: Python<'_>, name: &[u8]) -> Self {
        let upper = String::from_utf8_lossy(name).to_ascii_uppercase().replace('-', "_");
        let key = match upper.as_str() {
            // X_Real_Ip would be indistinguishable from X-Real-Ip, which a proxy
            // sets and an application trusts.
            _ if name.contains(&b'_') => return Self::Dropped,
            // HTTP_PROXY is read as a setting by HTTP clients in the
            // application ("httpoxy", CVE-2016-5385).
            "PROXY" => return Self::Dropped,
            // The body comes decoded, with its length.
            "TRANSFER_ENCODING" => return Self::Dropped,
            "CONTENT_TYPE" | "CONTENT_LENGTH" => upper,
            _ => format!("HTTP_{upper}"),
        };
        let repeats = if key == "HTTP_COOKIE" { Repeats::Semicolon } else { Repeats::Comma };
        // Not interned: Python 3.12 would keep for ever what a client has made up.
        Self::Key { key: PyString::new(py, &key).unbind(), repeats, last: Last::default() }
    }
}

impl Repeats {
    /// All values of `name`, in whatever spelling, as one.
    fn join(self, head: &Head, name: &[u8]) -> Vec<u8> {
        let separator: &[u8] = match self {
            Self::Comma => b",",
            Self::Semicolon => b"; ",
        };
        head.values(name).collect::<Vec<_>>().join(separator)
    }
}

/// Behind a unix socket only the client can say which host and port it meant.
fn set_name_from_host(
    environ: &Bound<'_, PyDict>,
    host: &[u8],
    scheme: Option<Scheme>,
) -> PyResult<()> {
    let py = environ.py();
    let usual = if scheme == Some(Scheme::Https) { "443" } else { "80" };
    let text = String::from_utf8_lossy(host);
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (text.as_ref(), usual),
    };
    environ
        .set_item(intern!(py, "SERVER_NAME"), if name.is_empty() { "localhost" } else { name })?;
    environ.set_item(intern!(py, "SERVER_PORT"), if port.is_empty() { usual } else { port })
}

fn template<'py>(
    py: Python<'py>,
    origin: &Origin,
    options: &Options,
) -> PyResult<Bound<'py, PyDict>> {
    let environ = PyDict::new(py);
    environ.set_item("wsgi.version", (1, 0))?;
    environ.set_item("wsgi.url_scheme", "http")?;
    environ.set_item("wsgi.errors", py.import("sys")?.getattr("stderr")?)?;
    environ.set_item("wsgi.multithread", options.driver != Driver::Sync)?;
    environ.set_item("wsgi.multiprocess", options.multiprocess)?;
    environ.set_item("wsgi.run_once", false)?;
    environ.set_item("wsgi.input_terminated", true)?;
    environ.set_item("wsgi.file_wrapper", py.get_type::<crate::file::FileWrapper>())?;
    environ.set_item("SERVER_SOFTWARE", &options.software)?;
    environ.set_item("SERVER_PROTOCOL", "HTTP/1.1")?;
    environ.set_item("SCRIPT_NAME", "")?;
    if let Some(name) = &origin.name {
        environ.set_item("SERVER_NAME", name)?;
        environ.set_item("SERVER_PORT", &origin.port)?;
    }
    Ok(environ)
}

/// Makes room for what a request adds, which the copies of `environ` then have
/// too: CPython copies a dictionary with its free places, as long as two thirds
/// of those that were ever taken still are.
fn reserve(environ: &Bound<'_, PyDict>) -> PyResult<()> {
    // What every request sets; so that it has its place already.
    for name in ["REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "RAW_URI", "REMOTE_ADDR"] {
        environ.set_item(name, "")?;
    }
    environ.set_item("wsgi.input", environ.py().None())?;
    let passing: Vec<_> = (environ.len()..=TAKEN).map(|number| number.to_string()).collect();
    for name in &passing {
        environ.set_item(name, "")?;
    }
    passing.iter().try_for_each(|name| environ.del_item(name))
}

/// Percent-decodes a path into `out`; what is no valid escape stays as it is.
fn unquote(path: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let digit = |at: usize| {
        let byte = *path.get(at)?;
        char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
    };
    let mut at = 0;
    while at < path.len() {
        match (path[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high * 16 + low);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_to_bytes_and_broken_ones_kept() {
        let mut out = Vec::new();
        for (path, want) in [
            ("/a%20b%2Fc", b"/a b/c".as_slice()),
            ("/caf%C3%A9", b"/caf\xc3\xa9"),
            ("/100%", b"/100%"),
            ("/%zz%4", b"/%zz%4"),
            ("/%00", b"/\0"),
        ] {
            unquote(path.as_bytes(), &mut out);
            assert_eq!(out, want, "{path}");
        }
    }
}
