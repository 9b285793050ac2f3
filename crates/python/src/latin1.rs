//! "Native strings" of PEP 3333: `str` whose code points are bytes.

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::types::string::PyStringData;

/// Bytes from the network as a `str`, each byte one code point.
pub(crate) fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    // SAFETY: attached; the bytes are read during the call. A `Vec` or slice is
    // never longer than isize::MAX. Safe PyO3 only decodes UTF-8. The result is
    // a new reference to a str, or null when memory has run out.
    unsafe {
        let object = ffi::PyUnicode_DecodeLatin1(
            bytes.as_ptr().cast(),
            bytes.len().cast_signed(),
            std::ptr::null(),
        );
        Bound::from_owned_ptr(py, object).cast_into_unchecked()
    }
}

/// A `str` from the application as bytes, those that it keeps itself.
///
/// # Errors
/// `ValueError` when a character is not in latin-1.
pub(crate) fn encode<'a>(text: &'a Bound<'_, PyString>) -> PyResult<&'a [u8]> {
    // SAFETY: how CPython marks a string's kind is as PyO3 reads it on x86-64 and
    // aarch64 (both little-endian), which the tests of header values show; the
    // string outlives the slice, and never changes.
    match unsafe { text.data() }? {
        // Only as wide as its widest character: one byte each, if all are latin-1.
        PyStringData::Ucs1(bytes) => Ok(bytes),
        wider => {
            let text = wider.to_string_lossy();
            let character = text.chars().find(|&character| character > '\u{ff}');
            let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
            Err(PyValueError::new_err(format!(
                "{character:?} in {text:?} is not a latin-1 character; encode it first (PEP 3333)"
            )))
        }
    }
}
