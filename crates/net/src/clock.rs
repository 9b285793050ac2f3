//! The wall clock as text, made once a second: the Date header (RFC 9110
//! section 6.6.1) and the time of an access log line.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Zoned;

/// Texts for the second they were made in.
#[derive(Debug)]
pub(crate) struct Clock {
    second: u64,
    /// When the next second begins, by the steady clock.
    until: Instant,
    date: String,
    local: String,
}

impl Clock {
    pub(crate) fn new(now: Instant) -> Self {
        let (date, local) = (String::new(), String::new());
        let mut clock = Self { second: u64::MAX, until: now, date, local };
        clock.tick(now);
        clock
    }

    /// Looks at the wall clock, unless `now` is still in the same second.
    pub(crate) fn tick(&mut self, now: Instant) {
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
        self.date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(self.second));
        self.local = Zoned::now().strftime("[%d/%b/%Y:%H:%M:%S %z]").to_string();
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT`
    pub(crate) fn date(&self) -> &[u8] {
        self.date.as_bytes()
    }

    /// `[06/Nov/1994:09:49:37 +0100]`
    pub(crate) fn local(&self) -> &str {
        &self.local
    }
}
