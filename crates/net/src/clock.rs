//! The wall clock as text, made once a second: the Date header (RFC 9110
//! section 6.6.1) and the time of an access log line.

use std::fs;
use std::io::Write;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// The machine's, or what `TZ` names (tzset(3)). The library would look through all
/// zones there are for the name of the machine's, in each process: milliseconds of
/// a worker's start.
static ZONE: LazyLock<TimeZone> = LazyLock::new(|| {
    let is_named = std::env::var_os("TZ").is_some();
    let machine = || TimeZone::tzif("local", &fs::read("/etc/localtime").ok()?).ok();
    if is_named { None } else { machine() }.unwrap_or_else(TimeZone::system)
});

/// The local time, for a line of a log.
#[must_use]
pub fn local_time() -> Zoned {
    Timestamp::now().to_zoned(ZONE.clone())
}

/// Texts for the second they were made in.
#[derive(Debug)]
pub(crate) struct Clock {
    second: u64,
    /// When the next second begins, by the steady clock.
    until: Instant,
    /// The last tick.
    last: Instant,
    date: String,
    local: String,
    /// RFC 3339 up to the second, and the offset that follows its fraction.
    instant: (String, String),
}

impl Clock {
    pub(crate) fn new(now: Instant) -> Self {
        let (date, local, instant) = Default::default();
        let mut clock = Self { second: u64::MAX, until: now, last: now, date, local, instant };
        clock.tick(now);
        clock
    }

    /// Looks at the wall clock, unless `now` is still in the same second.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.last = now;
        if now < self.until {
            return;
        }
        // A clock before 1970 shows as 1970: wrong, but no reason to stop.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.until =
            now + Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into());
        if since.as_secs() == self.second {
            return;
        }
        self.second = since.as_secs();
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(self.second));
        self.date = format!("Date: {date}\r\n");
        let local = local_time();
        self.local = local.strftime("[%d/%b/%Y:%H:%M:%S %z]").to_string();
        let part = |form| local.strftime(form).to_string();
        self.instant = (part("%Y-%m-%dT%H:%M:%S"), part("%:z"));
    }

    /// `Date: Sun, 06 Nov 1994 08:49:37 GMT`, with its CRLF.
    pub(crate) fn date(&self) -> &[u8] {
        self.date.as_bytes()
    }

    /// Appends `1994-11-06T09:49:37.512+01:00` (RFC 3339): the last tick.
    pub(crate) fn timestamp(&self, out: &mut Vec<u8>) {
        let left = self.until.saturating_duration_since(self.last).as_millis();
        let (second, offset) = &self.instant;
        write!(out, "{second}.{:03}{offset}", 1000_u128.saturating_sub(left).min(999))
            .expect("writing to memory does not fail");
    }

    /// `[06/Nov/1994:09:49:37 +0100]`
    pub(crate) fn local(&self) -> &str {
        &self.local
    }
}
