//! The error log: `log` and `env_logger` onto stderr or a file that can be
//! opened anew, and the same kind of file for the access log.
//!
//! One record is one write, so that lines of several processes do not mix. Each
//! process opens its own files anew when told to (USR1).

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::fchown;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use env_logger::{Target, WriteStyle};
use log::{Level, LevelFilter};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, Gid, Uid, access, dup2_stderr, dup2_stdout};
use serde_json::json;
use serve_config::{LogFile, LogForm, LogLevel, Remark, Settings};
use serve_net::local_time;

use crate::metrics;
use crate::privileges::Owner;
use crate::syslog::Syslog;

/// Where log lines go; the standard stream until a file is opened.
pub(crate) struct Sink {
    standard: Standard,
    open: Mutex<Option<(String, File)>>,
}

#[derive(Clone, Copy)]
enum Standard {
    Out,
    Err,
}

static ERRORS: Sink = Sink { standard: Standard::Err, open: Mutex::new(None) };
pub(crate) static ACCESS: Sink = Sink { standard: Standard::Out, open: Mutex::new(None) };
/// Whose new log files are, if not this process's own.
static OWNER: Mutex<Option<(Uid, Gid)>> = Mutex::new(None);
static SYSLOG: Mutex<Option<Syslog>> = Mutex::new(None);
static FORM: Mutex<LogForm> = Mutex::new(LogForm::Text);
/// Whether the standard streams are the error log's file, in this process.
static CAPTURED: AtomicBool = AtomicBool::new(false);
static ROLE: Mutex<&str> = Mutex::new("serve");

/// The command that has started this daemon, as long as it waits. Children that
/// are forked meanwhile have it, too.
static STARTER: Mutex<Option<File>> = Mutex::new(None);
/// Ends what the starter is told; no log line has it.
pub(crate) const END: u8 = 0;

/// Starts logging to stderr, at level info, as `role`.
pub(crate) fn start(role: &'static str) {
    become_role(role);
    env_logger::Builder::new()
        .filter_level(LevelFilter::Trace)
        .target(Target::Pipe(Box::new(&ERRORS)))
        .write_style(WriteStyle::Always)
        .format(|out, record| {
            let text = record.args().to_string();
            metrics::logged(record.level(), &text);
            to_syslog(|syslog| syslog.error(record.level(), &text));
            writeln!(out, "{}", line(record.level(), &text))
        })
        .init();
    log::set_max_level(LevelFilter::Info);
}

/// Log lines go to the starter of this daemon, too, until [`dismiss`].
pub(crate) fn also_to(starter: File) {
    *STARTER.lock().unwrap_or_else(PoisonError::into_inner) = Some(starter);
}

