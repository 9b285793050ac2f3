//! Loads what the operator named: the application, or a configuration file.
//!
//! The work is done by small Python modules; here their refusals become Rust values.

use std::path::Path;
use std::{env, fs, io};

use pyo3::call::PyCallArgs;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};

/// A loaded WSGI application.
#[derive(Debug)]
pub struct App(pub(crate) Py<PyAny>);

/// Why there is none, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Exit code: 2 configuration, 3 cannot be imported, 4 is no application.
    pub code: i32,
    /// One sentence: what is wrong, and what to do.
    pub message: String,
    /// Python's own account, if the operator needs it to find the place.
    pub traceback: Option<String>,
}

/// Loads `module`, `module:attribute` or `module:factory(arguments)`, with the
/// working directory first on `sys.path`.
///
/// # Errors
/// Code 3 when the module cannot be imported, 4 when there is no callable.
pub fn load(py: Python<'_>, spec: &str, directory: &Path) -> Result<App, Refusal> {
    let module = built_in(py, "_app")?;
    call(&module, "insert_directory", (directory.to_string_lossy(),))?;
    call(&module, "load", (spec,)).map(|app| App(app.unbind()))
}

/// What a configuration written in Python says.
#[derive(Debug)]
pub struct Program<'py> {
    /// A JSON object of what can be told to other processes.
    pub json: String,
    /// All its names.
    pub names: Bound<'py, PyDict>,
}

/// Runs a configuration file written in Python, which may import what is in
/// `directory`.
///
/// # Errors
/// Code 2, naming file and line, when it cannot be read or raises.
pub fn evaluate_file<'py>(
    py: Python<'py>,
    path: &str,
    directory: &Path,
) -> Result<Program<'py>, Refusal> {
    evaluate(py, "evaluate_file", path, directory)
}

/// Imports a module that is a configuration; otherwise as [`evaluate_file`].
///
/// # Errors
/// Code 2, when it cannot be imported.
pub fn evaluate_module<'py>(
    py: Python<'py>,
    name: &str,
    directory: &Path,
) -> Result<Program<'py>, Refusal> {
    evaluate(py, "evaluate_module", name, directory)
}

fn evaluate<'py>(
    py: Python<'py>,
    how: &str,
    what: &str,
    directory: &Path,
) -> Result<Program<'py>, Refusal> {
    let found = call(&built_in(py, "_config")?, how, (what, directory.to_string_lossy()))?;
    let (json, names) = found.extract().map_err(|error| unexpected(&error))?;
    Ok(Program { json, names })
}

/// Puts directories first on `sys.path`, before the working directory.
///
/// # Errors
/// When the interpreter is broken.
pub fn insert_directories(py: Python<'_>, directories: &[String]) -> Result<(), Refusal> {
    let module = built_in(py, "_app")?;
    let here = env::current_dir().unwrap_or_default();
    call(&module, "insert_directory", (here.to_string_lossy(),))?;
    for directory in directories.iter().rev() {
        call(&module, "insert_directory", (here.join(directory).to_string_lossy(),))?;
    }
    Ok(())
}

/// What is on `sys.path` and may not be read by whoever this process is: Python
/// passes it over without a word.
pub fn closed_directories(py: Python<'_>) -> Vec<String> {
    let path = py.import("sys").and_then(|sys| sys.getattr("path")?.extract::<Vec<String>>());
    let is_closed = |folder: &String| {
        fs::read_dir(folder).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    path.unwrap_or_default().into_iter().filter(is_closed).collect()
}

/// One of our own Python modules.
pub(crate) fn built_in<'py>(py: Python<'py>, name: &str) -> Result<Bound<'py, PyModule>, Refusal> {
    crate::built_in::load(py, name).map_err(|error| unexpected(&error))
}

pub(crate) fn call<'py>(
    module: &Bound<'py, PyModule>,
    function: &str,
    arguments: impl PyCallArgs<'py>,
) -> Result<Bound<'py, PyAny>, Refusal> {
    module
        .getattr(function)
        .and_then(|function| function.call1(arguments))
        .map_err(|error| refused(module, &error))
}

/// What a function of `module` has raised, as a refusal.
pub(crate) fn refused(module: &Bound<'_, PyModule>, error: &PyErr) -> Refusal {
    refusal(module, error).unwrap_or_else(|| unexpected(error))
}

fn refusal(module: &Bound<'_, PyModule>, error: &PyErr) -> Option<Refusal> {
    let value = error.value(module.py());
    if !value.is_instance(&module.getattr("Refusal").ok()?).ok()? {
        return None;
    }
    let (code, message, trace): (i32, String, String) =
        value.getattr("args").ok()?.extract().ok()?;
    let traceback = Some(trace).filter(|trace| !trace.is_empty());
    Some(Refusal { code, message, traceback })
}

fn unexpected(error: &PyErr) -> Refusal {
    Refusal { code: 3, message: format!("the loader failed: {error}"), traceback: None }
}
