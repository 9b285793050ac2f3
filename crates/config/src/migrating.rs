//! The page for who comes from gunicorn: what becomes of each setting.

use crate::table::{ABSENT, Fate, HOOKS, Row, TABLE};

/// Rows that differ from gunicorn's without being better.
const DIFFERENT: &[&str] = &[
    "raw_env",
    "proc_name",
    "worker_class",
    "threads",
    "worker_connections",
    "umask",
    "loglevel",
    "logconfig",
    "logconfig_json",
    "logconfig_dict",
];

/// The page `docs/migrating-from-gunicorn.md`.
pub fn migrating() -> String {
    let mut page = include_str!("migrating.md").to_owned();
    for row in TABLE.iter().filter(|row| !ours(row)) {
        let verdict = match row.gunicorn {
            "" => "same",
            _ if DIFFERENT.contains(&row.name) => "differs",
            _ => "better",
        };
        page.push_str(&line(row.name, verdict, row.gunicorn));
    }
    for hook in HOOKS {
        let verdict = if hook.gunicorn.is_empty() { "same" } else { "differs" };
        page.push_str(&line(hook.name, verdict, hook.gunicorn));
    }
    for row in ABSENT {
        let verdict = match row.fate {
            Fate::Needless => "not needed",
            Fate::Missing => "no effect",
            Fate::Refused => "cannot be had",
        };
        page.push_str(&line(row.name, verdict, row.advice));
    }
    page
}

/// Whether only this server has it.
fn ours(row: &Row) -> bool {
    row.gunicorn.starts_with("gunicorn does not have it")
}

fn line(name: &str, verdict: &str, text: &str) -> String {
    format!("| `{name}` | {verdict} | {text} |\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_committed_page_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/migrating-from-gunicorn.md");
        let committed = fs::read_to_string(path).unwrap_or_default();
        assert!(committed == migrating(), "docs/migrating-from-gunicorn.md: `make gen`");
    }

    /// gunicorn's settings by name; `config`, `check_config` and `print_config`
    /// are no rows.
    const GUNICORN: &str = "\
        wsgi_app bind backlog workers worker_class threads worker_connections max_requests \
        max_requests_jitter timeout graceful_timeout keepalive asgi_loop asgi_lifespan \
        asgi_disconnect_grace_period websocket_max_message_size http_parser limit_request_line \
        limit_request_fields limit_request_field_size reload reload_engine reload_extra_files spew \
        preload_app sendfile reuse_port chdir daemon raw_env pidfile worker_tmp_dir user group umask \
        initgroups tmp_upload_dir pythonpath paste protocol uwsgi_allow_ips raw_paste_global_conf \
        permit_obsolete_folding strip_header_spaces permit_unconventional_http_method \
        permit_unconventional_http_version casefold_http_method root_path accesslog errorlog loglevel \
        logconfig logconfig_dict logconfig_json logger_class enable_stdio_inheritance enable_backlog_metric proc_name default_proc_name \
        keyfile certfile ca_certs cert_reqs ssl_version ciphers suppress_ragged_eofs \
        do_handshake_on_connect http_protocols http2_cleartext http2_max_concurrent_streams \
        http2_initial_window_size http2_max_frame_size http2_max_header_list_size control_socket \
        control_socket_mode control_socket_disable dirty_apps dirty_workers dirty_timeout \
        dirty_threads dirty_graceful_timeout on_dirty_starting dirty_post_fork dirty_worker_init \
        dirty_worker_exit ssl_context on_starting when_ready on_reload on_exit nworkers_changed \
        pre_fork child_exit post_fork post_worker_init worker_int worker_abort worker_exit \
        pre_request post_request pre_exec";

    #[test]
    fn every_setting_of_gunicorn_has_its_line() {
        let page = migrating();
        for name in GUNICORN.split_whitespace() {
            assert_eq!(page.matches(&format!("| `{name}` |")).count(), 1, "{name}");
        }
    }

    #[test]
    fn what_differs_is_in_the_table() {
        for name in DIFFERENT {
            let row = TABLE.iter().find(|row| row.name == *name).expect(name);
            assert!(!row.gunicorn.is_empty() && !ours(row), "{name}");
        }
    }
}
