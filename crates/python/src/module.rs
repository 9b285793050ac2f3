//! The module `serve` of the application's interpreter: an exception to catch,
//! and a version to ask for.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyModule, PyType};

use crate::app::built_in;

const SOURCE: &str = include_str!("../../../python/serve/__init__.py");

static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// `serve.RequestTimeout`, the one that is raised, also where the application's
/// own `serve` hides ours.
pub(crate) fn request_timeout(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    let module = MODULE.get_or_try_init(py, || offer(py))?;
    Ok(module.bind(py).getattr("RequestTimeout")?.cast_into()?)
}

/// From now on `import serve` finds it, after all that the application has. Where
/// the server itself was imported, its package is there already.
fn offer(py: Python<'_>) -> PyResult<Py<PyModule>> {
    if py.import("sys")?.getattr("modules")?.contains("serve._serve")? {
        return Ok(py.import("serve")?.unbind());
    }
    let loader = built_in(py, "_module").map_err(|refusal| broken(&refusal))?;
    let module = loader.getattr("offer")?.call1((SOURCE, env!("CARGO_PKG_VERSION")))?;
    Ok(module.cast_into::<PyModule>()?.unbind())
}

fn broken(refusal: &crate::Refusal) -> PyErr {
    pyo3::exceptions::PyRuntimeError::new_err(refusal.message.clone())
}
