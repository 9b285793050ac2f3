//! `start_response` and the `write` it returns (PEP 3333): the application's
//! way to the response head, and the only way to the reactor from inside a call.

use std::sync::Arc;

use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::type_object::PyTypeCheck;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use serve_http::{Kind, Response, Size};
use serve_net::{ExchangeId, Sent, Shared};

use crate::drive::Host;
use crate::latin1::encode;
use crate::owners::owners;

/// How far the response has got.
///
/// INVARIANT: it only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// `start_response` has not been called.
    Waiting,
    /// A head is there, nothing is sent.
    Started,
    /// The head is on the wire; its body may follow.
    Sent,
    /// The exchange is over. An application that kept the callable gets an error.
    Over,
}

/// A request's `start_response` and `write`; those of one after another, as long
/// as no application has kept them.
#[pyclass(module = "serve", name = "Exchange")]
pub(crate) struct StartResponse {
    reactor: Shared,
    host: Arc<dyn Host>,
    id: ExchangeId,
    pub(crate) stage: Stage,
    pub(crate) response: Response,
    /// The method of that name, once it was asked for.
    write: Option<Py<PyAny>>,
}

/// What a flow calls applications with.
pub(crate) struct Start {
    object: Py<StartResponse>,
    /// The method of that name.
    pub(crate) function: Py<PyAny>,
}

impl Start {
    pub(crate) fn new(py: Python<'_>, reactor: Shared, host: Arc<dyn Host>) -> PyResult<Self> {
        let (id, stage, response) = (ExchangeId::default(), Stage::Over, Response::default());
        let object = StartResponse { reactor, host, id, stage, response, write: None };
        let object = Bound::new(py, object)?;
        let function = object.getattr(intern!(py, "start_response"))?.unbind();
        Ok(Self { object: object.unbind(), function })
    }

    /// Opens it for the exchange `id`.
    pub(crate) fn begin<'py>(&self, py: Python<'py>, id: ExchangeId) -> Bound<'py, StartResponse> {
        let object = self.object.bind(py);
        let mut own = object.borrow_mut();
        (own.id, own.stage) = (id, Stage::Waiting);
        own.response.clear();
        drop(own);
        object.clone()
    }

    /// Whether nobody else has a part of it any more: who has kept one must get
    /// errors from it, not the next request.
    pub(crate) fn is_free(&self, py: Python<'_>) -> bool {
        let writes = self.object.bind(py).borrow().write.as_ref().map(|write| owners(py, write));
        let ours = 2 + isize::from(writes.is_some());
        owners(py, &self.function) == 1
            && matches!(writes, None | Some(1))
            && owners(py, &self.object) == ours
    }

    /// Not to be used again. `write` and its object would keep each other.
    pub(crate) fn abandon(self, py: Python<'_>) {
        let write = self.object.bind(py).borrow_mut().write.take();
        drop(write);
    }
}

impl StartResponse {
    /// Ends the exchange for the application.
    pub(crate) fn close(&mut self) {
        self.stage = Stage::Over;
    }

    /// Sends a piece of the body, the head before it if need be, and waits until
    /// there is room for the next: this is where back-pressure reaches the
    /// application. Not borrowed meanwhile, since other flows run then.
    pub(crate) fn send(this: &Bound<'_, Self>, size: Size, data: &[u8]) -> PyResult<Sent> {
        let (host, id) = {
            let mut own = this.borrow_mut();
            match own.put(size, data)? {
                Sent::Full => (own.host.clone(), own.id),
                sent => return Ok(sent),
            }
        };
        host.room(this.py(), id)
    }

    /// An empty piece sends nothing: PEP 3333 holds the head back until there is
    /// a byte.
    fn put(&mut self, size: Size, data: &[u8]) -> PyResult<Sent> {
        let sent = match self.stage {
            Stage::Waiting => {
                return Err(PyAssertionError::new_err(
                    "the application sent data before it called start_response",
                ));
            }
            Stage::Over => {
                return Err(PyRuntimeError::new_err("the request is over; nothing can be sent"));
            }
            Stage::Started | Stage::Sent if data.is_empty() => return Ok(Sent::Taken),
            Stage::Started => {
                self.stage = Stage::Sent;
                self.reactor.lock().begin(self.id, &self.response, size, data)
            }
            Stage::Sent => self.reactor.lock().send(self.id, data),
        };
        sent.map_err(|error| PyValueError::new_err(error.to_string()))
    }
}

