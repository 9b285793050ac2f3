//! A context (`contextvars`) for each request: what the import of the application
//! has set is there, and what a request sets is there for nobody else.

use pyo3::ffi;
use pyo3::prelude::*;

/// What each request begins with.
pub(super) struct Context(Py<PyAny>);

impl Context {
    /// What is set now.
    pub(super) fn current(py: Python<'_>) -> PyResult<Self> {
        // SAFETY: attached; a new reference, or null with an exception set.
        let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) };
        context.map(|context| Self(context.unbind()))
    }

    /// As `copy().run(act)` in Python.
    ///
    /// # Errors
    /// When the greenlet is in another context after `act`.
    pub(super) fn run(&self, py: Python<'_>, act: impl FnOnce()) -> PyResult<()> {
        // SAFETY: attached, and ours is a context; as above.
        let copy =
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_Copy(self.0.as_ptr()))? };
        // SAFETY: attached, and it is a context.
        if unsafe { ffi::PyContext_Enter(copy.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        act();
        // SAFETY: the same.
        match unsafe { ffi::PyContext_Exit(copy.as_ptr()) } {
            0 => Ok(()),
            _ => Err(PyErr::fetch(py)),
        }
    }
}
