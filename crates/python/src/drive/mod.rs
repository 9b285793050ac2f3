//! The drivers: who sleeps, on what, and where the application runs.

mod greenlets;
mod host;
mod orders;
mod relay;
mod running;
mod sync;
mod threads;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use serve_net::{Board, Reactor};

use crate::app::App;
use crate::environ::Origin;
use crate::hooks::Hooks;

pub use greenlets::{forked, has_gevent, patch};
pub(crate) use host::Host;
pub use orders::{Control, Order};

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
    match options.driver {
        Driver::Sync => sync::run(py, app, reactor, options, board, control),
        Driver::Greenlets => greenlets::run(py, app, reactor, options, board, control),
        Driver::Threads { count, stack } => {
            let size = threads::Size { count, stack };
            threads::run(py, app, reactor, options, size, board, control)
        }
    }
}
