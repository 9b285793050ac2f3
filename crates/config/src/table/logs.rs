//! The rows about what is told of requests and of the server: logs and metrics.

use super::{LOGS, Row};
use crate::kind::Kind;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "accesslog",
        flags: &["--access-logfile"],
        platform_variable: None,
        value: "FILE",
        kind: Kind::Text,
        default: None,
        group: LOGS,
        summary: "Log each request to this file; - is stdout",
        details: "One line for each request, as `access_log_format` says. `-` is the standard output. \
            When it is not set, requests are not logged.",
        gunicorn: "",
    },
    Row {
        name: "access_log_format",
        flags: &["--access-logformat"],
        platform_variable: None,
        value: "FORMAT",
        kind: Kind::Text,
        default: Some("%(h)s %(l)s %(u)s %(t)s \"%(r)s\" %(s)s %(b)s \"%(f)s\" \"%(a)s\""),
        group: LOGS,
        summary: "What a line of the access log says; json for JSON",
        details: "`json`, or a text with atoms, which [the guide](../guides/logs.md) lists. \
            Whatever a client sends is escaped, so that it cannot forge a line.",
        gunicorn: "gunicorn does not have `json`, and only escapes quotes.",
    },
    Row {
        name: "access_log_skip",
        flags: &["--access-log-skip"],
        platform_variable: None,
        value: "RULE",
        kind: Kind::Items,
        default: Some(""),
        group: LOGS,
        summary: "Log no request like this, as in path=/healthz",
        details: "Rules for requests that are not logged. A rule is one or more tests with spaces \
            between them, which must all hold: `path=/healthz`, `path=/static/*`, \
            `method=OPTIONS`, `agent=kube-probe/*`, `status=304`, `status=2xx`. The path is \
            compared as it was sent, without the query.",
        gunicorn: "gunicorn does not have it.",
    },
    Row {
        name: "access_log_sample",
        flags: &["--access-log-sample"],
        platform_variable: None,
        value: "N",
        kind: Kind::Count { least: 1, most: 1_000_000 },
        default: Some("1"),
        group: LOGS,
        summary: "Log one request in N",
        details: "Each worker logs one of N requests, and every one that was answered with a status \
            of 500 or more.",
        gunicorn: "gunicorn does not have it.",
    },
    Row {
        name: "errorlog",
        flags: &["--error-logfile", "--log-file"],
        platform_variable: None,
        value: "FILE",
        kind: Kind::Text,
        default: Some("-"),
        group: LOGS,
        summary: "Log the server's messages to this file; - is stderr",
        details: "Where the server says what happens: start and stop, workers, errors. `-` is the \
            standard error.",
        gunicorn: "",
    },
    Row {
        name: "loglevel",
        flags: &["--log-level"],
        platform_variable: None,
        value: "LEVEL",
        kind: Kind::Choice {
            names: &["trace", "debug", "info", "warning", "error", "critical"],
            later: &[],
        },
        default: Some("info"),
        group: LOGS,
        summary: "trace, debug, info, warning, error or critical",
        details: "Messages of this level and above are logged: `trace` is everything, `critical` is \
            almost nothing. Upper and lower case are the same.",
        gunicorn: "gunicorn does not have `trace`.",
    },
];