#[pymethods]
impl StartResponse {
    #[pyo3(signature = (status, headers, exc_info=None, /))]
    fn start_response(
        slf: &Bound<'_, Self>,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        exc_info: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let status = argument::<PyString>(status, "status", "str")?;
        let headers = argument::<PyList>(headers, "headers", "list")?;
        let exc_info = exc_info
            .map(|exc_info| argument::<PyTuple>(exc_info, "exc_info", "tuple"))
            .transpose()?;
        let mut guard = slf.borrow_mut();
        let this = &mut *guard;
        match (this.stage, exc_info) {
            (Stage::Over, _) => {
                return Err(PyRuntimeError::new_err("the request is over; it has its response"));
            }
            // Too late to replace the head: the application must see its error.
            (Stage::Sent, Some(exc_info)) => return Err(raised(exc_info)?),
            (Stage::Sent | Stage::Started, None) => {
                return Err(PyAssertionError::new_err(
                    "start_response was called twice without exc_info",
                ));
            }
            (Stage::Waiting | Stage::Started, _) => {}
        }
        this.stage = Stage::Waiting;
        fill(&mut this.response, status, headers)?;
        this.stage = Stage::Started;
        let write = match &this.write {
            Some(write) => write.clone_ref(slf.py()),
            None => {
                let write = slf.getattr(intern!(slf.py(), "write"))?.unbind();
                this.write.insert(write).clone_ref(slf.py())
            }
        };
        Ok(write)
    }

    /// The imperative way to send a body (PEP 3333, "The write() Callable").
    #[pyo3(signature = (data, /))]
    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        // A client that has gone is noticed by the application's next step.
        Self::send(slf, Size::Unknown, data.as_bytes()).map(drop)
    }
}

/// What PEP 3333 asks for as an argument. Not left to pyo3, which names the
/// argument in a note that CPython 3.10 does not have.
fn argument<'a, 'py, T: PyTypeCheck>(
    value: &'a Bound<'py, PyAny>,
    name: &str,
    kind: &str,
) -> PyResult<&'a Bound<'py, T>> {
    value.cast().map_err(|_| {
        let given =
            value.get_type().name().map_or_else(|_| "another type".into(), |name| name.to_string());
        PyTypeError::new_err(format!("{name} of start_response must be a {kind}, not {given}"))
    })
}

fn raised(exc_info: &Bound<'_, PyTuple>) -> PyResult<PyErr> {
    let value = exc_info.get_item(1)?;
    if value.is_none() {
        return Err(PyTypeError::new_err("exc_info holds no exception"));
    }
    Ok(PyErr::from_value(value))
}

fn fill(
    response: &mut Response,
    status: &Bound<'_, PyString>,
    headers: &Bound<'_, PyList>,
) -> PyResult<()> {
    let invalid = |error: serve_http::Error| PyValueError::new_err(error.to_string());
    response.start(encode(status)?).map_err(invalid)?;
    for header in headers {
        let (name, value) = pair(&header)?;
        match response.field(encode(name)?, encode(value)?) {
            Err(error) if error.kind() == Kind::HopByHop => warn_once(&error),
            other => other.map_err(invalid)?,
        }
    }
    Ok(())
}

fn pair<'a, 'py>(
    header: &'a Bound<'py, PyAny>,
) -> PyResult<(&'a Bound<'py, PyString>, &'a Bound<'py, PyString>)> {
    let wrong = || {
        PyTypeError::new_err(format!(
            "a header must be a tuple of two str, not {}",
            header.repr().map_or_else(|_| "something else".into(), |text| text.to_string())
        ))
    };
    let tuple = header.cast::<PyTuple>().map_err(|_| wrong())?;
    let [name, value] = tuple.as_slice() else { return Err(wrong()) };
    match (name.cast(), value.cast()) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(wrong()),
    }
}

/// Many applications written for other servers set `Connection`; refusing the
/// response for it would help nobody, but silence would neither.
fn warn_once(error: &serve_http::Error) {
    use std::collections::BTreeSet;
    use std::sync::{Mutex, PoisonError};
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let text = error.to_string();
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.len() < 64 && told.insert(text.clone()) {
        log::warn!("{text}; the header is left out");
    }
}
