//! What a call of the application needs of the driver that runs it.

use std::time::Duration;

use pyo3::prelude::*;
use serve_net::{ExchangeId, Sent};

use crate::timeout;

/// A driver, as the calls that it runs see it. Called where the application
/// runs, attached to the interpreter.
pub(crate) trait Host: Send + Sync {
    /// Waits until the client of `id` has read enough to take more, or has gone.
    /// Other requests, and all connections, go on meanwhile as the driver has it.
    ///
    /// # Errors
    /// What a signal handler of the application raised, and RequestTimeout.
    fn room(&self, py: Python<'_>, id: ExchangeId) -> PyResult<Sent>;

    /// Whether the client of `id` has been answered in the application's place.
    fn is_overdue(&self, id: ExchangeId) -> bool;

    /// Whether `error` is how the driver ends the request of `id`: no failure of
    /// the application's.
    fn has_ended(&self, py: Python<'_>, id: ExchangeId, error: &PyErr) -> bool {
        self.is_overdue(id)
            && timeout::exception(py).is_ok_and(|timeout| error.is_instance(py, &timeout))
    }
    /// The application has taken the connection of `id` over: there is nobody left
    /// whom an answer in its place could reach. Its method and path, for the log.
    fn detached(&self, id: ExchangeId, request: Option<String>);

    /// From now on the request that calls has `more` time; too late once its
    /// time is over.
    fn extend(&self, more: Duration);
}
