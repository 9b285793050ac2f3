//! What a mold and a worker arrange in their interpreter: hooks around a fork,
//! guarded signals, crash reports.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyCFunction;

use crate::app::{Refusal, built_in};
use crate::fork::{self, Sockets};
use crate::module;

/// Whether a fork is under way that makes a worker; any other is the application's.
static FORKING: AtomicBool = AtomicBool::new(false);

/// To be called before a fork, attached (C API, `PyOS_BeforeFork`).
pub fn before_fork(_: Python<'_>) {
    FORKING.store(true, Ordering::Relaxed);
    // SAFETY: attached, as the token shows; paired with one of the two below.
    unsafe { ffi::PyOS_BeforeFork() }
}

/// To be called after it in the process that forked.
pub fn forked_parent(_: Python<'_>) {
    // SAFETY: as above.
    unsafe { ffi::PyOS_AfterFork_Parent() }
    FORKING.store(false, Ordering::Relaxed);
}

/// To be called after it in the new process.
pub fn forked_child(_: Python<'_>) {
    // SAFETY: as above; the forking thread is the only one here.
    unsafe { ffi::PyOS_AfterFork_Child() }
    FORKING.store(false, Ordering::Relaxed);
}

/// From now on the application cannot take the server's signals for itself; it
/// is told so in the log; what it forks has ordinary ones. What crashes here, or in
/// a fork, leaves its stacks, and what is printed is seen at once.
///
/// # Errors
/// When the interpreter lacks one of its own modules.
pub fn guard(py: Python<'_>) -> Result<(), Refusal> {
    let warn = PyCFunction::new_closure(py, None, None, |args, _| -> PyResult<()> {
        let text: String = args.get_item(0)?.extract()?;
        log::warn!("{text}");
        Ok(())
    });
    let is_ours = PyCFunction::new_closure(py, None, None, |_, _| FORKING.load(Ordering::Relaxed));
    let module = built_in(py, "_process")?;
    warn.and_then(|warn| module.getattr("guard_signals")?.call1((warn,)))
        .and_then(|_| module.getattr("free_children")?.call1((is_ours?,)))
        .and_then(|_| module.getattr("enable_faulthandler")?.call0())
        .and_then(|_| module.getattr("show_prints")?.call0())
        .map(drop)
        .map_err(|error| broken(&error))
}

/// Sets variables, each `NAME=VALUE`, in `os.environ`.
///
/// # Errors
/// When the interpreter lacks its own `os` module.
pub fn set_environment(py: Python<'_>, variables: &[String]) -> Result<(), Refusal> {
    let module = built_in(py, "_process")?;
    module
        .getattr("set_environment")
        .and_then(|function| function.call1((variables.to_vec(),)))
        .map(drop)
        .map_err(|error| broken(&error))
}

/// What a mold arranges once it has all but the application: what each worker
/// would compile is there when it is forked.
///
/// # Errors
/// When the interpreter lacks one of its own modules.
pub fn prepare_mold(py: Python<'_>) -> Result<(), Refusal> {
    for name in ["_app", "_timeout"] {
        built_in(py, name)?;
    }
    // What there is now is left out of collections: they would write to pages that
    // workers share.
    let made = module::request_timeout(py).and_then(|_| py.import("gc")?.call_method0("freeze"));
    made.map(drop).map_err(|error| broken(&error))
}

/// What a worker arranges before it loads the application: what that forks has none
/// of the sockets.
///
/// # Errors
/// When the interpreter lacks one of its own modules.
pub fn prepare_worker(py: Python<'_>, sockets: Sockets) -> Result<(), Refusal> {
    fork::at_fork(py, "after_in_child", move || fork::part(&sockets))
        .map_err(|error| broken(&error))
}

/// Whether threads of Python's are in the application and will not come back.
static RUNNING: AtomicBool = AtomicBool::new(false);

/// The interpreter must not be finalised: threads that cannot be waited for run
/// in it.
pub(crate) fn keep_running() {
    RUNNING.store(true, Ordering::SeqCst);
}

/// Whether the interpreter must not be finalised, nor waited for.
pub fn threads_run() -> bool {
    RUNNING.load(Ordering::SeqCst)
}

/// What can be done in place of finalising: `atexit` and the streams.
pub(crate) fn end_running(py: Python<'_>) -> Option<PyResult<()>> {
    threads_run().then(|| {
        let module = built_in(py, "_process")
            .map_err(|refusal| pyo3::exceptions::PyRuntimeError::new_err(refusal.message))?;
        module.getattr("end_beside_threads")?.call0().map(drop)
    })
}

/// An application loaded before the workers are forked.
#[derive(Debug)]
pub struct Preloaded {
    /// Threads it has started; they do not exist in a worker.
    pub threads: Vec<String>,
}

impl Preloaded {
    /// Tidies memory so that workers share as much of it as possible.
    ///
    /// # Errors
    /// When the interpreter lacks its own `gc` module.
    pub fn settle(py: Python<'_>) -> Result<Self, Refusal> {
        let module = built_in(py, "_process")?;
        let threads = module.getattr("share_memory").and_then(|f| f.call0()?.extract());
        threads.map(|threads| Self { threads }).map_err(|error| broken(&error))
    }
}

fn broken(error: &PyErr) -> Refusal {
    Refusal {
        code: 3,
        message: format!("the Python installation is broken: {error}"),
        traceback: None,
    }
}
