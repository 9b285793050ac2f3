//! Deferred sends: what waits is written together.
//!
//! Nothing waits longer than the driver has allowed, as far as the reactor is called
//! meanwhile. When it is not, because the application keeps the thread, another one
//! must call [`Reactor::settle`], or be woken by a timer to turn the loop.

use std::io;
use std::time::Duration;

use mio::Interest;
use mio::unix::SourceFd;

use super::{Reactor, TIMER};
use crate::conn::Conn;
use crate::deferred::KernelTimer;

impl Reactor {
    /// Allows sends to be deferred for so long: `pieces` of a stream that come as
    /// quickly, and whole `answers` of an application that can give several in that
    /// time, while others wait. Zero, as at first: not at all.
    pub fn defer(&mut self, pieces: Duration, answers: Duration) {
        self.core.deferred.limit(pieces, answers);
    }

    /// For drivers that sleep while the application goes on: the sleep ends when
    /// something has waited for as long as [`Reactor::defer`] allows.
    ///
    /// # Errors
    /// Those of timerfd_create(2) and epoll_ctl(2).
    pub fn defer_by_timer(&mut self) -> io::Result<()> {
        let timer = KernelTimer::new()?;
        let fd = timer.raw_fd();
        self.core.registry.register(&mut SourceFd(&fd), TIMER, Interest::READABLE)?;
        self.core.deferred.timer = Some(timer);
        Ok(())
    }

    /// The timer has gone off: perhaps for something that has left meanwhile, and
    /// what waits now may wait a little longer.
    pub(super) fn timer_went_off(&mut self) {
        self.core.deferred.went_off();
        self.flush_late();
        self.core.deferred.set_timer(self.core.now);
    }

    /// Whether something waits for the end of the turn.
    pub(super) fn has_deferred(&self) -> bool {
        self.core.deferred.timer.is_none() && !self.core.deferred.keys.is_empty()
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
