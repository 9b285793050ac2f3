//! Python's `logging`, from the server's side: set up as gunicorn's settings say
//! (`_logging.py`), and with a way into the server's own log.
//!
//! [`configure_logging`] is called in a mold, once, before anything of the
//! application is imported. Who has no use for `logging` does not pay for its import,
//! which takes as long as the interpreter's own start.

use std::sync::atomic::{AtomicBool, Ordering};

use log::Level;
use pyo3::prelude::*;
use pyo3::types::PyCFunction;

use crate::app::{Refusal, built_in, call};
use crate::built_in;

/// What Python's logging is to be set up from.
#[derive(Debug)]
pub struct LogConfig<'a> {
    /// The setting: `logconfig`, `logconfig_json` or `logconfig_dict`.
    pub setting: &'a str,
    /// Where it was written.
    pub place: String,
    /// The path of a file; or else a table, as an object of Python's or as JSON.
    pub value: Bound<'a, PyAny>,
}

/// Sets up Python's logging, if a configuration asks for it, and gives
/// gunicorn's error logger a way into the server's log. `level` is one of
/// `logging`'s. Returns which of gunicorn's loggers the configuration sets up.
///
/// # Errors
/// Code 2: what is wrong with the configuration.
pub fn configure_logging(
    py: Python<'_>,
    config: Option<LogConfig<'_>>,
    level: u32,
) -> Result<Vec<String>, Refusal> {
    let write = writer(py).map_err(|error| broken(&error))?;
    if config.is_none() && !is_imported(py).map_err(|error| broken(&error))? {
        lend_later(py, level, write)?;
        return Ok(Vec::new());
    }
    let module = built_in(py, "_logging")?;
    if let Some(LogConfig { setting, place, value }) = config {
        call(&module, "apply", (setting, place, value))?;
    }
    let taken = call(&module, "lend", (level, write))?;
    taken.extract().map_err(|error: PyErr| broken(&error))
}

fn is_imported(py: Python<'_>) -> PyResult<bool> {
    py.import("sys")?.getattr("modules")?.contains("logging")
}

/// As soon as the application has imported `logging`.
fn lend_later(py: Python<'_>, level: u32, write: Bound<'_, PyCFunction>) -> Result<(), Refusal> {
    let write = write.unbind();
    let lend = PyCFunction::new_closure(py, None, None, move |args, _| -> PyResult<()> {
        let module = built_in::load(args.py(), "_logging")?;
        module.call_method1("lend", (level, &write)).map(drop)
    });
    let lend = lend.map_err(|error| broken(&error))?;
    call(&built_in(py, "_imported")?, "when_imported", ("logging", lend)).map(drop)
}

/// Whether the files of Python's handlers are to be opened anew.
static ASKED: AtomicBool = AtomicBool::new(false);

/// Has a worker's main thread call [`reopen_logs`] before its next sleep. From any
/// thread, attached or not.
pub fn ask_to_reopen_logs() {
    ASKED.store(true, Ordering::SeqCst);
}

pub(crate) fn reopen_if_asked(py: Python<'_>) {
    if ASKED.swap(false, Ordering::SeqCst) {
        reopen_logs(py);
    }
}

/// Opens the files of Python's handlers anew, after someone has renamed them.
pub fn reopen_logs(py: Python<'_>) {
    let reopened = is_imported(py).and_then(|is_imported| match is_imported {
        true => built_in::load(py, "_logging")?.call_method0("reopen")?.extract(),
        false => Ok(Vec::<String>::new()),
    });
    match reopened {
        Ok(failed) => failed.iter().for_each(|reason| {
            log::error!("Python's logging: {reason}; the old file is kept");
        }),
        Err(error) => log::error!("Python's logging cannot open its files anew: {error}"),
    }
}

/// A handler that writes into the server's log.
pub(crate) fn handler(py: Python<'_>) -> Result<Bound<'_, PyAny>, Refusal> {
    let write = writer(py).map_err(|error| broken(&error))?;
    call(&built_in(py, "_logging")?, "Handler", (write,))
}

/// Writes into the server's log: a level of Python's `logging`, and a text.
fn writer(py: Python<'_>) -> PyResult<Bound<'_, PyCFunction>> {
    PyCFunction::new_closure(py, None, None, |args, _| -> PyResult<()> {
        let (level, text): (u32, String) = args.extract()?;
        let level = match level {
            40.. => Level::Error,
            30.. => Level::Warn,
            20.. => Level::Info,
            _ => Level::Debug,
        };
        log::log!(level, "{text}");
        Ok(())
    })
}

fn broken(error: &PyErr) -> Refusal {
    Refusal {
        code: 3,
        message: format!("the Python installation is broken: {error}"),
        traceback: None,
    }
}
