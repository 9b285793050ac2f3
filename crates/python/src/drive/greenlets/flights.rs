//! The requests in flight: which greenlet has which, and whose time is over.
//!
//! Rules: no other lock is taken, and no Python is run, while the one in here is
//! held. A greenlet is told once that its request has ended, and only while it
//! still has that request.

mod host;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;
use serve_net::{Board, Exchange, ExchangeId, Peer, Sent, Shared};

use crate::app::built_in;
use crate::drive::{Options, describe};
use crate::hooks::{Hooks, Moment};
use crate::timeout;

const MESSAGE: &str = "the application did not answer in time";

/// A request that the application has.
struct Flight {
    exchange: ExchangeId,
    peer: Peer,
    greenlet: Py<PyAny>,
    since: Instant,
    deadline: Option<Instant>,
    /// Whether the application has chosen the deadline.
    extended: bool,
    fate: Fate,
    /// Since when greenlets of it wait for the client to read, and how many.
    paused: Option<(Instant, usize)>,
    /// Its method and path, if its connection was taken over: the reactor has
    /// forgotten them.
    request: Option<String>,
}

/// What the log calls a request by.
struct Whose {
    exchange: ExchangeId,
    peer: Peer,
    since: Instant,
    request: Option<String>,
}

impl Flight {
    fn whose(&self) -> Whose {
        let Self { exchange, peer, since, .. } = *self;
        Whose { exchange, peer, since, request: self.request.clone() }
    }
}

/// Whether a request may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Runs,
    /// Its time is over, and its client answered; the application has not been
    /// told.
    Late,
    /// `RequestTimeout` was raised.
    Told,
    /// Its client has gone.
    Gone,
}

#[derive(Default)]
struct State {
    /// How many requests have begun.
    number: u64,
    /// By their number: the oldest comes first.
    flights: BTreeMap<u64, Flight>,
    /// Deadlines of those that run and do not wait for their client.
    deadlines: BTreeSet<(Instant, u64)>,
    /// Those that are late.
    late: Vec<u64>,
    /// Greenlets that wait for a client to read. Not only those of `flights`: one that
    /// the application has started may be left behind by its request.
    waiting: Vec<(ExchangeId, Py<PyAny>)>,
}

/// What the main thread was doing when it heard the alarm, for the log.
pub(super) enum Found {
    Running(String),
    Ended(String),
}

/// See the module's description.
pub(super) struct Flights {
    state: Mutex<State>,
    reactor: Shared,
    board: Arc<dyn Board>,
    gevent: Gevent,
    worker: String,
    /// What the worker's watcher from outside waits anyway.
    timeout: Duration,
    request_timeout: Option<Duration>,
    hooks: Option<Arc<Hooks>>,
    /// The hub has been kept for longer than that.
    stuck: AtomicBool,
    /// The request that was found running when the lookout asked.
    found: Mutex<Option<Found>>,
}

/// What is called of gevent.
struct Gevent {
    current: Py<PyAny>,
    hub: Py<PyAny>,
    exit: Py<PyType>,
    stack: Py<PyAny>,
}

impl Gevent {
    fn new(py: Python<'_>) -> PyResult<Self> {
        let gevent = py.import("gevent")?;
        let own =
            built_in(py, "_gevent").map_err(|refusal| PyRuntimeError::new_err(refusal.message))?;
        Ok(Self {
            current: gevent.getattr("getcurrent")?.unbind(),
            hub: gevent.call_method0("get_hub")?.unbind(),
            exit: gevent.getattr("GreenletExit")?.cast_into()?.unbind(),
            stack: own.getattr("stack")?.unbind(),
        })
    }
}

