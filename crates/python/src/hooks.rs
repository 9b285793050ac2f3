//! The hooks of a configuration, from the server's side: when what has happened
//! is told to Python (`_hooks.py`), which calls the functions.
//!
//! Hooks are collected where the configuration is evaluated, in the mold; its
//! workers have them by the fork.

use std::collections::BTreeMap;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::call::PyCallArgs;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCFunction, PyDict};

use crate::app::{App, Refusal, built_in, call};
use crate::errors::trace;
use crate::{fork, logging, module};

/// What a hook may wait for.
#[derive(Debug)]
pub enum Moment<'a> {
    /// In the first mold, before the application is loaded.
    Starting,
    /// The first worker ever is ready.
    Serving,
    /// In a later mold, before its first fork.
    Reloading,
    /// The server has stopped.
    Exiting,
    /// How many workers there are to be, and were to be until now.
    Resized(u16, Option<u16>),
    /// The worker of this number is to be forked.
    Forking(u16),
    /// The worker of this number is no more; its process, if it had one.
    Died(u16, Option<i32>),
    /// In a worker, first of all.
    Forked,
    /// In a worker: it has its application.
    Loaded(&'a App),
    /// In a worker that was told to quit.
    Quitting,
    /// In a worker, whose request is over its time.
    Late,
    /// In a worker, last of all.
    Leaving,
}

/// The hooks of a configuration; at least one.
#[derive(Debug)]
pub struct Hooks {
    object: Py<PyAny>,
    /// Those around a request, if there are any.
    around: Option<Around>,
    /// How many requests this process has begun.
    served: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Around {
    before: Py<PyAny>,
    after: Py<PyAny>,
}

impl Hooks {
    /// Those among the names that a configuration defines; `None`: there is none.
    ///
    /// # Errors
    /// When the interpreter lacks a module of its own.
    pub fn collect(py: Python<'_>, names: &Bound<'_, PyDict>) -> Result<Option<Self>, Refusal> {
        if names.is_empty() {
            return Ok(None);
        }
        let found = call(&built_in(py, "_hooks")?, "collect", (names,))?;
        let hooks = |found: Bound<'_, PyAny>| Self {
            object: found.unbind(),
            around: None,
            served: Arc::default(),
        };
        Ok(Some(found).filter(|found| !found.is_none()).map(hooks))
    }

    /// Imports those that are import paths, and looks whether all can be called as
    /// they will be. `settings` is a JSON object, and `places` tells where each
    /// name was written.
    ///
    /// # Errors
    /// Code 2: what is wrong with one of them.
    pub fn resolve(
        &mut self,
        py: Python<'_>,
        settings: &str,
        places: &BTreeMap<String, String>,
    ) -> Result<(), Refusal> {
        let module = built_in(py, "_hooks")?;
        let served = self.served.clone();
        let broken = |error: PyErr| Refusal {
            code: 3,
            message: format!("the Python installation is broken: {error}"),
            traceback: None,
        };
        let count =
            PyCFunction::new_closure(py, None, None, move |_, _| served.load(Ordering::Relaxed));
        let (count, handler) = (count.map_err(broken)?, logging::handler(py)?);
        let ended = module::request_timeout(py).map_err(broken)?;
        let object = self.object.bind(py);
        let resolved =
            object.call_method1("resolve", (settings, places.clone(), handler, count, ended));
        resolved.map_err(|error| crate::app::refused(&module, &error))?;
        let around = object.call_method0("has_request_hooks").and_then(|has| has.is_truthy());
        if around.map_err(broken)? {
            let method = |name| object.getattr(name).map(Bound::unbind).map_err(broken);
            self.around = Some(Around { before: method("before")?, after: method("after")? });
        }
        Ok(())
    }

    /// Calls the hook that waits for this.
    pub fn tell(&self, py: Python<'_>, moment: Moment<'_>) {
        match moment {
            Moment::Starting => self.call(py, "starting", ()),
            Moment::Serving => self.call(py, "serving", ()),
            Moment::Reloading => self.call(py, "reloading", ()),
            Moment::Exiting => self.call(py, "exiting", ()),
            Moment::Resized(now, before) => self.call(py, "resized", (now, before)),
            Moment::Forking(worker) => self.call(py, "forking", (worker,)),
            Moment::Died(worker, pid) => self.call(py, "died", (worker, pid)),
            Moment::Forked => self.call(py, "forked", ()),
            Moment::Loaded(app) => self.call(py, "loaded", (&app.0,)),
            Moment::Quitting => self.call(py, "quitting", ()),
            Moment::Late => self.call(py, "late", ()),
            Moment::Leaving => self.call(py, "leaving", ()),
        }
    }

    fn call<'py>(&self, py: Python<'py>, method: &str, arguments: impl PyCallArgs<'py>) {
        let pid = process::id();
        if let Err(error) = self.object.bind(py).call_method1(method, arguments) {
            log::error!("cannot call a hook\n{}", trace(py, &error));
        }
        fork::end_unless(py, pid);
    }

    /// A request begins. Returns what [`Hooks::after`] is to be given.
    ///
    /// # Errors
    /// What ends the request: the application is not to be called.
    pub(crate) fn before<'py>(
        &self,
        environ: &Bound<'py, PyDict>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.served.fetch_add(1, Ordering::Relaxed);
        let Some(around) = &self.around else { return Ok(None) };
        around.before.bind(environ.py()).call1((environ,)).map(Some)
    }

    /// A request has ended, with a response of this head.
    pub(crate) fn after(
        &self,
        request: &Bound<'_, PyAny>,
        environ: &Bound<'_, PyDict>,
        head: &Bound<'_, PyBytes>,
    ) {
        let Some(around) = &self.around else { return };
        let py = environ.py();
        // What was to end the request came late.
        if let Err(error) = around.after.bind(py).call1((request, environ, head)) {
            log::error!("the hook post_request was ended: {error}");
        }
    }
}
