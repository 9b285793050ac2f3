//! Deferred sends: what is written for one client may wait for what is written
//! for others.
//!
//! A client that sleeps is woken by each write, on a processor that another
//! request could have had, and whose caches it needs. With several requests at
//! hand it costs less to answer all of them and to write then. A stream of many
//! small pieces is the same, with one client.
//!
//! Rules: nothing waits longer than the driver has allowed, as far as the reactor
//! is called meanwhile; when it is not, because the application keeps the thread,
//! another one must call [`Reactor::settle`]. Nothing waits when there is nothing
//! else to do, or when the application takes its time anyway.

use std::time::Duration;

use super::Reactor;
use crate::conn::Conn;

impl Reactor {
    /// Allows sends to be deferred for so long.
    pub fn defer(&mut self, limit: Duration) {
        self.core.deferred.limit = limit;
    }

    /// Whether there are more requests at hand, or may be.
    pub(super) fn is_crowded(&self) -> bool {
        !self.core.ready.is_empty() || !self.pending.is_empty()
    }

    /// Writes what has waited long enough.
    pub(super) fn flush_late(&mut self) {
        if self.core.deferred.is_late(self.core.now) {
            self.flush_deferred();
        }
    }

    /// Writes all that waits; false if nothing did.
    pub(super) fn flush_deferred(&mut self) -> bool {
        if self.core.deferred.keys.is_empty() {
            return false;
        }
        let mut keys = std::mem::take(&mut self.core.deferred.keys);
        for key in keys.drain(..) {
            self.on_conn(key, Conn::flush_deferred);
        }
        // Meanwhile nothing was deferred: its memory can be used again.
        self.core.deferred.keys = keys;
        true
    }
}
