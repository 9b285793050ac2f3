//! A connection that the application takes over, for WebSockets under WSGI: the
//! environ of a request that asks for another protocol holds its socket, under
//! the names that libraries look for.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::{Arc, Once};

use pyo3::exceptions::PyConnectionAbortedError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyCFunction, PyDict, PyModule};
use serve_net::{Exchange, Shared};

use crate::built_in;
use crate::drive::{Host, describe};
use crate::farewell::{Farewell, Voice};
use crate::timeout;

/// Said once by each worker.
const REFUSED: &str = "a request for another protocol, as WebSockets are, has no \
    environ['gunicorn.socket']: its connection speaks TLS, and the application cannot. Let a proxy in \
    front end TLS for WebSockets";
static SAID: Once = Once::new();

static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// A connection that the application may take.
pub(crate) struct Detachable<'py>(Bound<'py, PyAny>);

impl<'py> Detachable<'py> {
    /// Puts it into the environ, if the request asks for another protocol. Not a
    /// connection that speaks TLS: its socket alone is of no use.
    pub(crate) fn offer(
        environ: &Bound<'py, PyDict>,
        exchange: &Exchange,
        reactor: &Shared,
        host: &Arc<dyn Host>,
        farewell: &Arc<Farewell>,
    ) -> PyResult<Option<Self>> {
        let py = environ.py();
        let Some(protocol) = environ.get_item(intern!(py, "HTTP_UPGRADE"))? else {
            return Ok(None);
        };
        let id = exchange.id;
        if exchange.seen.secure {
            SAID.call_once(|| log::warn!("{REFUSED}"));
            return Ok(None);
        }
        let protocol = protocol.extract::<String>()?;
        let (reactor, host, farewell) = (reactor.clone(), host.clone(), farewell.clone());
        let take = PyCFunction::new_closure(py, None, None, move |args, _| {
            let py = args.py();
            let mut locked = reactor.lock();
            let (request, detached) = (describe(&locked, id), locked.detach(id));
            drop(locked);
            let Some((fd, early)) = detached else {
                return Err(PyConnectionAbortedError::new_err("the request has its response"));
            };
            host.detached(id, request);
            let voice = Voice::new(&farewell, fd.as_raw_fd(), &protocol);
            Ok((OwnedFd::into_raw_fd(fd), PyBytes::new(py, &early).unbind(), voice))
        })?;
        let module = MODULE.get_or_try_init(py, || module(py))?.bind(py);
        let socket = module.getattr(intern!(py, "Connection"))?.call1((take,))?;
        environ.set_item(intern!(py, "werkzeug.socket"), &socket)?;
        environ.set_item(intern!(py, "gunicorn.socket"), &socket)?;
        Ok(Some(Self(socket)))
    }

    /// Whether the application has taken it.
    pub(crate) fn is_taken(&self) -> bool {
        let name = intern!(self.0.py(), "taken");
        let taken = timeout::twice(self.0.py(), || self.0.getattr(name));
        taken.and_then(|taken| taken.is_truthy()).unwrap_or(false)
    }

    /// The request has ended, and with it the connection if it was taken.
    pub(crate) fn over(&self) -> PyResult<()> {
        let name = intern!(self.0.py(), "over");
        timeout::twice(self.0.py(), || self.0.call_method0(name)).map(drop)
    }
}

/// Its error stays as it is: it may be how the request was ended.
fn module(py: Python<'_>) -> PyResult<Py<PyModule>> {
    built_in::load(py, "_socket").map(Bound::unbind)
}
