//! "Native strings" of PEP 3333: `str` whose code points are bytes.

use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

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

/// Appends a `str` from the application to `out` as bytes.
///
/// # Errors
/// `ValueError` when a character is not in latin-1.
pub(crate) fn encode(text: &Bound<'_, PyString>, out: &mut Vec<u8>) -> PyResult<()> {
    let utf8 = text.to_str()?;
    if utf8.is_ascii() {
        out.extend_from_slice(utf8.as_bytes());
        return Ok(());
    }
    for character in utf8.chars() {
        let byte = u8::try_from(character).map_err(|_| {
            PyValueError::new_err(format!(
                "{character:?} in {utf8:?} is not a latin-1 character; encode it first (PEP 3333)"
            ))
        })?;
        out.push(byte);
    }
    Ok(())
}
