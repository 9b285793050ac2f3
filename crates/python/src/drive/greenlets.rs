//! `-k async`, `-k gevent`: gevent's hub watches the reactor's descriptor and
//! turns the loop; each request runs in a greenlet.
//!
//! Three kinds of greenlet meet here. The **hub** runs [`Loop::turn`]. A
//! request's greenlet runs [`Loop::serve`], and comes back to the hub whenever it
//! waits. The **main** greenlet sleeps in [`Loop::attend`] until the master has
//! ordered something.
//!
//! Greenlets share one C stack: what one of them has there is put aside while
//! another one runs. So it should be little: what is called below the application is
//! inlined, and what comes before and after it is not. Nothing that a second thread
//! may look at is kept on the stack, and no lock is held across a switch.

mod context;
mod flights;
mod lookout;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use serve_net::{Board, Exchange, Reactor, Shared};

use self::context::Context;
use self::flights::Flights;
use self::lookout::Lookout;
use super::orders::Orders;
use super::{ANSWERS, PIECES, Worker, handle_signals};
use crate::app::{Refusal, built_in};
use crate::errors::trace;
use crate::owners::owners;
use crate::respond::{Bridge, Kit};
use crate::timeout;
use crate::{fork, logging};

/// Exit code: the configuration cannot be had.
const CONFIGURATION: i32 = 2;

/// How long a turn may go on beginning requests. Then it is the turn of those that
/// have begun, and of whatever else the application has in the hub.
const SHARE: Duration = Duration::from_millis(10);

/// How soon the next turn comes then. Not at once: gevent runs a thousand callbacks
/// that follow each other before it looks at anything else.
const BREATH: Duration = Duration::from_micros(100);

/// Whether gevent is there to be used.
///
/// # Errors
/// When the interpreter lacks a module of its own.
pub fn has_gevent(py: Python<'_>) -> Result<bool, Refusal> {
    let module = built_in(py, "_gevent")?;
    let found = module.call_method0("is_installed").and_then(|found| found.is_truthy());
    found.map_err(|error| broken(&error))
}

/// Makes the standard library wait in greenlets. To be called before anything of
/// the application is imported.
///
/// # Errors
/// A sentence, when gevent cannot be imported.
pub fn patch(py: Python<'_>) -> Result<(), Refusal> {
    call(py, "patch")
}

/// To be called in a worker that was forked from a process that [`patch`] was
/// called in.
///
/// # Errors
/// A sentence, when gevent's loop cannot go on in this process.
pub fn forked(py: Python<'_>) -> Result<(), Refusal> {
    call(py, "forked")
}

fn call(py: Python<'_>, function: &str) -> Result<(), Refusal> {
    let called = built_in(py, "_gevent")?.call_method0(function);
    called.map(drop).map_err(|error| broken(&error))
}

fn broken(error: &PyErr) -> Refusal {
    let message = format!("gevent cannot be used: {error}");
    Refusal { code: CONFIGURATION, message, traceback: None }
}

/// Why there are no more turns. gevent ends a process by raising in its main greenlet what
/// asks for that in another one.
fn gave_up(py: Python<'_>, error: &PyErr) -> String {
    let asked =
        error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py);
    if !asked {
        return format!("gevent's hub gave up: {error}");
    }
    let name = error.get_type(py);
    let name = name.name().map_or_else(|_| "an exit".to_owned(), |name| name.to_string());
    format!(
        "a greenlet that the application has started raised {name}, and gevent ends the process \
         for that\n{}",
        trace(py, error)
    )
}

/// Whether all greenlets wait for what cannot come.
fn is_loop_exit(py: Python<'_>, error: &PyErr) -> bool {
    error.get_type(py).name().is_ok_and(|name| name == "LoopExit")
}

/// Serves until told to stop.
///
/// # Errors
/// A sentence, when the loop cannot go on.
pub(super) fn run(py: Python<'_>, mut reactor: Reactor, worker: Worker<'_>) -> Result<(), String> {
    reactor.defer(PIECES, ANSWERS);
    let late =
        reactor.defer_by_thread().map_err(|error| format!("cannot have a timer: {error}"))?;
    let reactor = Shared::new(reactor);
    let (options, board) = (worker.options, worker.board.clone());
    let flights = Flights::new(py, reactor.clone(), board.clone(), options);
    let flights = Arc::new(flights.map_err(|error| error.to_string())?);
    let (bridge, orders) = worker.prepare(py, &reactor, flights.clone())?;
    let interrupted = flights.clone();
    let hooks = options.hooks.clone();
    let alarm = timeout::alarm(py, move |py| interrupted.interrupt(py), hooks)?;
    let lookout = Lookout::start(alarm, flights.clone(), reactor.clone(), late, options)?;
    let looper = Loop {
        bridge,
        reactor: reactor.clone(),
        flights,
        board,
        lookout,
        context: Context::current(py).map_err(|error| error.to_string())?,
        tired_after: options.tired_after,
        hub: OnceLock::new(),
        state: Mutex::new(State::default()),
    };
    let looper = Py::new(py, looper).map_err(|error| error.to_string())?;
    let result = looper.get().attend(py, &looper, &orders);
    looper.get().close(py);
    result
}

