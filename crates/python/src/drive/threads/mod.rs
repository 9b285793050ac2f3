//! `-k threads`: the application runs on threads of Python's, and a thread that
//! never touches Python turns the reactor.
//!
//! * The *turner* (`turner.rs`) turns the reactor, carries out orders, and
//!   watches the requests' time. It never takes the GIL, so neither waits.
//! * The *pool* (`pool.rs`): threads pull requests from the reactor, run them and
//!   send the answers themselves.
//! * The *main thread*, here, stays Python's main thread: it runs the signal
//!   handlers of the application, starts threads, raises `RequestTimeout` in
//!   them, and shows by taking the GIL every now and then that it can be had.
//!
//! **Rule.** Whoever holds the reactor's lock neither takes the GIL nor runs
//! Python. So a thread that has the GIL may wait for the lock.

mod pool;
mod seats;
mod turner;

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyModule};
use serve_net::{Reactor, Shared};

use super::running::Limit;
use super::{ANSWERS, PIECES, Worker, handle_signals};
use crate::alarm::Blocked;
use crate::app::built_in;
use crate::hooks::{Hooks, Moment};
use crate::{logging, process, timeout};

use pool::Pool;
use seats::Seats;
use turner::Turner;

/// How large the pool may get.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) count: usize,
    /// Bytes of each thread's stack; `None`: as the system has it.
    pub(super) stack: Option<usize>,
}

/// What the main thread is asked to do.
#[derive(Debug)]
enum Call {
    /// Start the thread of this seat.
    Start(usize),
    /// Run the application's signal handlers, and do what the master has ordered.
    Signals,
    /// Show that the GIL can be had.
    Beat,
    /// Have threads give the GIL up sooner, or no longer.
    Haste(bool),
    /// Raise `RequestTimeout` in the request of this number, at this seat.
    Raise(usize, u64),
    /// It is over.
    End(Result<(), String>),
}

/// Serves until told to stop.
///
/// # Errors
/// A sentence, when the loop cannot go on.
pub(super) fn run(
    py: Python<'_>,
    mut reactor: Reactor,
    worker: Worker<'_>,
    size: Size,
) -> Result<(), String> {
    reactor.set_slots(size.count);
    reactor.defer(PIECES, ANSWERS);
    reactor.defer_by_timer().map_err(|error| format!("cannot have a timer: {error}"))?;
    let reactor = Shared::apart(reactor);
    let (options, board) = (worker.options, worker.board.clone());
    let seats = Arc::new(Seats::new(reactor.clone(), size.count));
    let (bridge, orders) = worker.prepare(py, &reactor, seats.clone())?;
    let (caller, calls) = channel();
    let pool = Pool::new(bridge, seats, board, size.count, options.tired_after, caller.clone());
    let module = built_in(py, "_threads").map_err(|refusal| refusal.message)?;
    let stack = size.stack.unwrap_or(0);
    let fits = module.getattr("check").and_then(|check| check.call1((stack,)));
    fits.map_err(|error| format!("thread_stack_size: {error}"))?;
    let main = Main {
        module: module.unbind(),
        pool: Arc::new(pool),
        calls: Mutex::new(calls),
        stack,
        hooks: options.hooks.clone(),
    };
    // The handler in Python has nothing to do: the exception is for another thread.
    let alarm = timeout::alarm(py, |_| false, None)?;
    let turner = Turner {
        pool: main.pool.clone(),
        orders: &orders,
        alarm,
        limit: Limit::new(options.request_timeout, "request_timeout"),
        beat: turner::beat(options.timeout),
        worker: &options.worker,
        caller,
    };
    thread::scope(|scope| {
        let orders = turner.orders;
        // It blocks all signals: Python expects them on its own threads.
        let blocked = Blocked::all();
        let thread = thread::Builder::new().name("serve-turner".into());
        let spawned = thread.spawn_scoped(scope, move || turner.run());
        drop(blocked);
        spawned.map_err(|error| format!("cannot start a thread: {error}"))?;
        orders.control().ready();
        main.run(py)
    })
}

/// The main thread of the worker.
struct Main {
    module: Py<PyModule>,
    pool: Arc<Pool>,
    /// Locked by the main thread alone.
    calls: Mutex<Receiver<Call>>,
    stack: usize,
    hooks: Option<Arc<Hooks>>,
}

impl Main {
    fn run(self, py: Python<'_>) -> Result<(), String> {
        let next = || self.calls.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let ended = loop {
            match py.detach(next) {
                Ok(Call::Start(seat)) => self.start(py, seat),
                Ok(Call::Signals) => {
                    handle_signals(py);
                    logging::reopen_if_asked(py);
                }
                Ok(Call::Beat) => self.pool.seats.beat(),
                Ok(Call::Haste(haste)) => self.hasten(py, haste),
                Ok(Call::Raise(seat, number)) => self.raise(py, seat, number),
                Ok(Call::End(ended)) => break ended,
                Err(_) => break Err("the thread that turns the event loop has ended".into()),
            }
        };
        if py.detach(|| self.pool.end()) > 0 {
            // Finalising the interpreter under a thread that is in the
            // application would end in a crash.
            process::keep_running();
        }
        ended
    }

    fn start(&self, py: Python<'_>, seat: usize) {
        let pool = self.pool.clone();
        let work = PyCFunction::new_closure(py, None, None, move |args, _| -> PyResult<()> {
            pool.work(args.py(), seat);
            Ok(())
        });
        let name = format!("serve-{}", seat + 1);
        let module = self.module.bind(py);
        let started = work
            .and_then(|work| module.getattr("start")?.call1((name, work, self.stack, seat + 1)));
        if let Err(error) = started {
            self.pool.not_started(seat, &error.to_string());
        }
    }

    fn hasten(&self, py: Python<'_>, haste: bool) {
        let module = self.module.bind(py);
        if let Err(error) = module.getattr("hasten").and_then(|hasten| hasten.call1((haste,))) {
            log::error!("cannot set the switch interval: {error}");
        }
    }

    fn raise(&self, py: Python<'_>, seat: usize, number: u64) {
        if let Some(hooks) = &self.hooks {
            hooks.tell(py, Moment::Late);
        }
        match timeout::exception(py) {
            Ok(exception) => self.pool.seats.raise(seat, number, &exception),
            Err(error) => log::error!("cannot raise RequestTimeout: {error}"),
        }
    }
}
