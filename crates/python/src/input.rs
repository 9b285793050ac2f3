//! `wsgi.input`: a request body that has arrived, as a binary file to read.

use std::os::unix::fs::FileExt;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serve_net::Body;

/// How much of a spooled body is searched for a line end at once.
const PIECE: usize = 8192;

/// `read`, `readline`, `readlines` and iteration (PEP 3333, "Input and Error
/// Streams"); the end of the body is the end of the file.
#[pyclass(module = "serve")]
pub(crate) struct Input {
    body: Body,
    position: u64,
}

impl Input {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, position: 0 }
    }

    /// The body of another request.
    pub(crate) fn renew(&mut self, body: Body) {
        *self = Self::new(body);
    }

    /// Bytes that have not been read.
    pub(crate) fn left(&self) -> u64 {
        self.body.len() - self.position
    }

    /// A negative or missing size means everything.
    fn wanted(&self, size: Option<i64>) -> usize {
        let size = size.and_then(|size| u64::try_from(size).ok()).unwrap_or(u64::MAX);
        usize::try_from(self.left().min(size)).unwrap_or(usize::MAX)
    }

    fn take<'py>(&mut self, py: Python<'py>, count: usize) -> PyResult<Bound<'py, PyBytes>> {
        let at = self.position;
        self.position += count as u64;
        match &self.body {
            Body::Memory(bytes) => {
                let at = usize::try_from(at).unwrap_or(bytes.len());
                Ok(PyBytes::new(py, &bytes[at..at + count]))
            }
            Body::File(file, _) => PyBytes::new_with(py, count, |buffer| {
                file.read_exact_at(buffer, at)
                    .map_err(|error| PyOSError::new_err(error.to_string()))
            }),
        }
    }

    /// Length of the next line, its newline included, but at most `limit`.
    fn line(&self, limit: usize) -> PyResult<usize> {
        match &self.body {
            Body::Memory(bytes) => {
                let at = usize::try_from(self.position).unwrap_or(bytes.len());
                let rest = &bytes[at..at + limit];
                Ok(newline(rest).unwrap_or(limit))
            }
            Body::File(file, _) => {
                let mut piece = [0; PIECE];
                let mut found = 0;
                while found < limit {
                    let want = PIECE.min(limit - found);
                    file.read_exact_at(&mut piece[..want], self.position + found as u64)
                        .map_err(|error| PyOSError::new_err(error.to_string()))?;
                    if let Some(end) = newline(&piece[..want]) {
                        return Ok(found + end);
                    }
                    found += want;
                }
                Ok(limit)
            }
        }
    }
}

fn newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n').map(|index| index + 1)
}

#[pymethods]
impl Input {
    #[pyo3(signature = (size=None, /))]
    fn read<'py>(&mut self, py: Python<'py>, size: Option<i64>) -> PyResult<Bound<'py, PyBytes>> {
        let count = self.wanted(size);
        self.take(py, count)
    }

    #[pyo3(signature = (size=None, /))]
    fn readline<'py>(
        &mut self,
        py: Python<'py>,
        size: Option<i64>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let count = self.line(self.wanted(size))?;
        self.take(py, count)
    }

    /// All lines, or those that reach `hint` bytes.
    #[pyo3(signature = (hint=None, /))]
    fn readlines<'py>(
        &mut self,
        py: Python<'py>,
        hint: Option<i64>,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let enough = hint.filter(|hint| *hint > 0).and_then(|hint| u64::try_from(hint).ok());
        let end = enough.map_or(u64::MAX, |enough| self.position.saturating_add(enough));
        let mut lines = Vec::new();
        while self.left() > 0 && self.position < end {
            lines.push(self.readline(py, None)?);
        }
        Ok(lines)
    }

    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if self.left() == 0 { Ok(None) } else { self.readline(py, None).map(Some) }
    }
}
