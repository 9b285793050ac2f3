//! The rows that are for whoever writes the application.

use super::{DEVELOPMENT, Row};
use crate::kind::Kind;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "reload",
        flags: &["--reload", "--no-reload"],
        platform_variable: None,
        value: "",
        kind: Kind::Switch,
        default: Some("false"),
        group: DEVELOPMENT,
        summary: "Reload when a source file changes",
        details: "When a `.py` file is saved in the working directory, in `pythonpath` or below, the \
            server reloads, as with HUP: code that does not load is shown in the log, and what \
            was there serves on. At the first start nothing is there yet: code that does not load \
            ends it with exit code 3. Hidden folders, virtual environments and `node_modules` are not \
            watched. Without `workers` there is one. For development: a server that clients use \
            is reloaded by HUP.",
        gunicorn: "In gunicorn, code that does not load stops the worker, and loaded modules alone are \
            watched.",
    },
    Row {
        name: "reload_extra_files",
        flags: &["--reload-extra-file"],
        platform_variable: None,
        value: "FILE",
        kind: Kind::Items,
        default: Some(""),
        group: DEVELOPMENT,
        summary: "Reload when this file changes, too; repeatable",
        details: "More files that `reload` watches: paths, or patterns such as \
            `templates/**/*.html`, from the working directory.",
        gunicorn: "",
    },
];
