//! What is told of requests: the access log, as the settings describe it.

use std::io::{self, Write};

use serve_config::Settings;
use serve_net::{AccessLog, Format, Skip};

use crate::logger;

/// Reads what only `serve-net` understands; what it finds odd is logged.
pub(crate) fn check(settings: &Settings) -> Result<(), String> {
    for atom in format(settings)?.unknown() {
        let place = settings.place("access_log_format");
        log::warn!("{place}: %({atom})s is no atom of this version; it becomes -");
    }
    skip(settings).map(drop)
}

/// The access log of one worker.
pub(crate) fn access(settings: &Settings, worker: u16) -> Result<Option<AccessLog>, String> {
    let sink = Sink {
        file: settings.accesslog.is_some(),
        syslog: settings.syslog && !settings.disable_redirect_access_to_syslog,
    };
    if !sink.file && !sink.syslog {
        return Ok(None);
    }
    let log = AccessLog::new(sink).format(format(settings)?, worker.into());
    Ok(Some(log.only(skip(settings)?, settings.access_log_sample)))
}

/// Where access lines go.
struct Sink {
    file: bool,
    syslog: bool,
}

impl Write for Sink {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let written = if self.file { (&logger::ACCESS).write(lines)? } else { lines.len() };
        if self.syslog {
            String::from_utf8_lossy(&lines[..written]).lines().for_each(logger::access_to_syslog);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn format(settings: &Settings) -> Result<Format, String> {
    let text = &settings.access_log_format;
    Format::parse(text)
        .map_err(|error| format!("{}: '{text}' {error}", settings.place("access_log_format")))
}

fn skip(settings: &Settings) -> Result<Vec<Skip>, String> {
    let rule = |text: &String| {
        Skip::parse(text)
            .map_err(|error| format!("{}: '{text}' {error}", settings.place("access_log_skip")))
    };
    settings.access_log_skip.iter().map(rule).collect()
}
