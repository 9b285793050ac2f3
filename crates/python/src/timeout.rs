//! What Python has to do with timeouts: the exception that ends a request, the
//! signal that raises it, and the application's way to ask for more time. Also
//! how signals for the application reach a loop that sleeps.

use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyType};

use crate::alarm::{Alarm, signal};
use crate::app::built_in;
use crate::drive::Host;
use crate::hooks::{Hooks, Moment};
use crate::module;

/// `serve.RequestTimeout`.
pub(crate) fn exception(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    module::request_timeout(py)
}

/// Does something of the server's own, and does it again if it is hit by what ends a
/// request: that is raised once, wherever the thread or greenlet is, and is no `Exception`.
pub(crate) fn twice<T>(py: Python<'_>, act: impl Fn() -> PyResult<T>) -> PyResult<T> {
    act().or_else(|error| match error.is_instance_of::<PyException>(py) {
        true => Err(error),
        false => act(),
    })
}

/// What an environ has for it.
pub(crate) fn environ(py: Python<'_>, host: Arc<dyn Host>) -> PyResult<Bound<'_, PyDict>> {
    let extend = PyCFunction::new_closure(py, None, None, move |args, _| -> PyResult<()> {
        let seconds: f64 = args.get_item(0)?.extract()?;
        let more = Duration::try_from_secs_f64(seconds).map_err(|_| {
            PyValueError::new_err(format!("{seconds} is no number of seconds from now"))
        })?;
        host.extend(more);
        Ok(())
    })?;
    let environ = PyDict::new(py);
    environ.set_item("serve.extend_timeout", extend)?;
    environ.set_item("serve.RequestTimeout", exception(py)?)?;
    Ok(environ)
}

/// Becomes readable when the interpreter has noted a signal. A handler in Python
/// runs when the main thread gets to it: a loop that was just about to sleep
/// must hear of it.
///
/// # Errors
/// A sentence.
pub(crate) fn wakeup(py: Python<'_>) -> Result<UnixStream, String> {
    let failed = |error: String| format!("cannot prepare for signals: {error}");
    let (read, write) = UnixStream::pair().map_err(|error| failed(error.to_string()))?;
    for end in [&read, &write] {
        end.set_nonblocking(true).map_err(|error| failed(error.to_string()))?;
    }
    // Open until the process ends: a signal may come at any time.
    let write = write.into_raw_fd();
    let module = built_in(py, "_timeout").map_err(|refusal| refusal.message)?;
    let told = module.getattr("wake_by").and_then(|wake_by| wake_by.call1((write,)));
    told.map(|_| read).map_err(|error| failed(error.to_string()))
}

/// Makes this thread, the interpreter's main one, hear the alarm: then it raises
/// `RequestTimeout` in what it runs, if `is_due` says so; hooks hear it first.
///
/// # Errors
/// A sentence.
pub(crate) fn alarm(
    py: Python<'_>,
    is_due: impl Fn(Python<'_>) -> bool + Send + Sync + 'static,
    hooks: Option<Arc<Hooks>>,
) -> Result<Alarm, String> {
    let failed = |error: PyErr| format!("cannot install the handler of timeouts: {error}");
    let module = built_in(py, "_timeout").map_err(|refusal| refusal.message)?;
    let is_due = PyCFunction::new_closure(py, None, None, move |args, _| {
        let due = is_due(args.py());
        if let (true, Some(hooks)) = (due, &hooks) {
            hooks.tell(args.py(), Moment::Late);
        }
        due
    });
    let process = built_in(py, "_process").map_err(|refusal| refusal.message)?;
    let raise = is_due.and_then(|is_due| {
        let arguments = (process.getattr("set_handler")?, signal(), exception(py)?, is_due);
        module.getattr("raise_in_request")?.call1(arguments)
    });
    raise.map_err(failed)?;
    // Between the two: called by the second, calls the first.
    let alarm = Alarm::new().map_err(|error| format!("cannot prepare for timeouts: {error}"))?;
    let fd = alarm.stacks().as_raw_fd();
    let write = module.getattr("write_stacks").and_then(|write| write.call1((signal(), fd)));
    write.map(|_| alarm).map_err(failed)
}
