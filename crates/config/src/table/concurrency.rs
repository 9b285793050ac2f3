//! The rows about how many requests a worker has at once.

use super::{CONCURRENCY, Row};
use crate::kind::Kind;

pub(super) const ROWS: &[Row] = &[Row {
    name: "worker_connections",
    flags: &["--worker-connections"],
    platform_variable: None,
    value: "N",
    kind: Kind::Count { least: 1, most: 1_000_000 },
    default: Some("1000"),
    group: CONCURRENCY,
    summary: "Requests that an async worker may have at once",
    details: "An `async` worker that has this many requests in flight begins no other, and accepts no \
        connection, until one has ended; its other requests wait, or go to another worker. A \
        connection that is idle, or whose request has not arrived whole, does not count. Each \
        connection takes a file descriptor, so the limit of those (`ulimit -n`) must be higher.",
    gunicorn: "gunicorn counts connections, and idle ones as well.",
}];
