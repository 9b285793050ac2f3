//! `-k sync`: the worker's main thread drives the reactor and runs the
//! application inline, one request at a time.
//!
//! The GIL is held while the application runs and let go while the loop waits,
//! so that the application's own threads go on.

use std::sync::Arc;
use std::thread;

use pyo3::prelude::*;
use serve_net::{Board, Exchange, Reactor, Shared};

use super::orders::Orders;
use super::relay::Relay;
use super::running::Limit;
use super::watch::Watch;
use super::{ANSWERS, Options, PIECES, Worker, handle_signals};
use crate::alarm::Blocked;
use crate::respond::{Bridge, Kit};
use crate::timeout;
use crate::{fork, logging};

/// Serves until told to stop.
///
/// # Errors
/// A sentence, when the loop cannot go on.
pub(super) fn run(py: Python<'_>, reactor: Reactor, worker: Worker<'_>) -> Result<(), String> {
    let reactor = Shared::new(reactor);
    // Longer only if the application keeps the thread: until the relay looks.
    reactor.lock().defer(PIECES, ANSWERS);
    let (options, board) = (worker.options, worker.board.clone());
    let watch = Arc::new(Watch::new(reactor.clone(), board.clone(), options.timeout));
    let (bridge, orders) = worker.prepare(py, &reactor, watch.clone())?;
    let watched = watch.clone();
    let alarm = timeout::alarm(py, move |_| watched.claim(), options.hooks.clone())?;
    thread::scope(|scope| {
        let relay = Relay {
            reactor: &reactor,
            watch: &watch,
            orders: &orders,
            alarm,
            limit: limit(options),
            worker: &options.worker,
        };
        let _dismissed = Dismiss(&watch);
        spawn(scope, relay)?;
        orders.control().ready();
        let driver = Driver {
            bridge,
            kit: Kit::default(),
            reactor: &reactor,
            watch: &watch,
            board: &*board,
            tired_after: options.tired_after,
        };
        driver.run(py, &orders)
    })
}

/// With one request at a time, the shorter of the two counts.
fn limit(options: &Options) -> Option<Limit> {
    let limits = [
        Limit::new(options.timeout, "timeout"),
        Limit::new(options.request_timeout, "request_timeout"),
    ];
    limits.into_iter().flatten().min_by_key(|limit| limit.after)
}

/// Starts the relay. It blocks all signals: whatever the process is sent, the
/// main thread's system calls must be interrupted by it, as Python expects.
fn spawn<'scope, 'control: 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    relay: Relay<'scope, 'control>,
) -> Result<(), String> {
    let blocked = Blocked::all();
    let thread = thread::Builder::new().name("serve-relay".into());
    let spawned = thread.spawn_scoped(scope, move || relay.run());
    drop(blocked);
    spawned.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}

/// However the driver ends, the relay does not outlive it.
struct Dismiss<'a>(&'a Watch);

impl Drop for Dismiss<'_> {
    fn drop(&mut self) {
        self.0.dismiss();
    }
}

/// The main thread of the worker.
struct Driver<'a> {
    bridge: Bridge,
    kit: Kit,
    reactor: &'a Shared,
    watch: &'a Watch,
    board: &'a dyn Board,
    tired_after: Option<u64>,
}

impl Driver<'_> {
    fn run(mut self, py: Python<'_>, orders: &Orders<'_>) -> Result<(), String> {
        loop {
            self.board.asleep();
            let waited = py.detach(|| self.reactor.wait(None));
            self.board.awake();
            waited.map_err(|error| format!("epoll_wait: {error}"))?;
            // Apart: a lock taken in the `while let` would be held over the call.
            while let Some((number, mut exchange)) = self.next() {
                self.serve(py, &mut exchange);
                if self.tired_after == Some(number) {
                    orders.control().tired();
                }
                if orders.is_quit() {
                    break;
                }
            }
            if self.reactor.lock().take_watched() {
                orders.obey(self.reactor);
            }
            // Python's signal handlers of the application run here, not whenever the
            // next request happens to come. Last before the sleep: the relay may have
            // heard of a signal while a request ran, and then nothing ends the sleep.
            handle_signals(py);
            logging::reopen_if_asked(py);
            if orders.is_quit() || self.reactor.lock().is_drained() {
                // An order to quit ends the loop in the middle of a turn. And nobody waits
                // for the exit handlers.
                let mut reactor = self.reactor.lock();
                reactor.settle();
                reactor.forsake();
                return Ok(());
            }
        }
    }

    /// The next request and which one of this worker it is; it runs from now on.
    fn next(&self) -> Option<(u64, Exchange)> {
        let mut reactor = self.reactor.lock();
        let exchange = reactor.next()?;
        if let Some(head) = reactor.head(exchange.id) {
            self.board.begin(head.method(), head.path());
        }
        Some((self.watch.begin(&exchange, reactor.now()), exchange))
    }

    fn serve(&mut self, py: Python<'_>, exchange: &mut Exchange) {
        self.bridge.run(py, &mut self.kit, exchange);
        fork::end_if_forked(py);
        self.watch.end();
        self.board.end();
    }
}
