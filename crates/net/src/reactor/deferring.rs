//! Deferred sends: what waits is written together.
//!
//! Nothing waits longer than the driver has allowed, as far as the reactor is called
//! meanwhile. When it is not, because the application keeps the thread, another one
//! must call [`Reactor::settle`], or be woken by a timer to turn the loop.

use std::io::{self, ErrorKind};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Waker};

use super::{Reactor, TIMER, WAKER};
use crate::conn::Conn;
use crate::deferred::{Ends, KernelTimer};

/// The sleep of a thread that sends what has waited long enough, when the driver is
/// kept from it.
#[derive(Debug)]
pub struct LateSends {
    sleep: Mutex<(Poll, Events)>,
    waker: Waker,
}

impl LateSends {
    /// Sleeps for at most `limit`; true = something may be late: it is time for
    /// [`Reactor::send_late`].
    ///
    /// # Errors
    /// Those of epoll_wait(2); a signal is none.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        let mut sleep = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        let (poll, events) = &mut *sleep;
        match poll.poll(events, Some(limit)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(false),
            slept => slept?,
        }
        Ok(events.iter().any(|event| event.token() == TIMER))
    }

    /// Ends the sleep of whoever is in [`LateSends::wait`].
    ///
    /// # Errors
    /// Those of write(2) to an eventfd(2).
    pub fn wake(&self) -> io::Result<()> {
        self.waker.wake()
    }
}

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
        self.core.deferred.timer = Some(timer(&self.core.registry, Ends::OwnSleep)?);
        Ok(())
    }

    /// For drivers whose thread may be kept by the application: another one waits
    /// for the same.
    ///
    /// # Errors
    /// Those of timerfd_create(2), epoll_create1(2) and eventfd(2).
    pub fn defer_by_thread(&mut self) -> io::Result<LateSends> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        self.core.deferred.timer = Some(timer(poll.registry(), Ends::Another)?);
        Ok(LateSends { sleep: Mutex::new((poll, Events::with_capacity(2))), waker })
    }

    /// The timer has gone off: perhaps for something that has left meanwhile, and
    /// what waits now may wait a little longer. True = something was sent, so that
    /// there may be more to do.
    pub fn send_late(&mut self) -> bool {
        self.core.tick();
        self.core.deferred.went_off();
        let sent = self.flush_late();
        self.core.deferred.set_timer(self.core.now);
        sent
    }

    /// Whether something waits for the end of the turn.
    pub(super) fn has_deferred(&self) -> bool {
        let deferred = &self.core.deferred;
        let is_timed = deferred.timer.as_ref().is_some_and(|timer| timer.ends == Ends::OwnSleep);
        !is_timed && !deferred.keys.is_empty()
    }

    /// Writes what has waited long enough; false if nothing had.
    pub(super) fn flush_late(&mut self) -> bool {
        self.core.deferred.is_late(self.core.now) && self.flush_deferred()
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

/// A timer that `registry` hears of.
fn timer(registry: &Registry, ends: Ends) -> io::Result<KernelTimer> {
    let timer = KernelTimer::new(ends)?;
    registry.register(&mut SourceFd(&timer.raw_fd()), TIMER, Interest::READABLE)?;
    Ok(timer)
}