/// What a turn keeps for the next one, or for a greenlet that it switches to.
#[derive(Default)]
struct State {
    /// What the next call of [`Loop::serve`] is for.
    next: Option<Exchange>,
    /// Until when a greenlet may take more by itself; `None` while the hub begins no
    /// requests: only at the end of a turn is everything looked at.
    until: Option<Instant>,
    kits: Vec<Kit>,
    /// When the timer is due.
    armed: Option<Instant>,
    /// Whether the last turn has left requests that are complete.
    cut: bool,
    /// Whether the hub is inside a turn, at whose end everything is looked at.
    turning: bool,
    /// What the main greenlet is woken for.
    ordered: bool,
    tired: bool,
    failure: Option<String>,
    /// Nothing more is to come.
    closed: bool,
}

/// What gevent calls, and what is called of it.
#[pyclass(frozen, module = "serve")]
struct Loop {
    bridge: Bridge,
    reactor: Shared,
    flights: Arc<Flights>,
    board: Arc<dyn Board>,
    lookout: Lookout,
    context: Context,
    tired_after: Option<u64>,
    hub: OnceLock<Hub>,
    state: Mutex<State>,
}

/// `serve._gevent.Hub`, and of its methods the one that is called most.
struct Hub {
    object: Py<PyAny>,
    begin: Py<PyAny>,
}

#[pymethods]
impl Loop {
    /// In the hub: does what there is to do without waiting.
    fn turn(&self, py: Python<'_>) -> PyResult<()> {
        // Such a process has copies of all greenlets, and they serve nobody.
        if fork::is_forked() {
            return self.hub().object.call_method0(py, intern!(py, "close")).map(drop);
        }
        self.lookout.beat();
        self.board.awake();
        self.state().turning = true;
        let turned = self.work(py);
        self.state().turning = false;
        turned?;
        self.arm(py)
    }

    /// In the hub, when the timer is due: it may be a little early.
    fn due(&self, py: Python<'_>) -> PyResult<()> {
        self.state().armed = None;
        self.turn(py)
    }

    /// In a request's greenlet: runs that request to its end; then those that are
    /// complete, as long as it needs no hub for that.
    fn serve(&self, py: Python<'_>, greenlet: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut kit = self.state().kits.pop().unwrap_or_default();
        let known = owners(py, greenlet.as_unbound());
        let mut served = Ok(());
        let mut given = self.state().next.take();
        while let Some(exchange) = &mut given {
            served = self.run(py, &mut kit, exchange, greenlet);
            // Whoever knows the greenlet may throw something into it.
            if served.is_err() || owners(py, greenlet.as_unbound()) != known {
                break;
            }
            given = self.next();
        }
        let turning = {
            let mut state = self.state();
            state.kits.push(kit);
            state.turning
        };
        if !turning {
            // A thousand that were woken together end before the next turn, and none of
            // them keeps the hub.
            self.board.awake();
            self.arm(py)?;
        }
        served
    }
}

impl Loop {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hub(&self) -> &Hub {
        self.hub.get().expect("it is made before the first turn, and a turn begins all else")
    }

    /// The main greenlet: lets the hub run, and does what is ordered.
    fn attend(&self, py: Python<'_>, this: &Py<Self>, orders: &Orders<'_>) -> Result<(), String> {
        let said = |error: PyErr| gave_up(py, &error);
        let hub = Hub::new(py, this, self.reactor.lock().fd());
        let hub = hub.map_err(|error| format!("gevent's hub cannot start: {error}"))?;
        let hub = self.hub.get_or_init(|| hub).object.bind(py);
        orders.control().ready();
        self.arm(py).map_err(said)?;
        loop {
            let waited = hub.call_method0(intern!(py, "wait"));
            if fork::is_forked() {
                // Its greenlets have come back and wait, or one of them raised an exit.
                fork::end(py, waited.err().filter(|error| !is_loop_exit(py, error)));
            }
            waited.map_err(said)?;
            if std::mem::take(&mut self.state().ordered) {
                orders.obey(&self.reactor);
                logging::reopen_if_asked(py);
            }
            if std::mem::take(&mut self.state().tired) {
                orders.control().tired();
            }
            if let Some(failure) = self.state().failure.take() {
                return Err(failure);
            }
            if orders.is_quit() || self.reactor.lock().is_drained() {
                return Ok(());
            }
        }
    }

