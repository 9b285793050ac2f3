//! Finds the config file and reads it, once for each generation: whichever form
//! it has, a `Document` comes of it. In the mold, since a form is Python.

use std::fs;
use std::path::Path;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use serve_config::Document;
use serve_python::{Program, Refusal};

use crate::invocation::Invocation;

/// What is looked for where the server was started, if nothing is named.
const NAMES: [&str; 5] =
    ["serve.conf.py", "gunicorn.conf.py", "serve.toml", "serve.json", "pyproject.toml"];

/// What a configuration says, and all names of one that is a program.
#[derive(Default)]
pub(crate) struct Read<'py> {
    pub(crate) document: Document,
    names: Option<Bound<'py, PyDict>>,
}

impl<'py> Read<'py> {
    /// What a program has called `name`.
    pub(crate) fn value(&self, name: &str) -> Option<Bound<'py, PyAny>> {
        self.names.as_ref()?.get_item(name).ok()?
    }

    /// The names among which the hooks are.
    pub(crate) fn names(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        if let Some(names) = &self.names {
            return Ok(names.clone());
        }
        let names = PyDict::new(py);
        for (name, value) in &self.document.values {
            if let Some(text) = value.as_str() {
                names.set_item(name, text)?;
            }
        }
        Ok(names)
    }
}

/// Reads what is named, or else the first file that is there.
pub(crate) fn read<'py>(py: Python<'py>, invocation: &Invocation) -> Result<Read<'py>, Refusal> {
    if let Some(named) = &invocation.config {
        if let Some(module) = named.strip_prefix("python:") {
            return evaluated(
                named,
                serve_python::evaluate_module(py, module, &invocation.directory),
            );
        }
        let name = named.strip_prefix("file:").unwrap_or(named);
        let found = file(py, invocation, name)?;
        return found.ok_or_else(|| refusal(format!("{name} has no table [tool.serve]")));
    }
    let there = |name: &&&str| invocation.directory.join(name).is_file();
    for name in NAMES.iter().filter(there) {
        if let Some(read) = file(py, invocation, name)? {
            return Ok(read);
        }
    }
    Ok(Read::default())
}

/// `None`: a `pyproject.toml` that is not about us.
fn file<'py>(
    py: Python<'py>,
    invocation: &Invocation,
    name: &str,
) -> Result<Option<Read<'py>>, Refusal> {
    // In full: a later `chdir` must not move it.
    let path = invocation.directory.join(name);
    let text = || {
        fs::read_to_string(&path).map_err(|error| {
            refusal(format!("cannot read the configuration file '{}': {error}", path.display()))
        })
    };
    let wrong = |error: serve_config::Error| refusal(error.to_string());
    let plain = |document| Read { document, names: None };
    match Path::new(name).extension().and_then(|extension| extension.to_str()) {
        Some("toml") => Ok(Document::toml(name, &text()?).map_err(wrong)?.map(plain)),
        Some("json") => Ok(Some(Document::json(name, &text()?).map(plain).map_err(wrong)?)),
        _ => {
            let path = path.to_string_lossy();
            evaluated(name, serve_python::evaluate_file(py, &path, &invocation.directory)).map(Some)
        }
    }
}

fn evaluated<'py>(
    name: &str,
    program: Result<Program<'py>, Refusal>,
) -> Result<Read<'py>, Refusal> {
    let Program { json, names } = program?;
    let mut document = Document::from_json(&json).map_err(|error| refusal(error.to_string()))?;
    name.clone_into(&mut document.origin);
    Ok(Read { document, names: Some(names) })
}

fn refusal(message: String) -> Refusal {
    Refusal { code: 2, message, traceback: None }
}
