//! The drivers: who sleeps, on what, and where the application runs.

mod greenlets;
mod host;
mod orders;
mod relay;
mod running;
mod sync;
mod threads;
mod watch;

use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use serve_net::{Board, Reactor, Shared};

use self::orders::Orders;
use crate::app::App;
use crate::environ::Origin;
use crate::farewell::Farewell;
use crate::fork;
use crate::hooks::Hooks;
use crate::respond::Bridge;
use crate::timeout;

pub use greenlets::{forked, has_gevent, patch};
pub(crate) use host::Host;
pub use orders::{Control, Order};
pub(crate) use running::describe;

/// How long a piece of a stream may wait for the next ones, and a whole answer for
/// others.
const PIECES: Duration = Duration::from_micros(200);
const ANSWERS: Duration = Duration::from_millis(3);

/// What a driver needs besides the application.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who drives.
    pub driver: Driver,
    /// The listeners, in the reactor's order.
    pub origins: Vec<Origin>,
    /// `wsgi.multiprocess`.
    pub multiprocess: bool,
    /// `SERVER_SOFTWARE`.
    pub software: String,
    /// How long a kept-alive connection may still send a request once the
    /// worker is told to stop.
    pub idle_grace: Duration,
    /// How long requests may go on, once the worker is told to stop.
    pub graceful_timeout: Duration,
    /// How long the application may have a request; also how long whoever
    /// watches the [`Board`] waits for a sign of life.
    pub timeout: Option<Duration>,
    /// How long the application may have a request, if that is shorter.
    pub request_timeout: Option<Duration>,
    /// After so many requests [`Control::tired`] is called.
    pub tired_after: Option<u64>,
    /// The worker's name in the log.
    pub worker: String,
    /// Functions of the configuration that wait for requests.
    pub hooks: Option<Arc<Hooks>>,
}

/// Who drives, and where the application runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// The main thread, which runs one request at a time.
    Sync,
    /// gevent's hub, with a greenlet for each request.
    Greenlets,
    /// A thread of its own; the application runs on so many threads at most, each with a stack of so many bytes if that is
    /// not left to the system.
    Threads {
        /// At least one.
        count: usize,
        /// See above.
        stack: Option<usize>,
    },
}

/// All that a worker is, besides its interpreter and its reactor.
pub struct Worker<'a> {
    /// What it runs.
    pub app: App,
    /// How.
    pub options: &'a Options,
    /// Where it shows what it is doing.
    pub board: Arc<dyn Board>,
    /// Who tells it what to do.
    pub control: &'a mut dyn Control,
}

impl fmt::Debug for Worker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<'a> Worker<'a> {
    /// What every driver begins with: the way to the application, and the ears of
    /// `reactor` for whatever is ordered.
    fn prepare(
        self,
        py: Python<'_>,
        reactor: &Shared,
        host: Arc<dyn Host>,
    ) -> Result<(Bridge, Orders<'a>), String> {
        let watch = |fd| reactor.lock().watch(fd).map_err(|error| format!("epoll_ctl: {error}"));
        self.control.watched().into_iter().try_for_each(watch)?;
        let farewell = Arc::new(Farewell::default());
        let bridge =
            Bridge::new(py, self.app, reactor.clone(), self.options, host, farewell.clone());
        let bridge = bridge.map_err(|error| error.to_string())?;
        fork::prepare(py, reactor).map_err(|error| format!("os.register_at_fork: {error}"))?;
        let wakeup = timeout::wakeup(py)?;
        watch(wakeup.as_fd())?;
        Ok((bridge, Orders::new(self.control, wakeup, self.options, farewell)))
    }
}

/// The application's handlers of the signals that have come.
fn handle_signals(py: Python<'_>) {
    if let Err(error) = py.check_signals() {
        log::error!("a signal handler of the application raised: {error}");
    }
    fork::end_if_forked(py);
}

/// Serves until told to stop.
///
/// # Errors
/// A sentence, when the loop cannot go on.
pub fn run(py: Python<'_>, reactor: Reactor, worker: Worker<'_>) -> Result<(), String> {
    match worker.options.driver {
        Driver::Sync => sync::run(py, reactor, worker),
        Driver::Greenlets => greenlets::run(py, reactor, worker),
        Driver::Threads { count, stack } => {
            threads::run(py, reactor, worker, threads::Size { count, stack })
        }
    }
}
