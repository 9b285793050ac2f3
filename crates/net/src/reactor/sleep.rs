//! The sleep of a reactor, which can be had apart from it: then other threads
//! act on the reactor meanwhile, and it is roused only if they leave something
//! to do.

use std::io;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use super::{ACCEPTS, Reactor};
use crate::core::{Drain, Pending};
use crate::handoff::HandOff;

/// Events taken from the kernel at once.
pub(super) const EVENTS: usize = 256;

/// What a reactor sleeps on.
pub(crate) struct Sleeper {
    poll: Poll,
    events: Events,
}

impl Sleeper {
    pub(super) fn new(poll: Poll) -> Box<Self> {
        Box::new(Self { poll, events: Events::with_capacity(EVENTS) })
    }

    /// Sleeps; what it hears of is for [`Reactor::wake_up`].
    pub(crate) fn poll(&mut self, limit: Option<Duration>) -> io::Result<()> {
        self.poll.poll(&mut self.events, limit)
    }
}

/// Whether somebody sleeps, and so may have to be roused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sleep {
    No,
    /// For as long as nothing happens, or at the latest until then.
    Until(Option<Instant>),
}

impl Reactor {
    /// When the next turn must be at the latest; the past means now.
    pub fn deadline(&self) -> Option<Instant> {
        if self.busy() {
            return Some(self.core.now);
        }
        let shared = self.core.hand_off.as_ref().and_then(HandOff::due);
        // An array of them, as an iterator, would cost a hundred instructions.
        let timers = earlier(self.core.timers.next(), self.core.room.due());
        earlier(timers, earlier(self.accept_again, shared))
    }

    /// Sleeps until an event, the deadline, `limit` or a signal.
    ///
    /// # Errors
    /// Those of epoll_wait(2); a signal is none.
    pub fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let Some((mut sleeper, limit)) = self.fall_asleep(limit) else { return Ok(()) };
        let slept = sleeper.poll(limit);
        self.wake_up(sleeper, slept)
    }

    /// What to sleep on, and how long; `None` if somebody else sleeps already.
    pub(crate) fn fall_asleep(
        &mut self,
        limit: Option<Duration>,
    ) -> Option<(Box<Sleeper>, Option<Duration>)> {
        let sleeper = self.sleeper.take()?;
        let now = Instant::now();
        let until = limit.and_then(|limit| now.checked_add(limit));
        let until = [self.deadline(), until].into_iter().flatten().min();
        self.accepts = ACCEPTS;
        self.core.turn();
        self.sleep = Sleep::Until(until);
        Some((sleeper, until.map(|at| at.saturating_duration_since(now))))
    }

    /// The end of the sleep: notes what there is to do now.
    ///
    /// # Errors
    /// Those of epoll_wait(2); a signal is none.
    pub(crate) fn wake_up(
        &mut self,
        sleeper: Box<Sleeper>,
        slept: io::Result<()>,
    ) -> io::Result<()> {
        self.sleep = Sleep::No;
        self.core.tick();
        self.core.turn += 1;
        let turn = self.core.turn;
        self.pending.extend(self.core.again.drain(..).map(|key| Pending::again(key, turn)));
        if slept.is_ok() {
            self.pending.extend(sleeper.events.iter().map(|event| Pending::new(event, turn)));
        }
        self.sleeper = Some(sleeper);
        match slept {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            slept => slept,
        }
    }

    /// After an act of another thread: ends the sleep, if there is something to
    /// do before it would end by itself.
    pub(super) fn rouse(&mut self) {
        let Sleep::Until(until) = self.sleep else { return };
        let sooner = self.deadline().is_some_and(|at| until.is_none_or(|until| at < until));
        if sooner || (self.core.drain != Drain::No && self.is_drained()) {
            self.sleep = Sleep::No;
            if let Err(error) = self.handle.wake() {
                log::warn!("cannot wake the event loop: {error}");
            }
        }
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
