//! What the application forks, as `os.fork` and multiprocessing do: a process with
//! copies of the worker's sockets and of the code that serves by them. It lets go of
//! the ones, and is ended if it comes back to the other.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};
use serve_net::Shared;

use crate::errors::trace;

/// Whether this process is one of those.
static FORKED: AtomicBool = AtomicBool::new(false);

pub(super) fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Sees to whatever is forked from now on. No hook waits for the GIL with the reactor
/// locked: those of others run in between.
///
/// # Errors
/// When Python lacks `os.register_at_fork`.
pub(super) fn prepare(py: Python<'_>, reactor: &Shared) -> PyResult<()> {
    let (before, parent, child) = (reactor.clone(), reactor.clone(), reactor.clone());
    let hooks = PyDict::new(py);
    hooks
        .set_item("before", PyCFunction::new_closure(py, None, None, move |_, _| before.fork())?)?;
    let forked = PyCFunction::new_closure(py, None, None, move |_, _| parent.forked())?;
    hooks.set_item("after_in_parent", forked)?;
    let part = PyCFunction::new_closure(py, None, None, move |_, _| {
        FORKED.store(true, Ordering::Relaxed);
        if !child.part() {
            log::warn!(
                "a process that the application has forked keeps its copies of the server's \
                 sockets: end it before the server is started again"
            );
        }
    })?;
    hooks.set_item("after_in_child", part)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&hooks)).map(drop)
}

/// After a request: a process that the application forked in it does not serve on.
pub(super) fn end_if_forked(py: Python<'_>) {
    if is_forked() {
        end(py, None);
    }
}

/// Ends a process that the application has forked, and that has come back or raised
/// `error`. Nothing is done in the worker's name.
pub(super) fn end(py: Python<'_>, error: Option<PyErr>) -> ! {
    match error {
        Some(error) => {
            let account = trace(py, &error);
            log::error!("a process that the application forked has ended by itself\n{account}");
        }
        None => log::warn!(
            "a process that the application has forked came back from its request, and is ended: \
             it should end by itself, with os._exit()"
        ),
    }
    // SAFETY: ends the process.
    unsafe { libc::_exit(1) }
}