/// The starter has heard enough and ends with this exit code. Only for the
/// master: it alone knows how the start went.
pub(crate) fn dismiss(code: i32) {
    tell_starter(&[END, u8::try_from(code).unwrap_or(1)]);
    STARTER.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// A starter that is gone misses nothing: it was dismissed, or interrupted.
fn tell_starter(bytes: &[u8]) {
    let mut starter = STARTER.lock().unwrap_or_else(PoisonError::into_inner);
    if starter.as_ref().is_some_and(|mut pipe| pipe.write_all(bytes).is_err()) {
        *starter = None;
    }
}

/// What this process is from now on, for its log lines.
pub(crate) fn become_role(role: &'static str) {
    *ROLE.lock().unwrap_or_else(PoisonError::into_inner) = role;
}

/// New log files are for this owner from now on, who has to open them anew.
pub(crate) fn belong_to(owner: Option<&Owner>) {
    *OWNER.lock().unwrap_or_else(PoisonError::into_inner) = owner.map(Owner::ids);
}

/// Opens what the settings say. Relative paths are relative to the working
/// directory.
pub(crate) fn apply(settings: &Settings) -> Result<(), String> {
    log::set_max_level(match settings.loglevel {
        LogLevel::Trace => LevelFilter::Trace,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Warning => LevelFilter::Warn,
        LogLevel::Error | LogLevel::Critical => LevelFilter::Error,
    });
    *FORM.lock().unwrap_or_else(PoisonError::into_inner) = settings.log_format;
    let unopened = |name| move |reason| format!("{}: {reason}", settings.place(name));
    ERRORS.open(&settings.errorlog).map_err(unopened("errorlog"))?;
    let syslog = Syslog::open(settings)?;
    *SYSLOG.lock().unwrap_or_else(PoisonError::into_inner) = syslog;
    metrics::apply(settings);
    settings
        .accesslog
        .as_ref()
        .map_or(Ok(()), |file| ACCESS.open(file).map_err(unopened("accesslog")))
}

/// Whether [`apply`] could open it all. Makes no file.
pub(crate) fn check(settings: &Settings) -> Result<(), String> {
    let files =
        [("errorlog", Some(&settings.errorlog)), ("accesslog", settings.accesslog.as_ref())];
    for (name, file) in files {
        if let Some(LogFile::File(path)) = file {
            appendable(path)
                .map_err(|error| format!("{}: {}", settings.place(name), unopened(path, &error)))?;
        }
    }
    Syslog::open(settings).map(drop)
}

/// What this process and its children print goes to the error log's file, if it
/// has one.
pub(crate) fn capture() -> Result<(), String> {
    let open = ERRORS.open.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((path, file)) = &*open else { return Ok(()) };
    let captured = dup2_stdout(file).and_then(|()| dup2_stderr(file));
    captured.map_err(|errno| format!("cannot send the output to {path}: {errno}"))?;
    CAPTURED.store(true, Ordering::Relaxed);
    Ok(())
}

/// A line of the access log, for syslog.
pub(crate) fn access_to_syslog(line: &str) {
    to_syslog(|syslog| syslog.access(line));
}

/// A worker has begun, and what it has of syslog is its mold's.
pub(crate) fn forked() {
    if let Some(syslog) = &mut *SYSLOG.lock().unwrap_or_else(PoisonError::into_inner) {
        syslog.forked();
    }
}

fn to_syslog(send: impl FnOnce(&mut Syslog) -> Option<io::Error>) {
    let mut syslog = SYSLOG.lock().unwrap_or_else(PoisonError::into_inner);
    let lost = syslog.as_mut().and_then(send);
    drop(syslog);
    if let Some(error) = lost {
        let text = format!("cannot write to syslog: {error}; messages are lost until it works");
        // Not by way of the log: this may be in the middle of a record.
        if let Err(error) = writeln!(&ERRORS, "{}", line(Level::Warn, &text)) {
            drop(error); // There is nowhere left to say it.
        }
    }
}

/// Says what is odd about the configuration.
pub(crate) fn remark(remark: &Remark) {
    match remark {
        Remark::Warning(sentence) => log::warn!("{sentence}"),
        Remark::Note(sentence) => log::info!("{sentence}"),
    }
}

/// Opens the log files anew, after someone has renamed them.
pub(crate) fn reopen() {
    for sink in [&ERRORS, &ACCESS] {
        if let Err(reason) = sink.reopen() {
            log::error!("{reason}; the old file is kept");
        }
    }
    if CAPTURED.load(Ordering::Relaxed)
        && let Err(reason) = capture()
    {
        log::error!("{reason}");
    }
}

fn line(level: Level, text: &str) -> String {
    if *FORM.lock().unwrap_or_else(PoisonError::into_inner) == LogForm::Json {
        return json(level, text);
    }
    if ERRORS.is_terminal() {
        return short(level, text);
    }
    let role = ROLE.lock().unwrap_or_else(PoisonError::into_inner);
    let time = local_time().strftime("%Y-%m-%d %H:%M:%S%.3f %z").to_string();
    format!("{time} {role}[{}] {}: {text}", process::id(), word(level))
}

/// For a person at a terminal: the time of day, and colours for what is not
/// ordinary.
fn short(level: Level, text: &str) -> String {
    let colour = match level {
        Level::Error => "31",
        Level::Warn => "33",
        Level::Info => "0",
        Level::Debug | Level::Trace => "2",
    };
    let word = if level == Level::Info { "" } else { word(level) };
    let colon = if word.is_empty() { "" } else { ": " };
    let time = local_time().strftime("%H:%M:%S").to_string();
    format!("\x1b[2m{time}\x1b[0m \x1b[{colour}m{word}{colon}{text}\x1b[0m")
}

/// What shall catch the eye of a person at a terminal.
pub(crate) fn strong(text: &str) -> String {
    if ERRORS.is_terminal() { format!("\x1b[1;32m{text}\x1b[0m") } else { text.to_owned() }
}

fn json(level: Level, text: &str) -> String {
    let role = ROLE.lock().unwrap_or_else(PoisonError::into_inner);
    let time = local_time().strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string();
    let (level, pid) = (word(level), process::id());
    json!({ "time": time, "level": level, "role": *role, "pid": pid, "message": text }).to_string()
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

impl Sink {
    fn open(&self, file: &LogFile) -> Result<(), String> {
        let opened = match file {
            LogFile::Standard => None,
            LogFile::File(path) => Some((path.clone(), append(path)?)),
        };
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = opened;
        Ok(())
    }

    fn reopen(&self) -> Result<(), String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((path, file)) = &mut *open {
            *file = append(path)?;
        }
        Ok(())
    }

    fn is_terminal(&self) -> bool {
        let standard = match self.standard {
            Standard::Out => io::stdout().is_terminal(),
            Standard::Err => io::stderr().is_terminal(),
        };
        let plain = self.open.lock().unwrap_or_else(PoisonError::into_inner).is_none();
        standard && plain && std::env::var_os("NO_COLOR").is_none()
    }
}

fn append(path: &str) -> Result<File, String> {
    let open = |options: &mut OpenOptions| options.append(true).open(path);
    let opened = match open(OpenOptions::new().create_new(true)) {
        Ok(file) => hand_over(&file).map(|()| file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            open(OpenOptions::new().create(true))
        }
        Err(error) => Err(error),
    };
    opened.map_err(|error| unopened(path, &error))
}

/// Whether it can be opened or made. It is not opened for it: a FIFO would wait.
fn appendable(path: &str) -> io::Result<()> {
    let path = Path::new(path);
    if path.is_dir() {
        return Err(Errno::EISDIR.into());
    }
    match access(path, AccessFlags::W_OK) {
        Err(Errno::ENOENT) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            Ok(access(folder, AccessFlags::W_OK | AccessFlags::X_OK)?)
        }
        other => Ok(other?),
    }
}

fn unopened(path: &str, error: &io::Error) -> String {
    format!("cannot open the log file {path}: {error}")
}

/// Only of a file that was just made: see `privileges`.
fn hand_over(file: &File) -> io::Result<()> {
    match *OWNER.lock().unwrap_or_else(PoisonError::into_inner) {
        Some((uid, gid)) => fchown(file, Some(uid.as_raw()), Some(gid.as_raw())),
        None => Ok(()),
    }
}

impl Write for &Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if matches!(self.standard, Standard::Err) {
            tell_starter(&bytes.iter().map(|byte| *byte.max(&(END + 1))).collect::<Vec<_>>());
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match (&mut *open, self.standard) {
            (Some((_, file)), _) => file.write(bytes),
            (None, Standard::Out) => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()?;
                Ok(bytes.len())
            }
            (None, Standard::Err) => io::stderr().lock().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
