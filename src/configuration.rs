//! Finds the config file and reads it, once for each generation: whichever form
//! it has, a `Document` comes of it. In the mold, since a form is Python.

use std::fs;
use std::path::Path;

use pyo3::Python;
use serve_config::Document;
use serve_python::Refusal;

use crate::invocation::Invocation;

/// What is looked for where the server was started, if nothing is named.
const NAMES: [&str; 5] =
    ["serve.conf.py", "gunicorn.conf.py", "serve.toml", "serve.json", "pyproject.toml"];

/// Reads what is named, or else the first file that is there.
pub(crate) fn read(py: Python<'_>, invocation: &Invocation) -> Result<Document, Refusal> {
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
        if let Some(document) = file(py, invocation, name)? {
            return Ok(document);
        }
    }
    Ok(Document::default())
}

/// `None`: a `pyproject.toml` that is not about us.
fn file(py: Python<'_>, invocation: &Invocation, name: &str) -> Result<Option<Document>, Refusal> {
    // In full: a later `chdir` must not move it.
    let path = invocation.directory.join(name);
    let read = || {
        fs::read_to_string(&path).map_err(|error| {
            refusal(format!("cannot read the configuration file '{}': {error}", path.display()))
        })
    };
    let wrong = |error: serve_config::Error| refusal(error.to_string());
    match Path::new(name).extension().and_then(|extension| extension.to_str()) {
        Some("toml") => Document::toml(name, &read()?).map_err(wrong),
        Some("json") => Document::json(name, &read()?).map_err(wrong).map(Some),
        _ => {
            let path = path.to_string_lossy();
            evaluated(name, serve_python::evaluate_file(py, &path, &invocation.directory)).map(Some)
        }
    }
}

fn evaluated(name: &str, json: Result<String, Refusal>) -> Result<Document, Refusal> {
    let mut document = Document::from_json(&json?).map_err(|error| refusal(error.to_string()))?;
    name.clone_into(&mut document.origin);
    Ok(document)
}

fn refusal(message: String) -> Refusal {
    Refusal { code: 2, message, traceback: None }
}
