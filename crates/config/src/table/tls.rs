//! The rows about TLS.

use super::{Row, TLS};
use crate::kind::Kind;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "certfile",
        flags: &["--certfile"],
        platform_variable: None,
        value: "FILE",
        kind: Kind::Text,
        default: None,
        group: TLS,
        summary: "Serve https with the certificate in this file (PEM)",
        details: "A file in PEM format: the server's certificate, behind it those of the authorities in \
            between, and its private key unless `keyfile` names another file. With it, all \
            addresses of `bind` speak TLS, in version 1.2 or 1.3. It is read when the server \
            starts and at each reload, before it becomes `user`: [the guide](../guides/tls.md).",
        gunicorn: "gunicorn reads it for each connection, as `user`.",
    },
    Row {
        name: "keyfile",
        flags: &["--keyfile"],
        platform_variable: None,
        value: "FILE",
        kind: Kind::Text,
        default: None,
        group: TLS,
        summary: "The private key of the certificate (PEM)",
        details: "A file in PEM format with the private key, which has no password: RSA, ECDSA on P-256 \
            or P-384, or Ed25519.",
        gunicorn: "",
    },
    Row {
        name: "ca_certs",
        flags: &["--ca-certs"],
        platform_variable: None,
        value: "FILE",
        kind: Kind::Text,
        default: None,
        group: TLS,
        summary: "Who vouches for clients: certificates of authorities (PEM)",
        details: "A file in PEM format with the certificates of the authorities by which clients' \
            certificates are checked, if `cert_reqs` asks for one.",
        gunicorn: "",
    },
    Row {
        name: "cert_reqs",
        flags: &["--cert-reqs"],
        platform_variable: None,
        value: "N",
        kind: Kind::Count { least: 0, most: 2 },
        default: Some("0"),
        group: TLS,
        summary: "Whether clients need a certificate: 0 no, 1 optional, 2 yes",
        details: "With 0, clients are not asked for a certificate. With 1 they are, and one without is \
            served, too. With 2 it is not. A certificate that none of `ca_certs` vouches for ends \
            the connection in both cases; the application finds a good one in the environ, as \
            `SSL_CLIENT_CERT`. The numbers are those of Python's `ssl.CERT_NONE`, \
            `CERT_OPTIONAL` and `CERT_REQUIRED`.",
        gunicorn: "",
    },
];