impl Flights {
    pub(super) fn new(
        py: Python<'_>,
        reactor: Shared,
        board: Arc<dyn Board>,
        options: &Options,
    ) -> PyResult<Self> {
        let set = |limit: Option<Duration>| limit.filter(|limit| !limit.is_zero());
        Ok(Self {
            state: Mutex::default(),
            reactor,
            board,
            gevent: Gevent::new(py)?,
            worker: options.worker.clone(),
            timeout: set(options.timeout).unwrap_or(Duration::MAX),
            request_timeout: set(options.request_timeout),
            hooks: options.hooks.clone(),
            stuck: AtomicBool::new(false),
            found: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- the request's greenlet

    /// The application gets a request, the returned number of this worker.
    #[inline(never)]
    pub(super) fn begin(&self, exchange: &Exchange, greenlet: &Bound<'_, PyAny>) -> u64 {
        let reactor = self.reactor.lock();
        match reactor.head(exchange.id) {
            Some(head) => self.board.begin(head.method(), head.path()),
            None => self.board.begin(b"", b""),
        }
        drop(reactor);
        // Not the reactor's: the application may have been busy since its last call.
        let since = Instant::now();
        let deadline = self.request_timeout.and_then(|limit| since.checked_add(limit));
        let flight = Flight {
            exchange: exchange.id,
            peer: exchange.peer,
            greenlet: greenlet.clone().unbind(),
            since,
            deadline,
            extended: false,
            fate: Fate::Runs,
            paused: None,
            request: None,
        };
        let mut state = self.state();
        state.number += 1;
        let number = state.number;
        state.deadlines.extend(deadline.map(|at| (at, number)));
        state.flights.insert(number, flight);
        number
    }

    /// The application has finished it.
    #[inline(never)]
    pub(super) fn end(&self, number: u64) {
        let mut state = self.state();
        let was_oldest = state.flights.first_key_value().is_some_and(|(first, _)| *first == number);
        let ended = state.flights.remove(&number);
        if let Some(Flight { deadline: Some(at), .. }) = &ended {
            state.deadlines.remove(&(*at, number));
        }
        let oldest = state.flights.first_key_value().filter(|_| was_oldest);
        let oldest = oldest.map(|(_, flight)| flight.whose());
        drop(state);
        // Not under the lock: it may run Python.
        drop(ended);
        self.board.end();
        if let Some(Whose { exchange, since, request, .. }) = oldest {
            match self.reactor.lock().head(exchange) {
                Some(head) => self.board.longest(since.elapsed(), head.method(), head.path()),
                None => {
                    let request = request.unwrap_or_default();
                    let (method, path) = request.split_once(' ').unwrap_or_default();
                    self.board.longest(since.elapsed(), method.as_bytes(), path.as_bytes());
                }
            }
        }
    }

    // ---- the hub

    /// When the next request is over its time.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.state().deadlines.first().map(|(at, _)| *at)
    }

    /// Ends requests whose clients have gone.
    pub(super) fn end_gone(&self, py: Python<'_>) {
        let gone: HashSet<_> = self.reactor.lock().take_gone().into_iter().collect();
        if gone.is_empty() {
            return;
        }
        let mut lost = Vec::new();
        let mut state = self.state();
        let State { flights, deadlines, .. } = &mut *state;
        for (number, flight) in flights {
            if flight.fate == Fate::Runs && gone.contains(&flight.exchange) {
                flight.fate = Fate::Gone;
                lost.push(*number);
                // However long it takes to let go: nobody is told of it a second time.
                if let Some(at) = flight.deadline {
                    deadlines.remove(&(at, *number));
                }
            }
        }
        drop(state);
        for number in lost {
            self.throw(py, number, self.gevent.exit.bind(py));
        }
    }

    /// Ends requests whose time is over.
    pub(super) fn end_late(&self, py: Python<'_>) {
        for (number, line) in self.expire_due() {
            let stack = self.greenlet(py, number).map(|it| self.gevent.stack.call1(py, (it,)));
            match stack {
                Some(Ok(stack)) => log::error!("{line}\n{stack}"),
                _ => log::error!("{line}; no stack"),
            }
        }
        let late = std::mem::take(&mut self.state().late);
        if late.is_empty() {
            return;
        }
        match timeout::exception(py) {
            Ok(exception) => {
                for number in late.into_iter().filter(|number| self.tell(*number)) {
                    if let Some(hooks) = &self.hooks {
                        hooks.tell(py, Moment::Late);
                    }
                    self.throw(py, number, &exception);
                }
            }
            Err(error) => log::error!("RequestTimeout cannot be raised: {error}"),
        }
    }

    /// A late application is to be told now; false when it has been, or has ended.
    fn tell(&self, number: u64) -> bool {
        match self.state().flights.get_mut(&number) {
            Some(flight) if flight.fate == Fate::Late => {
                flight.fate = Fate::Told;
                true
            }
            _ => false,
        }
    }

    /// Goes on with those whose clients have read enough, or have gone.
    pub(super) fn resume(&self, py: Python<'_>) {
        let waiting: Vec<_> = {
            let state = self.state();
            state.waiting.iter().map(|(id, waiter)| (*id, waiter.clone_ref(py))).collect()
        };
        for (id, waiter) in waiting {
            // It may have been ended, or waits for something else, since one before it went on.
            if self.reactor.lock().room(id) == Sent::Full || !self.waits(id, &waiter) {
                continue;
            }
            if let Err(error) = waiter.call_method0(py, intern!(py, "switch")) {
                log::error!("cannot go on with a request: {error}");
            }
        }
    }

    fn waits(&self, id: ExchangeId, waiter: &Py<PyAny>) -> bool {
        self.state().waiting.iter().any(|(its, greenlet)| *its == id && greenlet.is(waiter))
    }

    fn greenlet(&self, py: Python<'_>, number: u64) -> Option<Py<PyAny>> {
        self.state().flights.get(&number).map(|flight| flight.greenlet.clone_ref(py))
    }

    /// Into the greenlet of a request, where it waits; unless it has finished that
    /// request.
    fn throw(&self, py: Python<'_>, number: u64, exception: &Bound<'_, PyType>) {
        let Some(greenlet) = self.greenlet(py, number) else { return };
        if let Err(error) = greenlet.call_method1(py, intern!(py, "throw"), (exception,)) {
            log::error!("cannot end a request: {error}");
        }
    }

    // ---- while the hub is kept from turning

    /// In the handler of the alarm's signal, wherever the main thread is: notes
    /// which request runs, and says whether it is to be ended there.
    pub(super) fn interrupt(&self, py: Python<'_>) -> bool {
        let current = self.gevent.current.call0(py);
        let state = self.state();
        let mut flights = state.flights.iter();
        let running = flights.find(|(_, it)| current.as_ref().is_ok_and(|c| it.greenlet.is(c)));
        let Some((number, flight)) = running else {
            drop(state);
            let text = format!("{} request=none", self.worker);
            *self.found() = Some(Found::Running(text));
            return false;
        };
        let keeps = self.stuck.load(Ordering::Relaxed) && !flight.extended;
        let (number, whose) = (*number, flight.whose());
        drop(state);
        let ended = if keeps { self.expire(number, "timeout") } else { None };
        let running = || Found::Running(self.name(&whose));
        *self.found() = Some(ended.map_or_else(running, Found::Ended));
        self.tell(number)
    }

    /// To be called before the alarm is rung: the time of whatever keeps the hub
    /// is over, or it is only asked for.
    pub(super) fn ask(&self, stuck: bool) {
        self.stuck.store(stuck, Ordering::Relaxed);
        *self.found() = None;
    }

    /// What [`Flights::interrupt`] has found since.
    pub(super) fn found(&self) -> MutexGuard<'_, Option<Found>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when an application that keeps the hub has said that it would.
    pub(super) fn extended(&self) -> Option<Instant> {
        let state = self.state();
        let extended = state.flights.values().filter(|flight| flight.extended);
        extended.filter_map(|flight| flight.deadline).max()
    }

    /// Nothing goes on in this worker any more: all clients are told, and
    /// the log. How many.
    pub(super) fn abandon(&self) -> usize {
        let numbers: Vec<_> = self.state().flights.keys().copied().collect();
        let ended = numbers.into_iter().filter_map(|number| self.expire(number, "timeout"));
        ended.inspect(|line| log::error!("{line}")).count()
    }

    /// Answers those whose time is over; a log line for each.
    pub(super) fn expire_due(&self) -> Vec<(u64, String)> {
        let now = Instant::now();
        let state = self.state();
        let due = state.deadlines.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<_> = due.map(|(_, number)| *number).collect();
        drop(state);
        let expired = |number| Some((number, self.expire(number, "request_timeout")?));
        due.into_iter().filter_map(expired).collect()
    }

    // ---- inside

    /// The client gets its 504, the log line is returned; `None` when it is too
    /// late for that.
    fn expire(&self, number: u64, setting: &str) -> Option<String> {
        let mut state = self.state();
        let flight = state.flights.get_mut(&number).filter(|flight| flight.fate == Fate::Runs)?;
        flight.fate = Fate::Late;
        let setting = if flight.extended { "serve.extend_timeout" } else { setting };
        let (whose, deadline) = (flight.whose(), flight.deadline);
        if let Some(at) = deadline {
            state.deadlines.remove(&(at, number));
        }
        state.late.push(number);
        drop(state);
        let text = self.name(&whose);
        let answered = self.reactor.lock().answer_late(whose.exchange, 504, MESSAGE);
        log::debug!("client={} was answered in the application's place: {answered:?}", whose.peer);
        Some(format!("{text}: over its time ({setting}), ended"))
    }

    fn name(&self, whose: &Whose) -> String {
        let described = || describe(&self.reactor.lock(), whose.exchange);
        let request = whose.request.clone().or_else(described);
        format!(
            "{} request=\"{}\" client={} age={:.1}s",
            self.worker,
            request.as_deref().unwrap_or("?"),
            whose.peer,
            whose.since.elapsed().as_secs_f64()
        )
    }
}
