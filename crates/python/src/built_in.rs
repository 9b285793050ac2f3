//! Our own Python modules, from the copies inside this binary. They were compiled
//! when it was built; an interpreter of another version compiles them again.

use std::ffi::CString;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyModule};

include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

/// Those that this process has. Workers inherit them from their mold.
static LOADED: PyOnceLock<Py<PyDict>> = PyOnceLock::new();

/// Loads `name`, as `_app`, if it is not there yet.
pub(crate) fn load<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyModule>> {
    let loaded = LOADED.get_or_init(py, || PyDict::new(py).unbind()).bind(py);
    if let Some(module) = loaded.get_item(name)? {
        return Ok(module.cast_into()?);
    }
    let missing = || PyImportError::new_err(format!("there is no built-in module {name}"));
    let module = MODULES.iter().find(|(known, ..)| *known == name).ok_or_else(missing)?;
    let module = made(py, *module)?;
    loaded.set_item(name, &module)?;
    Ok(module)
}

fn made<'py>(
    py: Python<'py>,
    (name, source, code): (&str, &str, &[u8]),
) -> PyResult<Bound<'py, PyModule>> {
    let (file, name) = (format!("<serve>/{name}.py"), format!("serve.{name}"));
    let magic = py.import("_frozen_importlib_external")?.getattr("MAGIC_NUMBER")?;
    if MAGIC.is_empty() || magic.extract::<&[u8]>()? != MAGIC {
        let text = |text: &str| CString::new(text).map_err(PyErr::from);
        return PyModule::from_code(py, &text(source)?, &text(&file)?, &text(&name)?);
    }
    let code = py.import("marshal")?.call_method1("loads", (PyBytes::new(py, code),))?;
    let module = PyModule::new(py, &name)?;
    module.setattr("__file__", file)?;
    py.import("sys")?.getattr("modules")?.set_item(&name, &module)?;
    py.import("builtins")?.call_method1("exec", (code, module.dict()))?;
    Ok(module)
}