    fn work(&self, py: Python<'_>) -> PyResult<()> {
        if let Err(error) = self.reactor.wait(Some(Duration::ZERO)) {
            self.state().failure = Some(format!("epoll_wait: {error}"));
        }
        handle_signals(py);
        self.begin_all(py);
        self.flights.end_gone(py);
        self.flights.end_late(py);
        self.flights.resume(py);
        let wanted = {
            let (mut state, mut reactor) = (self.state(), self.reactor.lock());
            state.ordered |= reactor.take_watched();
            state.ordered || state.tired || state.failure.is_some() || reactor.is_drained()
        };
        if wanted {
            self.hub().object.call_method0(py, intern!(py, "attend"))?;
        }
        Ok(())
    }

    /// Begins the requests that are complete.
    fn begin_all(&self, py: Python<'_>) {
        let until = Instant::now() + SHARE;
        self.state().until = Some(until);
        // Bound apart: a lock taken in the `while let` would be held over the switch.
        let next = || self.reactor.lock().next();
        while let Some(exchange) = next() {
            self.begin(py, exchange);
            if Instant::now() >= until {
                self.state().cut = true;
                break;
            }
        }
        self.state().until = None;
    }

    /// Runs a request in a greenlet until it waits.
    fn begin(&self, py: Python<'_>, exchange: Exchange) {
        let id = exchange.id;
        self.state().next = Some(exchange);
        let begun = self.hub().begin.call0(py);
        if let Err(error) = &begun {
            log::error!("cannot run a request in a greenlet: {error}");
        }
        // Nobody has taken it.
        if self.state().next.take().is_some() {
            self.reactor.lock().fail(id, 500, "the server failed; its log says why");
        }
    }

    /// What a greenlet that is through with a request can do next in the hub's place.
    #[inline(never)]
    fn next(&self) -> Option<Exchange> {
        let until = self.state().until?;
        let mut reactor = self.reactor.lock();
        if reactor.now() < until { reactor.next() } else { None }
    }

    fn run(
        &self,
        py: Python<'_>,
        kit: &mut Kit,
        exchange: &mut Exchange,
        greenlet: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let number = self.flights.begin(exchange, greenlet);
        if self.tired_after == Some(number) {
            self.state().tired = true;
        }
        let ran = self.context.run(py, || self.bridge.run(py, kit, exchange));
        while fork::is_forked() {
            // The request is the worker's, which it has not left.
            self.hub().object.call_method0(py, intern!(py, "wait"))?;
        }
        self.lookout.beat();
        self.flights.end(number);
        ran
    }

    /// Sees to it that the next turn does not come too late.
    #[inline(never)]
    fn arm(&self, py: Python<'_>) -> PyResult<()> {
        let due = self.reactor.lock().deadline();
        let Some(due) = [due, self.flights.deadline()].into_iter().flatten().min() else {
            return Ok(());
        };
        let now = Instant::now();
        let mut state = self.state();
        let armed = state.armed.filter(|at| *at > now);
        if state.closed || armed.is_some_and(|at| at <= due) {
            return Ok(());
        }
        let due = if std::mem::take(&mut state.cut) { due.max(now + BREATH) } else { due };
        state.armed = Some(due);
        drop(state);
        let seconds = due.saturating_duration_since(now).as_secs_f64();
        self.hub().object.call_method1(py, intern!(py, "arm"), (seconds,)).map(drop)
    }

    fn close(&self, py: Python<'_>) {
        self.state().closed = true;
        let mut reactor = self.reactor.lock();
        // The access log has not heard of those that ended since the last turn.
        reactor.settle();
        // Nobody waits for the exit handlers.
        reactor.forsake();
        drop(reactor);
        py.detach(|| self.lookout.dismiss());
        if let Some(hub) = self.hub.get()
            && let Err(error) = hub.object.call_method0(py, intern!(py, "close"))
        {
            log::error!("gevent's hub cannot be left: {error}");
        }
    }
}

impl Hub {
    fn new(py: Python<'_>, looper: &Py<Loop>, fd: i32) -> PyResult<Self> {
        let module = built_in(py, "_gevent")
            .map_err(|refusal| pyo3::exceptions::PyRuntimeError::new_err(refusal.message))?;
        let looper = looper.bind(py);
        let object = module.getattr("Hub")?.call1((fd, looper))?;
        Ok(Self { begin: object.getattr("begin")?.unbind(), object: object.unbind() })
    }
}
