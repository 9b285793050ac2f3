//! The rows about proxies: whom to believe, and what.

use super::{PROXIES, Row};
use crate::kind::Kind;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "forwarded_allow_ips",
        flags: &["--forwarded-allow-ips"],
        platform_variable: Some("FORWARDED_ALLOW_IPS"),
        value: "ADDRESSES",
        kind: Kind::Items,
        default: Some("127.0.0.1,::1"),
        group: PROXIES,
        summary: "Trusted proxies, as in 10.0.0.0/8; * trusts everybody",
        details: "The proxies whose headers are believed: addresses and networks, `*` for everybody, or \
            `none`. Whoever comes by a unix socket is trusted, too. What is believed, \
            [the guide](../guides/proxies.md) says.",
        gunicorn: "",
    },
    Row {
        name: "trust_forwarded",
        flags: &["--trust-forwarded"],
        platform_variable: None,
        value: "N",
        kind: Kind::Count { least: 0, most: 16 },
        default: Some("0"),
        group: PROXIES,
        summary: "Take the client's address, scheme and host from N proxies",
        details: "How many trusted proxies stand one behind the other. `REMOTE_ADDR`, the scheme, the \
            host and the port of a request are then what the first of them says: the Nth value \
            from the right. 0 leaves them as the connection has them. Only with a number does a \
            trusted proxy change more than the scheme.",
        gunicorn: "gunicorn does not have it: applications need a middleware for it.",
    },
    Row {
        name: "forwarded_style",
        flags: &["--forwarded-style"],
        platform_variable: None,
        value: "STYLE",
        kind: Kind::Choice { names: &["x-forwarded", "forwarded"], others: &[] },
        default: Some("x-forwarded"),
        group: PROXIES,
        summary: "Which headers trust_forwarded reads",
        details: "`x-forwarded` is `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`; `forwarded` is \
            `Forwarded` (RFC 7239). Name the one that the proxies set: the other one may come \
            from the client.",
        gunicorn: "gunicorn does not have it.",
    },
    Row {
        name: "secure_scheme_headers",
        flags: &["--secure-scheme-headers"],
        platform_variable: None,
        value: "NAME=VALUE",
        kind: Kind::Table,
        default: Some("X-FORWARDED-PROTOCOL=ssl,X-FORWARDED-PROTO=https,X-FORWARDED-SSL=on"),
        group: PROXIES,
        summary: "Headers of trusted proxies that tell https, and how",
        details: "Headers by which a trusted proxy tells that the client came by https, with the value \
            that says so; any other value says http. A request whose headers contradict each \
            other is answered with 400.",
        gunicorn: "gunicorn has it in its file only.",
    },
    Row {
        name: "forwarder_headers",
        flags: &["--forwarder-headers"],
        platform_variable: None,
        value: "NAMES",
        kind: Kind::Items,
        default: Some("SCRIPT_NAME,PATH_INFO"),
        group: PROXIES,
        summary: "Headers with an underscore that trusted proxies may send",
        details: "Headers whose names have an underscore, and that the application gets nevertheless if \
            a trusted proxy sends them; `*` means all. `SCRIPT_NAME` is where the application is \
            mounted: it is taken off the front of the path.",
        gunicorn: "In gunicorn, a path that does not begin with `SCRIPT_NAME` is answered with 500.",
    },
    Row {
        name: "header_map",
        flags: &["--header-map"],
        platform_variable: None,
        value: "WHAT",
        kind: Kind::Choice { names: &["drop", "refuse", "dangerous"], others: &[] },
        default: Some("drop"),
        group: PROXIES,
        summary: "What becomes of other headers with an underscore",
        details: "In the environ, `X_Real_Ip` and `X-Real-Ip` have the same name, so that a client can \
            pass off the one for the other. `drop` leaves the former out, which the log says once \
            for each name; `refuse` answers 400; `dangerous` lets it through.",
        gunicorn: "gunicorn does not say what it drops.",
    },
    Row {
        name: "request_id",
        flags: &["--request-id", "--no-request-id"],
        platform_variable: None,
        value: "",
        kind: Kind::Switch,
        default: Some("true"),
        group: PROXIES,
        summary: "Give each request a name, for logs",
        details: "Each request has a name, by which the lines of several logs find each other: the \
            `X-Request-ID` that a trusted proxy sends, or one that is made here. The application \
            reads it as `HTTP_X_REQUEST_ID`, the access log shows it, and so does a line about \
            an application that failed.",
        gunicorn: "gunicorn does not have it.",
    },
    Row {
        name: "proxy_protocol",
        flags: &["--proxy-protocol"],
        platform_variable: None,
        value: "VERSION",
        kind: Kind::Choice {
            names: &["off", "v1", "v2", "auto"],
            others: &[
                ("true", "auto"),
                ("1", "auto"),
                ("false", "off"),
                ("0", "off"),
                ("none", "off"),
            ],
        },
        default: Some("off"),
        group: PROXIES,
        summary: "Connections begin with the PROXY protocol: v1, v2, auto",
        details: "Each connection from `proxy_allow_ips` must begin with a PROXY header of this \
            version, `auto` is either; without one it is answered with 400. It tells the client's \
            address, and headers are then believed only if that is a trusted proxy. Change it \
            when no connections are open: those that a reload hands over begin as they did. As in \
            gunicorn, `true` is `auto`, `false` is `off`, and the flag alone is `auto`; write it \
            after the application then.",
        gunicorn: "In gunicorn the header may be missing, and headers are believed by the address of \
            the load balancer.",
    },
    Row {
        name: "proxy_allow_ips",
        flags: &["--proxy-allow-from"],
        platform_variable: None,
        value: "ADDRESSES",
        kind: Kind::Items,
        default: Some("127.0.0.1,::1"),
        group: PROXIES,
        summary: "Who speaks the PROXY protocol; * is everybody",
        details: "Addresses and networks, `*` for everybody, or `none`; and whoever comes by a unix \
            socket. Others are clients of their own, whose PROXY header is refused.",
        gunicorn: "",
    },
];
