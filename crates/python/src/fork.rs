//! What the application forks, as `os.fork` and multiprocessing do: a process with
//! copies of the worker's sockets and of the code that serves by them. It lets go of
//! the ones, and is ended if it comes back to the other.

use std::os::fd::OwnedFd;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};
use serve_net::Shared;

use crate::errors::trace;

/// Whether this process is one of those.
static FORKED: AtomicBool = AtomicBool::new(false);

pub(crate) fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// What a worker will serve by, while it loads the application.
#[derive(Debug, Clone)]
pub struct Sockets(Arc<Mutex<Vec<OwnedFd>>>);

impl Sockets {
    /// All of them.
    pub fn new(sockets: Vec<OwnedFd>) -> Self {
        Self(Arc::new(Mutex::new(sockets)))
    }

    /// The application is loaded; none the second time, nor in a process that it has
    /// forked.
    pub fn take(&self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// In such a process, as soon as it is there.
pub(crate) fn part(sockets: &Sockets) {
    FORKED.store(true, Ordering::Relaxed);
    drop(sockets.take());
}

/// Sees to whatever is forked while `reactor` serves. No hook waits for the GIL with the reactor
/// locked: those of others run in between.
///
/// # Errors
/// When Python lacks `os.register_at_fork`.
pub(crate) fn prepare(py: Python<'_>, reactor: &Shared) -> PyResult<()> {
    let (before, parent, child) = (reactor.clone(), reactor.clone(), reactor.clone());
    at_fork(py, "before", move || before.fork())?;
    at_fork(py, "after_in_parent", move || parent.forked())?;
    at_fork(py, "after_in_child", move || match child.try_lock() {
        Some(mut reactor) => reactor.forsake(),
        None => log::warn!(
            "a process that the application has forked keeps its copies of the server's sockets: \
             end it before the server is started again"
        ),
    })
}

/// Has `act` called at that moment of each fork, by its name in `os.register_at_fork`.
///
/// # Errors
/// When Python lacks it.
pub(crate) fn at_fork(
    py: Python<'_>,
    moment: &str,
    act: impl Fn() + Send + Sync + 'static,
) -> PyResult<()> {
    let hooks = PyDict::new(py);
    hooks.set_item(moment, PyCFunction::new_closure(py, None, None, move |_, _| act())?)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&hooks)).map(drop)
}

/// After what an operator's code has done: only the process of this number goes on, and
/// none that was forked meanwhile.
pub fn end_unless(py: Python<'_>, pid: u32) {
    if process::id() != pid {
        end(py, None);
    }
}

/// The same after a request.
pub(crate) fn end_if_forked(py: Python<'_>) {
    if is_forked() {
        end(py, None);
    }
}

/// Ends a process that the application has forked, and that has come back or raised
/// `error`. Nothing is done in the worker's name.
pub(crate) fn end(py: Python<'_>, error: Option<PyErr>) -> ! {
    match error {
        Some(error) => {
            let account = trace(py, &error);
            log::error!("a process that the application forked has ended by itself\n{account}");
        }
        None => log::warn!(
            "a process that was forked here came back to the server, and is ended: it should end \
             by itself, with os._exit()"
        ),
    }
    // SAFETY: ends the process.
    unsafe { libc::_exit(1) }
}
