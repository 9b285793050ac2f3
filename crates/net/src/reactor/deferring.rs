//! Deferred sends: the pieces of a stream that come one right after another are
//! written together.
//!
//! To write costs ten times what a small piece costs to make, and each write wakes
//! a client that has to wait for the next one anyway.
//!
//! Rules: nothing waits longer than the driver has allowed, as far as the reactor
//! is called meanwhile; when it is not, because the application keeps the thread,
//! another one must call [`Reactor::settle`].
//!
//! Whole answers are not deferred until the others of a turn are there, too: that
//! was tried, and cost more than it saved (docs/performance.md).

use std::time::Duration;

use super::Reactor;
use crate::conn::Conn;

impl Reactor {
    /// Allows the pieces of a stream to be deferred for so long.
    pub fn defer(&mut self, limit: Duration) {
        self.core.deferred.limit = limit;
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
