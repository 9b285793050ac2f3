//! `wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling"):
//! a real file goes to the client by sendfile(2), anything else is iterated.

use std::fs::File;
use std::os::fd::BorrowedFd;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// What `environ["wsgi.file_wrapper"]` makes.
#[pyclass(module = "serve", name = "FileWrapper")]
pub(crate) struct FileWrapper {
    filelike: Py<PyAny>,
    block_size: usize,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, block_size=8192))]
    fn new(filelike: Py<PyAny>, block_size: usize) -> Self {
        Self { filelike, block_size }
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let block = self.filelike.bind(py).call_method1("read", (self.block_size,))?;
        let empty = match block.cast::<PyBytes>() {
            Ok(bytes) => bytes.as_bytes().is_empty(),
            Err(_) => block.is_empty()?,
        };
        Ok((!empty).then_some(block))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let filelike = self.filelike.bind(py);
        if filelike.hasattr("close")? {
            filelike.call_method0("close")?;
        }
        Ok(())
    }
}

impl FileWrapper {
    /// A regular file, where it stands and how much is left of it; `None` when
    /// it is something else, and must be iterated.
    pub(crate) fn regular(&self, py: Python<'_>) -> Option<(File, u64, u64)> {
        let real = unwrapped(self.filelike.bind(py))?;
        // What the application wrote may still be in Python's buffer.
        real.call_method0("flush").ok()?;
        let fd: i32 = real.call_method0("fileno").ok()?.extract().ok().filter(|fd| *fd >= 0)?;
        let offset: u64 = real.call_method0("tell").ok()?.extract().ok()?;
        // SAFETY: only borrowed for dup(2); the application's object owns it and
        // is alive, as `self` holds it.
        let copy = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().ok()?;
        let file = File::from(copy);
        let meta = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let left = meta.len().saturating_sub(offset);
        // Those of /proc have bytes, and no length: to read tells.
        (left > 0).then_some((file, offset, left))
    }
}

/// The file whose bytes are the content. Many objects have a `fileno` that is
/// not: a `GzipFile` gives the compressed file's, and any subclass may `read`
/// something else. So only the very types of `open()` and `tempfile` count.
fn unwrapped<'py>(filelike: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let named = filelike.get_type().fully_qualified_name().ok()?;
    let file = match named.to_str().ok()? {
        "tempfile._TemporaryFileWrapper" => filelike.getattr("file").ok()?,
        _ => filelike.clone(),
    };
    let io = filelike.py().import("io").ok()?;
    let is = |object: &Bound<'py, PyAny>, class: &str| {
        io.getattr(class).is_ok_and(|class| object.get_type().is(&class))
    };
    let raw = if is(&file, "BufferedReader") || is(&file, "BufferedRandom") {
        file.getattr("raw").ok()?
    } else {
        file.clone()
    };
    is(&raw, "FileIO").then_some(file)
}
