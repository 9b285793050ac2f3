//! A request that the application has, and what is known of its time. Who begins,
//! watches and ends it is the driver's business.

use std::fmt;
use std::time::{Duration, Instant};

use serve_net::{Exchange, ExchangeId, Peer, Reactor};

/// The longest extension, as the longest timeout: a year.
pub(super) const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The request that the application has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Running {
    /// Counts the requests of this worker.
    pub(crate) number: u64,
    pub(crate) exchange: ExchangeId,
    pub(crate) peer: Peer,
    /// What the application has asked for instead of the timeout.
    pub(crate) extended: Option<Instant>,
    pub(crate) patience: Patience,
    /// Since when it waits for its client to read.
    pub(crate) paused: Option<Instant>,
    /// How long it has waited before; that does not count.
    pub(crate) waited: Duration,
}

/// Whether a request may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Lasts,
    /// The client has its 504; the application has not been told.
    Over,
    /// `RequestTimeout` was raised.
    Raised,
}

/// How long the application may have a request, and which setting says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) after: Duration,
    pub(crate) setting: &'static str,
}

/// A request's method and path; `None` once its client has gone, its connection was
/// taken over, or while the head is taken out.
pub(crate) fn describe(reactor: &Reactor, exchange: ExchangeId) -> Option<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string();
    let head = reactor.head(exchange).filter(|head| !head.method().is_empty())?;
    Some(format!("{} {}", text(head.method()), text(head.path())))
}

impl Limit {
    /// `None` where nothing, or zero, is set.
    pub(super) fn new(after: Option<Duration>, setting: &'static str) -> Option<Self> {
        after.filter(|after| !after.is_zero()).map(|after| Self { after, setting })
    }
}

impl Running {
    pub(super) fn new(number: u64, exchange: &Exchange) -> Self {
        Self {
            number,
            exchange: exchange.id,
            peer: exchange.peer,
            extended: None,
            patience: Patience::Lasts,
            paused: None,
            waited: Duration::ZERO,
        }
    }

    pub(super) fn pause(&mut self) {
        self.paused = Some(Instant::now());
    }

    pub(super) fn resume(&mut self) {
        if let Some(paused) = self.paused.take() {
            self.waited += paused.elapsed();
        }
    }

    /// Gives it `more` time from now on; false when its time is over already.
    pub(super) fn extend(&mut self, more: Duration) -> bool {
        let lasts = self.patience == Patience::Lasts;
        if lasts {
            self.extended = Some(Instant::now() + more);
        }
        lasts
    }

    /// Its time is over, for whoever has `seen` that; false when it is another
    /// request by now, or got more time.
    pub(super) fn expire(&mut self, seen: &Self) -> bool {
        let as_seen = (self.number, self.extended) == (seen.number, seen.extended)
            && (self.paused, self.waited) == (None, seen.waited);
        if as_seen {
            self.patience = Patience::Over;
        }
        as_seen
    }

    /// Whether `RequestTimeout` is to be raised in it now; so once.
    pub(super) fn claim(&mut self) -> bool {
        let over = self.patience == Patience::Over;
        if over {
            self.patience = Patience::Raised;
        }
        over
    }

    /// When its time is over, if it has begun at `since`; `None` while that does
    /// not matter.
    pub(super) fn deadline(&self, since: Instant, limit: Option<Limit>) -> Option<Instant> {
        let end = self.extended.or_else(|| since.checked_add(limit?.after));
        end?.checked_add(self.waited)
    }

    /// Whether its clock runs.
    pub(super) fn is_timed(&self) -> bool {
        self.patience == Patience::Lasts && self.paused.is_none()
    }

    /// For the log: it was ended because its time is over.
    pub(super) fn line<'a>(
        &'a self,
        worker: &'a str,
        request: Option<&'a str>,
        age: Duration,
        limit: Option<Limit>,
    ) -> impl fmt::Display + 'a {
        let setting = match (self.extended, limit) {
            (None, Some(limit)) => limit.setting,
            _ => "serve.extend_timeout",
        };
        let (request, peer, age) = (request.unwrap_or("?"), self.peer, age.as_secs_f64());
        format!(
            "{worker} request=\"{request}\" client={peer} age={age:.1}s: over its time ({setting}), ended"
        )
    }
}
