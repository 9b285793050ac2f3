//! One request from the reactor to the application and back (PEP 3333): the
//! call, the iterable, `close()` once, and what to do when it raises.
//!
//! A greenlet's stack is copied whenever it waits, and kept meanwhile: so what is
//! on it while the application runs is little, and the rest is not inlined.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyAssertionError, PyConnectionError, PyStopIteration, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use serve_http::Size;
use serve_net::{Body, Exchange, ExchangeId, Peer, Sent, Shared};

use crate::app::App;
use crate::detach::Detachable;
use crate::drive::{Host, Options};
use crate::environ::Environs;
use crate::errors::trace;
use crate::farewell::Farewell;
use crate::file::FileWrapper;
use crate::hooks::Hooks;
use crate::input::Input;
use crate::noted::Noted;
use crate::owners::owners;
use crate::request::{Stage, Start, StartResponse};
use crate::seen;
use crate::timeout;

/// The application with everything needed to call it, for all flows of control
/// (threads, greenlets) of a worker.
pub(crate) struct Bridge {
    app: App,
    reactor: Shared,
    host: Arc<dyn Host>,
    farewell: Arc<Farewell>,
    options: Options,
    /// What every environ has beyond PEP 3333 and CGI.
    more: Py<PyDict>,
    /// Those nobody is using. Making an environ may run code of Python's, and so
    /// another flow: a lock held meanwhile could wait for itself.
    #[expect(clippy::vec_box, reason = "each request moves one out and in")]
    environs: Mutex<Vec<Box<Environs>>>,
    noted: Noted,
}

/// What one flow keeps from a call to its next one, unless the application has
/// kept it as well.
#[derive(Default)]
pub(crate) struct Kit {
    start: Option<Start>,
    input: Option<Py<Input>>,
}

impl Kit {
    fn start(&mut self, py: Python<'_>, bridge: &Bridge) -> PyResult<&Start> {
        if let Some(kept) = self.start.take_if(|start| !start.is_free(py)) {
            kept.abandon(py);
        }
        match &mut self.start {
            Some(start) => Ok(start),
            none => Ok(none.insert(Start::new(py, bridge.reactor.clone(), bridge.host.clone())?)),
        }
    }

    fn input<'py>(&mut self, py: Python<'py>, body: Body) -> PyResult<Bound<'py, Input>> {
        match self.input.as_ref().filter(|input| owners(py, input) == 1) {
            Some(input) => {
                let input = input.bind(py).clone();
                input.borrow_mut().renew(body);
                Ok(input)
            }
            None => {
                let input = Bound::new(py, Input::new(body))?;
                self.input = Some(input.clone().unbind());
                Ok(input)
            }
        }
    }

    /// The request is over; its body may be large.
    fn rest(&mut self, py: Python<'_>) {
        match self.input.take_if(|input| owners(py, input) != 1) {
            // The application's, from now on.
            Some(kept) => drop(kept),
            None => {
                if let Some(input) = &self.input {
                    input.bind(py).borrow_mut().renew(Body::default());
                }
            }
        }
    }
}

/// Why a request has no proper response.
enum Failure {
    /// The application raised, or broke PEP 3333; the exchange is still open.
    Raised(PyErr),
    /// The response was invalid; the reactor has dealt with the client already.
    Invalid(serve_http::Error),
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

/// A request while the application has it.
struct Call<'a, 'py> {
    py: Python<'py>,
    id: ExchangeId,
    reactor: &'a Shared,
    host: &'a dyn Host,
    environ: Bound<'py, PyDict>,
    start: Bound<'py, StartResponse>,
    /// Its `start_response`.
    function: Bound<'py, PyAny>,
    peer: Peer,
    detachable: Option<Detachable<'py>>,
    noted: &'a Noted,
}

impl Bridge {
    pub(crate) fn new(
        py: Python<'_>,
        app: App,
        reactor: Shared,
        options: &Options,
        host: Arc<dyn Host>,
        farewell: Arc<Farewell>,
    ) -> PyResult<Self> {
        let more = timeout::environ(py, host.clone())?;
        let environs = Mutex::new(vec![Box::new(Environs::new(py, options, &more)?)]);
        let (options, more) = (options.clone(), more.unbind());
        let noted = Noted::new(py, &reactor);
        Ok(Self { app, reactor, host, farewell, options, more, environs, noted })
    }

