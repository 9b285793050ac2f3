//! What a worker class comes to in the application's environment.

use pyo3::Python;
use serve_config::{Settings, WorkerClass};
use serve_python::{Driver, Refusal};

/// Exit code: the configuration is wrong.
const CONFIGURATION: i32 = 2;

/// Chooses the driver and prepares the interpreter for it. To be called before
/// anything of the application is imported.
pub(crate) fn prepare(py: Python<'_>, settings: &Settings) -> Result<Driver, Refusal> {
    let class = settings.worker_class;
    if class == WorkerClass::Sync {
        return Ok(Driver::Sync);
    }
    if !serve_python::has_gevent(py)? {
        let message = format!(
            "the worker class '{}' needs gevent, which this Python environment does not have: \
             pip install gevent",
            class
        );
        return Err(Refusal { code: CONFIGURATION, message, traceback: None });
    }
    serve_python::patch(py)?;
    Ok(Driver::Greenlets)
}

/// How many requests such a worker may have at once.
pub(crate) fn slots(driver: Driver, settings: &Settings) -> usize {
    match driver {
        Driver::Sync => 1,
        Driver::Greenlets => settings.worker_connections,
    }
}
