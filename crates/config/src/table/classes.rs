//! The rows about how a worker runs the application.

use super::{Row, WORKERS};
use crate::kind::Kind;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "worker_class",
        flags: &["-k", "--worker-class"],
        platform_variable: None,
        value: "CLASS",
        kind: Kind::Class,
        default: Some("sync"),
        group: WORKERS,
        summary: "How a worker runs the application: sync, threads or async",
        details: "`sync` runs one request at a time in each worker. Slow clients do not hold a worker \
            up: a request reaches the application when it is whole, and its response is sent \
            from a buffer. `threads` (also `gthread`) and `async` (also `gevent`) are names that \
            this version knows and refuses.",
        gunicorn: "gunicorn has more classes and takes import paths; those of its own classes work here, \
            too. Its `sync` is held up by slow clients.",
    },
    Row {
        name: "threads",
        flags: &["--threads"],
        platform_variable: None,
        value: "N",
        kind: Kind::Count { least: 1, most: 10_000 },
        default: Some("1"),
        group: WORKERS,
        summary: "Requests that a worker of class threads runs at a time",
        details: "How many requests each worker runs side by side, each in a thread of its own. It has \
            no effect on a `sync` worker.",
        gunicorn: "In gunicorn, `sync` with more than one thread becomes `gthread`.",
    },
    Row {
        name: "worker_connections",
        flags: &["--worker-connections"],
        platform_variable: None,
        value: "N",
        kind: Kind::Count { least: 1, most: 1_000_000 },
        default: Some("1000"),
        group: WORKERS,
        summary: "Requests that a worker of class async runs at a time",
        details: "How many requests a worker runs side by side when they wait for each other without \
            threads. It has no effect on a `sync` worker.",
        gunicorn: "In gunicorn it counts connections, and bounds those of `gthread`, too.",
    },
];
