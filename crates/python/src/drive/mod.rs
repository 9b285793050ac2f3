//! The drivers: who sleeps, on what, and where the application runs.

mod relay;
pub mod sync;
pub(crate) mod watch;
