//! gunicorn's settings that this server has not, and what to do instead.
//!
//! They are read wherever a setting is, so that a gunicorn command line or
//! configuration file works as it is; what comes of it is said in one line.

use serde_json::Value as Json;

/// A setting of gunicorn's without a row in the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Absent {
    /// Its name in config files.
    pub(crate) name: &'static str,
    /// How the command line spells it; may be empty.
    pub(crate) flags: &'static [&'static str],
    /// Whether its flags take a value.
    pub(crate) takes_value: bool,
    /// A value that asks for nothing, beside false and empty ones.
    pub(crate) harmless: Option<&'static str>,
    /// What comes of it.
    pub(crate) fate: Fate,
    /// Why, or what to do instead: continues the sentence of its fate.
    pub(crate) advice: &'static str,
}

/// What comes of a setting that this server has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing is missed without it.
    Needless,
    /// What it asks for does not happen.
    Missing,
    /// To go on without it would be dangerous.
    Refused,
}

impl Absent {
    /// Whether `value` asks for anything.
    pub(crate) fn asks(&self, value: &Json) -> bool {
        match value {
            Json::Null | Json::Bool(false) => false,
            Json::String(text) => {
                !text.is_empty() && self.harmless.is_none_or(|harmless| harmless != text)
            }
            Json::Array(items) => !items.is_empty(),
            Json::Object(items) => !items.is_empty(),
            Json::Bool(true) => true,
            Json::Number(number) => self.harmless != Some(&number.to_string()),
        }
    }

    /// What comes of it, to follow where it was written.
    pub(crate) fn sentence(&self) -> String {
        let verdict = match self.fate {
            Fate::Needless => "is not needed",
            Fate::Missing => "has no effect",
            Fate::Refused => "cannot be had",
        };
        format!("{verdict}: {}", self.advice)
    }

