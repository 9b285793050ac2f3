//! Python's `logging`, from the server's side: set up as gunicorn's settings say
//! (`_logging.py`), and with a way into the server's own log.
//!
//! [`configure_logging`] is called in a mold, once, before anything of the
//! application is imported.

use std::sync::atomic::{AtomicBool, Ordering};

use log::Level;
use pyo3::prelude::*;
use pyo3::types::PyCFunction;

use crate::app::{Refusal, built_in, call};

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
    let (setting, place, value) = match config {
        Some(LogConfig { setting, place, value }) => (setting, place, value.unbind()),
        None => ("", String::new(), py.None()),
    };
    let write = writer(py).map_err(|error| broken(&error))?;
    let module = built_in(py, "_logging")?;
    let taken = call(&module, "configure", (setting, place, value, level, write))?;
    taken.extract().map_err(|error: PyErr| broken(&error))
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
    let module = built_in(py, "_logging").map_err(|refusal| refusal.message);
    let said = |error: PyErr| error.to_string();
    let failed = module.and_then(|module| {
        module
            .call_method0("reopen")
            .and_then(|failed| failed.extract::<Vec<String>>())
            .map_err(said)
    });
    match failed {
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
