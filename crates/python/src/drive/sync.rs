//! `-k sync`: the worker's main thread drives the reactor and runs the
//! application inline, one request at a time.
//!
//! The GIL is held while the application runs and let go while the loop waits,
//! so that the application's own threads go on.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use serve_net::{Board, Exchange, Heirs, Reactor, Shared};

use super::relay::{Limit, Relay};
use super::watch::Watch;
use crate::alarm::Blocked;
use crate::app::App;
use crate::environ::Origin;
use crate::respond::Bridge;
use crate::timeout;

/// What a worker is told from outside between two requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Finish what is there, then end; others serve on.
    Retire,
    /// Finish what is there, then end; so do all others.
    Stop,
    /// End now.
    Quit,
}

/// The side of the process the driver listens to. Called by both threads of a
/// worker, by one at a time.
pub trait Control: Send {
    /// Descriptors that become readable when [`Control::orders`] has something.
    fn watched(&self) -> Vec<BorrowedFd<'_>>;
    /// What has arrived since the last call.
    fn orders(&mut self) -> Vec<Order>;
    /// Everything is set up; the first request can come.
    fn ready(&mut self);
    /// It is time for a successor. The worker serves on until it is told to stop.
    fn tired(&mut self);
}

/// What a driver needs besides the application.
#[derive(Debug, Clone)]
pub struct Options {
    /// The listeners, in the reactor's order.
    pub origins: Vec<Origin>,
    /// `wsgi.multiprocess`.
    pub multiprocess: bool,
    /// `SERVER_SOFTWARE`.
    pub software: String,
    /// How long a kept-alive connection may still send a request once the
    /// worker is told to stop.
    pub idle_grace: Duration,
    /// How long the application may have a request; also how long whoever
    /// watches the [`Board`] waits for a sign of life.
    pub timeout: Option<Duration>,
    /// How long the application may have a request, if that is shorter.
    pub request_timeout: Option<Duration>,
    /// After so many requests [`Control::tired`] is called.
    pub tired_after: Option<u64>,
    /// The worker's name in the log.
    pub worker: String,
}

impl Options {
    /// With one request at a time, the shorter of the two counts.
    fn limit(&self) -> Option<Limit> {
        let limit = |after: Option<Duration>, setting| {
            after.filter(|after| !after.is_zero()).map(|after| Limit { after, setting })
        };
        let limits =
            [limit(self.timeout, "timeout"), limit(self.request_timeout, "request_timeout")];
        limits.into_iter().flatten().min_by_key(|limit| limit.after)
    }
}

/// Serves until told to stop.
///
/// # Errors
/// A sentence, when the loop cannot go on.
pub fn run(
    py: Python<'_>,
    app: App,
    reactor: Reactor,
    options: &Options,
    board: Arc<dyn Board>,
    control: &mut dyn Control,
) -> Result<(), String> {
    let reactor = Shared::new(reactor);
    for fd in control.watched() {
        reactor.lock().watch(fd).map_err(|error| format!("epoll_ctl: {error}"))?;
    }
    let watch = Arc::new(Watch::new(reactor.clone(), board.clone(), options.timeout));
    let bridge = Bridge::new(py, app, reactor.clone(), options, watch.clone());
    let bridge = bridge.map_err(|error| error.to_string())?;
    let alarm = timeout::alarm(py, watch.clone())?;
    let wakeup = timeout::wakeup(py)?;
    reactor.lock().watch(wakeup.as_fd()).map_err(|error| format!("epoll_ctl: {error}"))?;
    let orders = Orders::new(control, wakeup, options.idle_grace);
    thread::scope(|scope| {
        let relay = Relay {
            reactor: &reactor,
            watch: &watch,
            orders: &orders,
            alarm,
            limit: options.limit(),
            worker: &options.worker,
        };
        let _dismissed = Dismiss(&watch);
        spawn(scope, relay)?;
        orders.control().ready();
        let driver = Driver {
            bridge,
            reactor: &reactor,
            watch: &watch,
            board: &*board,
            tired_after: options.tired_after,
        };
        driver.run(py, &orders)
    })
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

/// The master's orders, carried out by whichever thread hears them.
pub(crate) struct Orders<'a> {
    control: Mutex<&'a mut dyn Control>,
    /// Where the interpreter says that a signal of the application has come.
    wakeup: UnixStream,
    idle_grace: Duration,
    quit: AtomicBool,
}

impl<'a> Orders<'a> {
    fn new(control: &'a mut dyn Control, wakeup: UnixStream, idle_grace: Duration) -> Self {
        let quit = AtomicBool::new(false);
        Self { control: Mutex::new(control), wakeup, idle_grace, quit }
    }

    fn control(&self) -> MutexGuard<'_, &'a mut dyn Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what has been ordered.
    pub(crate) fn obey(&self, reactor: &Shared) {
        // Only the wake-up counted; the loop runs the handlers.
        while matches!((&self.wakeup).read(&mut [0; 64]), Ok(1..)) {}
        let orders = self.control().orders();
        for order in orders {
            match order {
                Order::Retire => reactor.lock().drain(self.idle_grace, Heirs::Some),
                Order::Stop => reactor.lock().drain(self.idle_grace, Heirs::None),
                Order::Quit => self.quit.store(true, Ordering::SeqCst),
            }
        }
        // The main thread, if it is not the one that calls, has to look.
        reactor.wake();
    }

    fn is_quit(&self) -> bool {
        self.quit.load(Ordering::SeqCst)
    }
}

/// The main thread of the worker.
struct Driver<'a> {
    bridge: Bridge,
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
            // A Python signal handler of the application runs here, not whenever
            // the next request happens to come.
            if let Err(error) = py.check_signals() {
                log::error!("a signal handler of the application raised: {error}");
            }
            // Bound apart: a lock taken in the `while let` would be held over the call.
            let reactor = self.reactor;
            let next = || reactor.lock().next();
            while let Some(exchange) = next() {
                let number = self.serve(py, exchange);
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
            if orders.is_quit() || self.reactor.lock().is_drained() {
                return Ok(());
            }
        }
    }

    /// Returns how many requests that makes.
    fn serve(&mut self, py: Python<'_>, exchange: Exchange) -> u64 {
        let number = self.watch.begin(&exchange);
        if let Some(head) = self.reactor.lock().head(exchange.id) {
            self.board.begin(head.method(), head.path());
        }
        self.bridge.run(py, exchange);
        self.watch.end();
        self.board.end();
        number
    }
}
