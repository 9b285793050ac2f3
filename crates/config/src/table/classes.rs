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
            from a buffer. `threads` (also `gthread`) runs up to `threads` requests at a \
            time, each on a thread of its own, for applications that wait a lot and may be called \
            by several threads. `async` runs each request in a greenlet of gevent, so that thousands can \
            wait at once; the standard library is patched before the application is imported. \
            `gevent` is the same, and insists on gevent; without it, `async` means threads. [Which one?](../concepts/workers.md) tells more.",
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
        summary: "Requests at the same time in a worker of class threads",
        details: "How many threads of a worker may run the application, each one request at a time. \
            They are started when they are needed and kept. More than 1 with the class `sync` \
            means the class `threads`.",
        gunicorn: "gunicorn starts all of them at once.",
    },
    Row {
        name: "thread_stack_size",
        flags: &["--thread-stack-size"],
        platform_variable: None,
        value: "SIZE",
        kind: Kind::Size,
        default: Some("0"),
        group: WORKERS,
        summary: "Stack of each of those threads",
        details: "With hundreds of threads, less than the system's own (8 MiB as a rule) saves address \
            space, which some containers limit; it costs memory only where it is used. Deep \
            recursion and some C libraries need a lot. 0 leaves it to the system; the least is \
            `32k`.",
        gunicorn: "gunicorn does not have it.",
    },
    Row {
        name: "worker_connections",
        flags: &["--worker-connections"],
        platform_variable: None,
        value: "N",
        kind: Kind::Count { least: 1, most: 1_000_000 },
        default: Some("1000"),
        group: WORKERS,
        summary: "Requests that an async worker may have at once",
        details: "An `async` worker that has this many requests in flight begins no other, and accepts no \
            connection, until one has ended; its other requests wait, or go to another worker. A \
            connection that is idle, or whose request has not arrived whole, does not count. Each \
            connection takes a file descriptor, so the limit of those (`ulimit -n`) must be higher. \
            It has no effect on a `sync` worker.",
        gunicorn: "gunicorn counts connections, idle ones as well, and bounds those of `gthread`, too.",
    },
];
