//! How an application's exception is told in the log.

use pyo3::prelude::*;

use crate::timeout;

/// The traceback as Python prints it, without a final newline.
pub(crate) fn trace(py: Python<'_>, error: &PyErr) -> String {
    let formatted = timeout::twice(py, || {
        let module = py.import("traceback")?;
        // Before Python 3.12 the value may not know its traceback.
        let parts = (error.get_type(py), error.value(py), error.traceback(py));
        let lines = module.getattr("format_exception")?.call1(parts)?;
        Ok(lines.extract::<Vec<String>>()?.concat())
    });
    match formatted {
        Ok(text) => text.trim_end().to_owned(),
        Err(_) => error.to_string(),
    }
}
