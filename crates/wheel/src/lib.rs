//! `serve._serve`: the server as an extension module, for `pip install`. It knows
//! nothing but the command.

use pyo3::prelude::*;

/// The module.
#[pymodule]
mod _serve {
    use std::ffi::OsString;

    use pyo3::prelude::*;

    #[expect(non_upper_case_globals, reason = "its name in Python")]
    #[pymodule_export]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// Does what the command line says; returns the exit code.
    #[pyfunction]
    #[pyo3(signature = (arguments, /))]
    fn main(py: Python<'_>, arguments: Vec<OsString>) -> i32 {
        serve::run(arguments, Some(py))
    }
}