    #[expect(clippy::vec_box, reason = "as above")]
    fn environs(&self) -> MutexGuard<'_, Vec<Box<Environs>>> {
        self.environs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` when the client has gone: nobody wants the answer.
    fn environ<'py>(
        &self,
        input: &Bound<'py, Input>,
        exchange: &Exchange,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let py = input.py();
        let spare = self.environs().pop();
        let mut environs = match spare {
            Some(spare) => spare,
            None => Box::new(Environs::new(py, &self.options, self.more.bind(py))?),
        };
        // Not under the reactor's lock, for the same reason.
        let head = self.reactor.lock().take_head(exchange.id);
        let made = head.map(|head| {
            let made = environs.make(py, &head, exchange, input);
            self.reactor.lock().restore_head(exchange.id, head);
            made
        });
        self.environs().push(environs);
        let made = made.transpose()?;
        if exchange.seen.secure
            && let Some(environ) = &made
        {
            // Bound apart: the lock would be held over Python's work.
            let certificate = self.reactor.lock().certificate(exchange.id);
            if let Some(certificate) = certificate {
                seen::vouch(environ, &certificate)?;
            }
        }
        Ok(made)
    }

    /// All that the application is called with; `None` when its client has gone.
    #[inline(never)]
    fn prepare<'a, 'py>(
        &'a self,
        py: Python<'py>,
        kit: &mut Kit,
        exchange: &mut Exchange,
    ) -> PyResult<Option<Call<'a, 'py>>> {
        let (id, peer) = (exchange.id, exchange.peer);
        let input = kit.input(py, std::mem::take(&mut exchange.body))?;
        let Some(environ) = self.environ(&input, exchange)? else { return Ok(None) };
        let (reactor, host, farewell) = (&self.reactor, &self.host, &self.farewell);
        let detachable = Detachable::offer(&environ, exchange, reactor, host, farewell)?;
        let start = kit.start(py, self)?;
        let function = start.function.bind(py).clone();
        let start = start.begin(py, id);
        let (host, noted) = (&**host, &self.noted);
        Ok(Some(Call { py, id, reactor, host, environ, start, function, peer, detachable, noted }))
    }

    /// Runs the application on `exchange` to the end of its response.
    pub(crate) fn run(&self, py: Python<'_>, kit: &mut Kit, exchange: &mut Exchange) {
        match self.prepare(py, kit, exchange) {
            Ok(Some(call)) => self.call(&call),
            Ok(None) => self.reactor.lock().fail(exchange.id, 500, ""),
            Err(error) => self.refuse(py, exchange, &error),
        }
        kit.rest(py);
    }

    /// The application cannot be called, or need not be any more.
    #[cold]
    #[inline(never)]
    fn refuse(&self, py: Python<'_>, exchange: &Exchange, error: &PyErr) {
        if self.host.has_ended(py, exchange.id, error) {
            return self.reactor.lock().fail(exchange.id, 504, "");
        }
        log::error!("client={}: cannot call the application: {error}", exchange.peer);
        let mut reactor = self.reactor.lock();
        reactor.fail(exchange.id, 500, "the server failed; its log says why");
    }

    fn call(&self, call: &Call<'_, '_>) {
        let app = self.app.0.bind(call.py);
        match self.options.hooks.as_deref() {
            None => {
                call.run(app);
                call.end();
                call.start.borrow_mut().close();
            }
            Some(hooks) => call.run_with(hooks, app),
        }
    }
}

impl<'py> Call<'_, 'py> {
    fn run(&self, app: &Bound<'py, PyAny>) {
        let called = app.call1((&self.environ, &self.function));
        self.answer(called);
    }

    /// With the hooks around it.
    #[inline(never)]
    fn run_with(&self, hooks: &Hooks, app: &Bound<'py, PyAny>) {
        match hooks.before(&self.environ) {
            Ok(request) => {
                self.run(app);
                self.end();
                self.start.borrow_mut().close();
                if let Some(request) = request {
                    // Copied: whoever has kept `write` may call it while the hook waits.
                    let head = PyBytes::new(self.py, self.start.borrow().response.head());
                    hooks.after(&request, &self.environ, &head);
                }
            }
            Err(error) => {
                self.failed(Failure::Raised(error));
                self.start.borrow_mut().close();
            }
        }
    }

    #[inline(never)]
    fn answer(&self, called: PyResult<Bound<'py, PyAny>>) {
        self.noted.tell(self.reactor, self.id, &self.environ);
        let body = match called {
            Ok(body) => body,
            Err(error) => return self.failed(Failure::Raised(error)),
        };
        if let Err(failure) = self.send(&body).and_then(|()| self.finish()) {
            self.failed(failure);
        }
        if let Err(error) = close(&body)
            && !self.is_own(&error)
        {
            log::error!("{self}: close() of the response raised\n{}", trace(self.py, &error));
        }
    }

    /// The body's pieces, except that a single one is left to [`Call::finish`].
    fn send(&self, body: &Bound<'py, PyAny>) -> Result<(), Failure> {
        if let Some(only) = single(body)
            && self.start.borrow().stage == Stage::Started
        {
            return self.respond(bytes(&only)?.as_bytes());
        }
        if let Some(pieces) = listed(body) {
            return self.send_list(&pieces?);
        }
        if let Ok(wrapper) = body.cast_exact::<FileWrapper>()
            && self.start.borrow().stage == Stage::Started
            && let Some((file, offset, left)) = wrapper.borrow().regular(self.py)
        {
            return self.send_file(file, offset, left);
        }
        for piece in body.try_iter().map_err(|error| unfit(body, error))? {
            let piece = bytes(&piece?).map_err(|error| unfit(body, error))?;
            if self.send_piece(Size::Unknown, piece.as_bytes())? == Sent::Gone {
                break;
            }
        }
        Ok(())
    }

    /// The length of a list's body is known, so it needs no chunks (PEP 3333,
    /// "Handling the Content-Length Header").
    fn send_list(&self, pieces: &[Bound<'py, PyBytes>]) -> Result<(), Failure> {
        let total = pieces.iter().map(|piece| piece.as_bytes().len() as u64).sum();
        for piece in pieces {
            if self.send_piece(Size::Known(total), piece.as_bytes())? == Sent::Gone {
                break;
            }
        }
        Ok(())
    }

    fn send_piece(&self, size: Size, data: &[u8]) -> PyResult<Sent> {
        StartResponse::send(&self.start, size, data)
    }

    fn send_file(&self, file: std::fs::File, offset: u64, left: u64) -> Result<(), Failure> {
        let mut start = self.start.borrow_mut();
        let length = start.response.content_length().map_or(left, |length| length.min(left));
        let mut reactor = self.reactor.lock();
        let begun = reactor.begin(self.id, &start.response, Size::Known(length), b"");
        start.stage = Stage::Sent;
        begun
            .and_then(|_| reactor.send_file(self.id, file, offset, length))
            .map_err(|error| self.invalid(&mut reactor, error))
    }

    fn respond(&self, body: &[u8]) -> Result<(), Failure> {
        let mut start = self.start.borrow_mut();
        start.stage = Stage::Over;
        let ended = self.reactor.lock().respond(self.id, &start.response, body);
        ended.map_err(Failure::Invalid)
    }

    /// Ends a response whose pieces are sent; one that has none is sent here.
    fn finish(&self) -> Result<(), Failure> {
        let stage = self.start.borrow().stage;
        match stage {
            // It has answered by itself.
            Stage::Waiting if self.is_taken() => {
                self.reactor.lock().fail(self.id, 500, "");
                Ok(())
            }
            Stage::Waiting => Err(Failure::Raised(PyAssertionError::new_err(
                "the application returned without calling start_response",
            ))),
            Stage::Started => self.respond(b""),
            Stage::Sent => {
                self.start.borrow_mut().stage = Stage::Over;
                self.reactor.lock().finish(self.id).map_err(Failure::Invalid)
            }
            Stage::Over => Ok(()),
        }
    }

    fn invalid(&self, reactor: &mut serve_net::Reactor, error: serve_http::Error) -> Failure {
        reactor.fail(self.id, 500, "the application sent an invalid response");
        Failure::Invalid(error)
    }

    /// Into the log, and 500 to the client; after the head, a cut.
    #[cold]
    #[inline(never)]
    fn failed(&self, failure: Failure) {
        let mut start = self.start.borrow_mut();
        if matches!(start.stage, Stage::Waiting | Stage::Started) {
            // The client gets none of it, which a hook may want to know.
            start.response.clear();
        }
        start.stage = Stage::Over;
        drop(start);
        match failure {
            Failure::Invalid(error) => log::error!("{self}: {error}"),
            // How an application that has taken the connection ends under gunicorn,
            // and under Werkzeug's server.
            Failure::Raised(error)
                if (error.is_instance_of::<PyStopIteration>(self.py)
                    || error.is_instance_of::<PyConnectionError>(self.py))
                    && self.is_taken() =>
            {
                self.reactor.lock().fail(self.id, 500, "");
            }
            // Logged when it was raised, and its client is answered.
            Failure::Raised(error) if self.is_own(&error) => {
                self.reactor.lock().fail(self.id, 504, "");
            }
            Failure::Raised(error) => {
                let (id, account) = (self.name(), trace(self.py, &error));
                log::error!("{self}: the application raised{id}\n{account}");
                let mut reactor = self.reactor.lock();
                reactor.fail(self.id, 500, "the application failed; the server's log says why");
            }
        }
    }

    fn is_taken(&self) -> bool {
        self.detachable.as_ref().is_some_and(Detachable::is_taken)
    }

    /// Nothing more is sent, also where the application has the connection.
    fn end(&self) {
        if let Some(taken) = &self.detachable {
            self.end_taken(taken);
        }
    }

    #[inline(never)]
    fn end_taken(&self, taken: &Detachable<'py>) {
        if let Err(error) = taken.over() {
            log::error!("{self}: the connection that was taken: {error}");
        }
    }

    /// ` id=…`, by which other logs know the request; if it has a name.
    fn name(&self) -> String {
        match self.environ.get_item("HTTP_X_REQUEST_ID") {
            Ok(Some(id)) => format!(" id={}", id.to_string().escape_debug()),
            _ => String::new(),
        }
    }

    /// Whether `error` is our own way to end this request.
    fn is_own(&self, error: &PyErr) -> bool {
        self.host.has_ended(self.py, self.id, error)
    }
}

/// `request="GET /path" client=1.2.3.4:5`, for a log line.
impl fmt::Display for Call<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |key: &str| match self.environ.get_item(key) {
            Ok(Some(value)) => value.to_string().escape_debug().to_string(),
            _ => "?".to_owned(),
        };
        let (method, path) = (text("REQUEST_METHOD"), text("PATH_INFO"));
        write!(f, "request=\"{method} {path}\" client={}", self.peer)
    }
}

/// What most applications return: a list of one piece.
fn single<'py>(body: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let list = body.cast_exact::<PyList>().ok().filter(|list| list.len() == 1)?;
    list.get_item(0).ok()
}

/// The pieces of a list or tuple; `None` for any other iterable.
fn listed<'py>(body: &Bound<'py, PyAny>) -> Option<PyResult<Vec<Bound<'py, PyBytes>>>> {
    if let Ok(list) = body.cast_exact::<PyList>() {
        return Some(list.iter().map(|piece| bytes(&piece)).collect());
    }
    let tuple = body.cast_exact::<PyTuple>().ok()?;
    Some(tuple.iter().map(|piece| bytes(&piece)).collect())
}

fn bytes<'py>(piece: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    piece.cast::<PyBytes>().cloned().map_err(|_| {
        let kind = piece.get_type();
        PyTypeError::new_err(format!("the response body must be bytes, not {kind}"))
    })
}

/// Why `body` cannot be sent. Python's words for two usual slips do not lead to
/// them: it finds None not iterable, and numbers in an object of bytes.
#[cold]
#[inline(never)]
fn unfit(body: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    if body.is_none() {
        PyTypeError::new_err("the application returned None: is a 'return' missing?")
    } else if body.is_instance_of::<PyBytes>() {
        PyTypeError::new_err(
            "the application returned bytes; it must return an iterable of bytes, \
             such as [b'...']",
        )
    } else {
        error
    }
}

/// PEP 3333: `close()` is called whatever happened, once.
fn close(body: &Bound<'_, PyAny>) -> PyResult<()> {
    if body.is_exact_instance_of::<PyList>() || body.is_exact_instance_of::<PyTuple>() {
        return Ok(());
    }
    match body.getattr_opt(intern!(body.py(), "close"))? {
        Some(close) => close.call0().map(drop),
        None => Ok(()),
    }
}
