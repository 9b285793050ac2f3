//! The error log: `log` and `env_logger` onto stderr or a file that can be
//! opened anew, and the same kind of file for the access log.
//!
//! One record is one write, so that lines of several processes do not mix. Each
//! process opens its own files anew when told to (USR1).

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::fchown;
use std::process;
use std::sync::{Mutex, PoisonError};

use env_logger::{Target, WriteStyle};
use jiff::Zoned;
use log::{Level, LevelFilter, Record};
use nix::unistd::{Gid, Uid};
use serve_config::{LogFile, LogLevel, Remark, Settings};

use crate::privileges::Owner;

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
        .format(|out, record| writeln!(out, "{}", line(record)))
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
    ERRORS.open(&settings.errorlog)?;
    settings.accesslog.as_ref().map_or(Ok(()), |file| ACCESS.open(file))
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
}

fn line(record: &Record<'_>) -> String {
    let level = match record.level() {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    if ERRORS.is_terminal() {
        return short(record, level);
    }
    let role = ROLE.lock().unwrap_or_else(PoisonError::into_inner);
    let time = Zoned::now().strftime("%Y-%m-%d %H:%M:%S%.3f %z").to_string();
    format!("{time} {role}[{}] {level}: {}", process::id(), record.args())
}

/// For a person at a terminal: the time of day, and colours for what is not
/// ordinary.
fn short(record: &Record<'_>, level: &str) -> String {
    let colour = match record.level() {
        Level::Error => "31",
        Level::Warn => "33",
        Level::Info => "0",
        Level::Debug | Level::Trace => "2",
    };
    let word = if record.level() == Level::Info { "" } else { level };
    let colon = if word.is_empty() { "" } else { ": " };
    let time = Zoned::now().strftime("%H:%M:%S").to_string();
    format!("\x1b[2m{time}\x1b[0m \x1b[{colour}m{word}{colon}{}\x1b[0m", record.args())
}

/// What shall catch the eye of a person at a terminal.
pub(crate) fn strong(text: &str) -> String {
    if ERRORS.is_terminal() { format!("\x1b[1;32m{text}\x1b[0m") } else { text.to_owned() }
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
    opened.map_err(|error| format!("cannot open the log file {path}: {error}"))
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
