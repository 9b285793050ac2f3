//! The rows about what a request may cost: timeouts and limits.

use super::{ABOVE_ZERO, FROM_ZERO, LIMITS, Row, TIMEOUTS};
use crate::kind::Kind;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "timeout",
        flags: &["-t", "--timeout"],
        platform_variable: None,
        value: "TIME",
        kind: FROM_ZERO,
        default: Some("30"),
        group: TIMEOUTS,
        summary: "Limit of a request (sync) or of a worker's silence; 0 is never",
        details: "A request that takes this long in a `sync` worker is answered with 504 and \
            interrupted, and its stacks are logged; the worker goes on. A worker that has made \
            no progress five seconds later is stuck: it is logged and replaced. A client that \
            is slow to read does not count. In a `threads` worker it is no limit of a request, \
            only of a worker that is silent because none of its threads can run Python any more. \
            In an `async` worker, it is a request that keeps all others waiting for this long \
            that is ended. `request_timeout` is the limit of a request in every class. 0 means never. A time is a number of seconds, or has a unit: `500ms`, \
            `30s`, `2m`, `1h`.",
        gunicorn: "In gunicorn, times are whole seconds, and the worker is always replaced.",
    },
    Row {
        name: "request_timeout",
        flags: &["--request-timeout"],
        platform_variable: None,
        value: "TIME",
        kind: FROM_ZERO,
        default: Some("0"),
        group: TIMEOUTS,
        summary: "End a request that takes this long with 504; 0 is never",
        details: "A request that the application takes longer for is answered with 504, and is \
            interrupted: `serve.RequestTimeout` is raised in it. The worker is replaced only if \
            the request does not let go. 0 means never.",
        gunicorn: "gunicorn does not have it: `timeout` ends the worker and cuts the connection.",
    },
    Row {
        name: "graceful_timeout",
        flags: &["--graceful-timeout"],
        platform_variable: None,
        value: "TIME",
        kind: FROM_ZERO,
        default: Some("30"),
        group: TIMEOUTS,
        summary: "Time to finish requests at a stop or reload",
        details: "When the server stops (TERM) or reloads (HUP), requests that have begun may go on for \
            this long; then the worker is killed. 0 means that nothing is waited for.",
        gunicorn: "",
    },
    Row {
        name: "drain_delay",
        flags: &["--drain-delay"],
        platform_variable: None,
        value: "TIME",
        kind: FROM_ZERO,
        default: Some("0"),
        group: TIMEOUTS,
        summary: "Keep accepting for this long after TERM",
        details: "A load balancer needs a moment to learn that the server stops. For this long after \
            TERM, new connections are still accepted and served, and only then the graceful stop \
            begins. Set the time that a container platform allows for a stop to more than this \
            and `graceful_timeout` together.",
        gunicorn: "gunicorn does not have it.",
    },
    Row {
        name: "keepalive",
        flags: &["--keep-alive"],
        platform_variable: None,
        value: "TIME",
        kind: FROM_ZERO,
        default: Some("75"),
        group: TIMEOUTS,
        summary: "Keep idle connections this long; 0 closes at once",
        details: "How long a connection may wait for its next request. It should be longer than the \
            idle time of a load balancer in front (often 60 seconds), which otherwise sends a \
            request just as the connection closes. Idle connections hold no worker. 0 closes \
            every connection after its response.",
        gunicorn: "In gunicorn the default is 2 seconds, and the `sync` worker never keeps a connection.",
    },
    Row {
        name: "header_timeout",
        flags: &["--header-timeout"],
        platform_variable: None,
        value: "TIME",
        kind: ABOVE_ZERO,
        default: Some("20"),
        group: TIMEOUTS,
        summary: "Time for a client to send a request's head",
        details: "A client that has begun a request and has not sent its whole head by then is \
            answered with 408 and disconnected. A TLS handshake has the same time.",
        gunicorn: "gunicorn does not have it: a client that sends nothing can hold a worker.",
    },
    Row {
        name: "write_timeout",
        flags: &["--write-timeout"],
        platform_variable: None,
        value: "TIME",
        kind: ABOVE_ZERO,
        default: Some("60"),
        group: TIMEOUTS,
        summary: "Time for a client to take more of a response",
        details: "A client that reads nothing at all of its response for this long is disconnected. \
            A slow one that makes progress is not.",
        gunicorn: "gunicorn does not have it.",
    },
    Row {
        name: "boot_timeout",
        flags: &["--boot-timeout"],
        platform_variable: None,
        value: "TIME",
        kind: ABOVE_ZERO,
        default: Some("60"),
        group: TIMEOUTS,
        summary: "Time for a worker to load the application",
        details: "A worker that is not ready by then counts as one that cannot start: the first start \
            fails, a reload is given up and the old workers keep serving.",
        gunicorn: "gunicorn does not have it: `timeout` applies.",
    },
    Row {
        name: "limit_request_line",
        flags: &["--limit-request-line"],
        platform_variable: None,
        value: "N",
        kind: Kind::Count { least: 0, most: 1_048_576 },
        default: Some("4094"),
        group: LIMITS,
        summary: "Longest request line; 0 is unlimited",
        details: "The longest first line of a request (method, target, version); a longer one is \
            answered with 414. With 0 only the bound on the whole head remains.",
        gunicorn: "In gunicorn, values above 8190 count as 8190.",
    },
    Row {
        name: "limit_request_fields",
        flags: &["--limit-request-fields"],
        platform_variable: None,
        value: "N",
        kind: Kind::Count { least: 0, most: 32_768 },
        default: Some("100"),
        group: LIMITS,
        summary: "Most header fields of a request; 0 is unlimited",
        details: "A request with more header fields is answered with 431. With 0 only the bound on the \
            whole head remains.",
        gunicorn: "In gunicorn, 0 means 32768.",
    },
    Row {
        name: "limit_request_field_size",
        flags: &["--limit-request-field-size", "--limit-request-field_size"],
        platform_variable: None,
        value: "N",
        kind: Kind::Count { least: 0, most: 1_048_576 },
        default: Some("8190"),
        group: LIMITS,
        summary: "Longest header field; 0 is unlimited",
        details: "A request with a longer header field is answered with 431. With 0 only the bound on \
            the whole head remains.",
        gunicorn: "In gunicorn, 0 means 8190, against its documentation, and the flag is spelled \
            `--limit-request-field_size`, which works here too.",
    },
    Row {
        name: "max_body_size",
        flags: &["--max-body-size"],
        platform_variable: None,
        value: "SIZE",
        kind: Kind::Size,
        default: Some("0"),
        group: LIMITS,
        summary: "Largest body, as in 10M; 0 is unlimited",
        details: "A request with a larger body is answered with 413, before the application sees it. \
            A size is a number of bytes, or has a unit: `512k`, `10M`, `1G` (powers of 1024). 0 \
            means unlimited.",
        gunicorn: "gunicorn does not have it.",
    },
    Row {
        name: "queue_limit",
        flags: &["--queue-limit"],
        platform_variable: None,
        value: "N",
        kind: Kind::Count { least: 0, most: 1_000_000 },
        default: Some("0"),
        group: LIMITS,
        summary: "Most requests that may wait for a worker; 0 is unlimited",
        details: "When this many whole requests wait for the application in a worker, and this many \
            are handed over and wait for any worker, a further one is answered with 503 and \
            `Retry-After` at once. 0 means unlimited.",
        gunicorn: "gunicorn does not have it.",
    },
    Row {
        name: "queue_timeout",
        flags: &["--queue-timeout"],
        platform_variable: None,
        value: "TIME",
        kind: FROM_ZERO,
        default: Some("0"),
        group: LIMITS,
        summary: "Longest wait of a request for a worker; 0 is unlimited",
        details: "A whole request that has waited this long for the application is answered with 503 \
            and `Retry-After`, and does not reach it. The time begins with its last byte; on a \
            unix socket not before its connection is accepted. 0 means unlimited.",
        gunicorn: "gunicorn does not have it.",
    },
];
