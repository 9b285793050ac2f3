//! What this process tells statsd of itself: its log lines and, in the master, how
//! many workers there are. Requests are the reactor's to tell.

use std::sync::{Mutex, PoisonError};

use log::Level;
use serve_config::Settings;
use serve_net::Statsd;

static STATSD: Mutex<Option<Statsd>> = Mutex::new(None);
/// What the log has heard of it last, from this process or the one it is a fork of.
static TOLD: Mutex<Option<String>> = Mutex::new(None);

/// What Python's account of an exception begins with.
const TRACEBACK: &str = "Traceback (most recent call last)";

/// From now on as the settings say. Nothing depends on it, so a daemon that
/// cannot be found is no more than a line in the log.
pub(crate) fn apply(settings: &Settings) {
    let statsd = connect(settings);
    *STATSD.lock().unwrap_or_else(PoisonError::into_inner) = statsd;
}

/// A connection of its own, for the requests of one worker.
pub(crate) fn connect(settings: &Settings) -> Option<Statsd> {
    let host = settings.statsd_host.as_deref()?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (prefix, tags) = (text(&settings.statsd_prefix), text(&settings.dogstatsd_tags));
    let connected = Statsd::connect(host, &prefix, &tags);
    let complaint = connected.as_ref().err().map(|error| {
        format!("{}: {host}: {error}; no metrics are sent", settings.place("statsd_host"))
    });
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let is_news = *told != complaint;
    told.clone_from(&complaint);
    drop(told);
    if let Some(complaint) = complaint.filter(|_| is_news) {
        log::warn!("{complaint}");
    }
    connected.ok()
}

/// A line has been logged.
pub(crate) fn logged(level: Level, text: &str) {
    let name = match level {
        Level::Error if text.contains(TRACEBACK) => "gunicorn.log.exception",
        Level::Error => "gunicorn.log.error",
        Level::Warn => "gunicorn.log.warning",
        _ => return,
    };
    tell(|statsd| statsd.count(name, 1));
}

/// So many workers are wanted.
pub(crate) fn workers(count: u16) {
    tell(|statsd| statsd.gauge("gunicorn.workers", count.into()));
}

fn tell(what: impl FnOnce(&mut Statsd)) {
    // Taken when sending fails, which is logged and so comes here again.
    if let Ok(mut statsd) = STATSD.try_lock()
        && let Some(statsd) = &mut *statsd
    {
        what(statsd);
        statsd.flush();
    }
}
