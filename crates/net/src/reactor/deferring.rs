//! Deferred sends: what waits is written together.
//!
//! Nothing waits longer than the driver has allowed, as far as the reactor is called
//! meanwhile; when it is not, because the application keeps the thread, another one
//! must call [`Reactor::settle`].

use std::time::Duration;

use super::Reactor;
use crate::conn::Conn;

impl Reactor {
    /// Allows sends to be deferred for so long: `pieces` of a stream that come as
    /// quickly, and whole `answers` of an application that can give several in that
    /// time, while others wait. Zero, as at first: not at all.
    pub fn defer(&mut self, pieces: Duration, answers: Duration) {
        self.core.deferred.limit(pieces, answers);
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
        let mut keys = self.core.deferred.take();
        for key in keys.drain(..) {
            self.on_conn(key, Conn::flush_deferred);
        }
        // Meanwhile nothing was deferred: its memory can be used again.
        self.core.deferred.keys = keys;
        true
    }
}
