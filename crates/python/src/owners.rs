//! How many references an object has: whether an application has kept what it
//! was lent for one request.

use pyo3::ffi;
use pyo3::prelude::*;

/// The references to `object`, this one included.
pub(crate) fn owners<T>(_attached: Python<'_>, object: &Py<T>) -> isize {
    // SAFETY: attached, and `object` holds a reference, so that the object lives.
    // Safe PyO3 has this only as deprecated.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}
