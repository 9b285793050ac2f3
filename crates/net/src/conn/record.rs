//! What is remembered of an exchange for the access log and the metrics, until its line is
//! made: exactly one, when the response is complete, though perhaps not yet with
//! its client, or the connection ends before. A request that never came whole is
//! none, unless it was answered.

use std::sync::Arc;
use std::time::Instant;

use serve_http::Response;

use super::{Conn, Phase};
use crate::access::{Entry, Notes};
use crate::core::Core;
use crate::trust::Seen;

/// nginx's status for a client that has gone before there was an answer.
const GONE: u16 = 499;

/// Whether the current exchange has its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logged {
    No,
    Yes,
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Record {
    /// First byte of the request.
    began: Instant,
    /// Its last.
    whole: Option<Instant>,
    /// When the application got it.
    run: Option<Instant>,
    /// When it had answered, if the line comes later.
    answered: Option<Instant>,
    logged: Logged,
    notes: Notes,
    pub(super) seen: Option<Arc<Seen>>,
    /// Of the exchange before, whose memory can be had again.
    spare: Option<Arc<Seen>>,
}

impl Record {
    /// Of an exchange that begins now.
    pub(super) fn new(now: Instant) -> Self {
        let (whole, run, answered, seen, spare) = (None, None, None, None, None);
        let (logged, notes) = (Logged::No, Notes::default());
        Self { began: now, whole, run, answered, logged, notes, seen, spare }
    }

    /// The next exchange of the connection begins.
    pub(super) fn renew(&mut self, now: Instant) {
        let spare = self.seen.take().or(self.spare.take());
        *self = Self { spare, ..Self::new(now) };
    }

    pub(super) fn seen(&mut self, seen: Seen) {
        self.seen = Some(match self.spare.take() {
            Some(mut spare) => {
                match Arc::get_mut(&mut spare) {
                    Some(unshared) => *unshared = seen,
                    None => spare = Arc::new(seen),
                }
                spare
            }
            None => Arc::new(seen),
        });
    }

    pub(super) fn whole(&mut self, now: Instant) {
        self.whole = Some(now);
    }

    pub(super) fn run(&mut self, now: Instant) {
        self.run = Some(now);
    }

    /// The application has answered, and the log is to hear of it later.
    pub(super) fn answered(&mut self, now: Instant) {
        self.answered = Some(now);
    }

    pub(super) fn runs_since(&self) -> Instant {
        self.run.unwrap_or(self.began)
    }
}

impl Conn {
    /// Keeps what the access log wants to know of a response's head.
    pub(super) fn note_response(&mut self, core: &Core, response: &Response) {
        let Some(access) = &core.access else { return };
        let names = access.needs().response();
        if !names.is_empty() {
            let value = |name: &String| response.value(name.as_bytes());
            self.record.notes.response = names.iter().map(value).collect();
        }
    }

    /// Keeps what the access log wants to know of the environ.
    pub(crate) fn note_environ(&mut self, values: Vec<Option<Vec<u8>>>) {
        self.record.notes.environ = values;
    }

    /// The connection ends: a whole request has its line now.
    pub(super) fn log_unfinished(&mut self, core: &mut Core) {
        if matches!(self.phase, Phase::Waiting { .. } | Phase::Running | Phase::Flushing) {
            self.log(core);
        }
    }

    /// One line for this exchange, once.
    pub(super) fn log(&mut self, core: &mut Core) {
        let status = if self.http.response_started() { self.http.status() } else { GONE };
        self.log_as(core, status);
    }

    /// The same, for a response that others send.
    pub(super) fn log_as(&mut self, core: &mut Core, status: u16) {
        let record = &mut self.record;
        if record.logged == Logged::Yes {
            return;
        }
        record.logged = Logged::Yes;
        let end = core.now;
        let until = |from: Instant, to: Instant| to.saturating_duration_since(from);
        let duration = until(record.whole.unwrap_or(record.began), end);
        if let Some(statsd) = &mut core.statsd {
            statsd.request(status, duration);
        }
        let Some(access) = &mut core.access else { return };
        // A head that could not be read shows nothing but its connection.
        let plain = || Arc::new(core.witness.glimpse(self.peer, self.trusted));
        let seen = record.seen.take().unwrap_or_else(plain);
        access.line(&Entry {
            seen: &seen,
            head: self.http.head(),
            clock: &core.clock,
            status,
            bytes: self.http.sent_body().saturating_sub(self.held),
            duration,
            queued: record.whole.map(|whole| until(whole, record.run.unwrap_or(end))),
            app: record.run.map(|run| until(run, record.answered.unwrap_or(end))),
            notes: &record.notes,
        });
        record.spare = Some(seen);
    }
}
