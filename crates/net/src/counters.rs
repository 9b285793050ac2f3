//! What a reactor has done since it began.

/// Numbers that only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections taken from the listeners' queues.
    pub accepted: u64,
    /// Requests the application has finished with.
    pub finished: u64,
    /// Requests answered 503 instead of being run.
    pub shed: u64,
    /// Requests answered while the application was still at them.
    pub timed_out: u64,
    /// Requests not run because their client had gone.
    pub abandoned: u64,
    /// Connections put for other workers.
    pub handed_over: u64,
    /// Connections that other workers had put.
    pub taken: u64,
}