    const fn new(name: &'static str, flags: &'static [&'static str], fate: Fate) -> Self {
        Self { name, flags, takes_value: true, harmless: None, fate, advice: "" }
    }

    const fn switch(self) -> Self {
        Self { takes_value: false, ..self }
    }

    const fn save(self, harmless: &'static str) -> Self {
        Self { harmless: Some(harmless), ..self }
    }

    const fn says(self, advice: &'static str) -> Self {
        Self { advice, ..self }
    }
}

const fn needless(name: &'static str, flags: &'static [&'static str]) -> Absent {
    Absent::new(name, flags, Fate::Needless)
}

const fn missing(name: &'static str, flags: &'static [&'static str]) -> Absent {
    Absent::new(name, flags, Fate::Missing)
}

const fn refused(name: &'static str, flags: &'static [&'static str]) -> Absent {
    Absent::new(name, flags, Fate::Refused)
}

const ASGI: &str = "it is about ASGI, and this server runs WSGI applications";
const STRICT: &str = "such requests are refused, because servers read them differently; \
                      let a proxy in front repair them if clients send them";
const LOGGER: &str = "the server's own lines do not pass through Python's logging; leave requests out \
                      with --access-log-skip, choose the form of lines with --access-logformat and \
                      --log-format, and set up the application's loggers with logconfig_dict";
const CONTEXT: &str = "TLS is not Python's here: the server makes it of certfile, keyfile, ca_certs \
                       and cert_reqs, and a proxy in front can do more";
const HTTP2: &str = "this server speaks HTTP/1.1; a proxy in front can offer HTTP/2 to clients";
const CONTROL: &str = "there is no control socket; signals control the server";
const DIRTY: &str = "there is no second pool of workers; use a task queue for long work";
const PASTE: &str = "PasteDeploy files are not read; name a factory instead, as in \
                     main:create_app()";

/// All of them, in the order of gunicorn's documentation.
pub(crate) static ABSENT: &[Absent] = &[
    missing("asgi_loop", &["--asgi-loop"]).save("auto").says(ASGI),
    missing("asgi_lifespan", &["--asgi-lifespan"]).save("auto").says(ASGI),
    missing("asgi_disconnect_grace_period", &["--asgi-disconnect-grace-period"]).says(ASGI),
    missing("websocket_max_message_size", &["--websocket-max-message-size"]).says(ASGI),
    missing("root_path", &["--root-path"]).says(ASGI),
    needless("http_parser", &["--http-parser"])
        .save("auto")
        .says("requests are always read by compiled code"),
    needless("reload_engine", &["--reload-engine"])
        .save("auto")
        .says("the kernel tells which files change"),
    missing("spew", &["--spew"]).switch().says("py-spy shows what a running worker executes"),
    needless("sendfile", &["--no-sendfile"])
        .switch()
        .says("how a file is sent does not change the response"),
    needless("reuse_port", &["--reuse-port"])
        .switch()
        .says("workers share their sockets, and a worker accepts only while it is idle"),
    needless("worker_tmp_dir", &["--worker-tmp-dir"]).says("heartbeats are in shared memory"),
    needless("tmp_upload_dir", &[]).says(
        "gunicorn does not use it either; TMPDIR is where \
                                          large bodies wait",
    ),
    missing("paste", &["--paste", "--paster"]).says(PASTE),
    missing("raw_paste_global_conf", &["--paste-global"]).says(PASTE),
    refused("protocol", &["--protocol"])
        .save("http")
        .says("requests are read as HTTP only; use proxy_pass in nginx instead of uwsgi_pass"),
    missing("uwsgi_allow_ips", &["--uwsgi-allow-from"])
        .says("the uwsgi protocol is not spoken; use proxy_pass in nginx"),
    missing("permit_obsolete_folding", &["--permit-obsolete-folding"]).switch().says(STRICT),
    missing("strip_header_spaces", &["--strip-header-spaces"]).switch().says(STRICT),
    missing("permit_unconventional_http_method", &["--permit-unconventional-http-method"])
        .switch()
        .says(STRICT),
    missing("permit_unconventional_http_version", &["--permit-unconventional-http-version"])
        .switch()
        .says(STRICT),
    missing("casefold_http_method", &["--casefold-http-method"]).switch().says(STRICT),
    missing("logger_class", &["--logger-class"]).says(LOGGER).save("simple"),
    missing("enable_stdio_inheritance", &["-R", "--enable-stdio-inheritance"])
        .switch()
        .says("a daemon keeps no terminal; name a file with --error-logfile"),
    missing("enable_backlog_metric", &["--enable-backlog-metric"])
        .switch()
        .says("`ss -ltn` shows the queue of a listening socket"),
    needless("default_proc_name", &[]).says("proc_name is the name of the processes"),
    needless("ssl_version", &["--ssl-version"]).says("TLS 1.2 and 1.3 are spoken"),
    missing("ciphers", &["--ciphers"])
        .says("with TLS 1.2 and 1.3, only ciphers that are known to be safe are offered"),
    needless("suppress_ragged_eofs", &["--suppress-ragged-eofs"])
        .switch()
        .says("a connection's end without farewell is not an error"),
    needless("do_handshake_on_connect", &["--do-handshake-on-connect"])
        .switch()
        .says("a handshake keeps nobody waiting"),
    missing("pre_exec", &[])
        .says("after USR2 the new server reads the config file, and calls its on_starting"),
    missing("ssl_context", &[]).says(CONTEXT),
    missing("http_protocols", &["--http-protocols"]).save("h1").says(HTTP2),
    missing("http2_cleartext", &["--http2-cleartext"]).save("off").says(HTTP2),
    missing("http2_max_concurrent_streams", &["--http2-max-concurrent-streams"]).says(HTTP2),
    missing("http2_initial_window_size", &["--http2-initial-window-size"]).says(HTTP2),
    missing("http2_max_frame_size", &["--http2-max-frame-size"]).says(HTTP2),
    missing("http2_max_header_list_size", &["--http2-max-header-list-size"]).says(HTTP2),
    missing("control_socket", &["--control-socket"]).says(CONTROL),
    missing("control_socket_mode", &["--control-socket-mode"]).says(CONTROL),
    needless("control_socket_disable", &["--no-control-socket"]).switch().says(CONTROL),
    missing("dirty_apps", &["--dirty-app"]).says(DIRTY),
    missing("dirty_workers", &["--dirty-workers"]).save("0").says(DIRTY),
    missing("dirty_timeout", &["--dirty-timeout"]).says(DIRTY),
    missing("dirty_threads", &["--dirty-threads"]).says(DIRTY),
    missing("dirty_graceful_timeout", &["--dirty-graceful-timeout"]).says(DIRTY),
    missing("on_dirty_starting", &[]).says(DIRTY),
    missing("dirty_post_fork", &[]).says(DIRTY),
    missing("dirty_worker_init", &[]).says(DIRTY),
    missing("dirty_worker_exit", &[]).says(DIRTY),
];
