//! The thread that turns the reactor while others run the application. It never
//! touches Python, so that no code of the application can hold it up.
//!
//! Started after the fork, in the worker; ended before the interpreter is.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::Call;
use super::pool::{Bed, Pool};
use super::seats::Taken;
use crate::alarm::Alarm;
use crate::drive::orders::Orders;
use crate::drive::running::{Limit, describe};

/// How often to look whether the GIL can be had, at most.
const BEAT: Duration = Duration::from_secs(1);

/// From the last byte of an answer to the end of its request, at most, on a
/// machine that is overloaded.
const CLOSING: Duration = Duration::from_secs(1);

/// How long a request may go on after its time, once it was told. Longer takes
/// one that is in a system call, or in C code.
const LETTING_GO: Duration = Duration::from_secs(1);

/// How soon to look again at a request that could not be ended yet.
const AGAIN: Duration = Duration::from_millis(20);

/// A thread that gets at the GIL within this time meets no request that computes.
/// Python itself sees to it after five milliseconds.
const PROMPT: Duration = Duration::from_millis(3);

/// How long threads give the GIL up sooner, once a request has computed while others
/// waited; longer, if that comes again at once.
const HASTE: Duration = Duration::from_millis(50);
const LONGEST_HASTE: Duration = Duration::from_secs(2);

const MESSAGE: &str = "the application did not answer in time";

/// How often the GIL must be had for a worker that may be silent for `timeout`.
pub(super) fn beat(timeout: Option<Duration>) -> Duration {
    timeout.map_or(BEAT, |timeout| (timeout / 4).clamp(AGAIN, BEAT))
}

pub(super) struct Turner<'a, 'c> {
    pub(super) pool: Arc<Pool>,
    pub(super) orders: &'a Orders<'c>,
    pub(super) alarm: Alarm,
    pub(super) limit: Option<Limit>,
    pub(super) beat: Duration,
    /// The worker's name in the log.
    pub(super) worker: &'a str,
    pub(super) caller: Sender<Call>,
}

/// What the turner remembers from turn to turn.
struct Known {
    /// When to look at the requests again.
    look: Instant,
    /// When the GIL is to be had again.
    beat: Instant,
    /// Whether the master knows that a request does not let go.
    told: bool,
    haste: Haste,
}

/// Whether threads give the GIL up sooner.
#[derive(Clone, Copy)]
enum Haste {
    /// They do; until when, and how long that is in all.
    Until(Instant, Duration),
    /// They do not; since when, and how long they did before.
    Over(Instant, Duration),
}

impl Turner<'_, '_> {
    pub(super) fn run(&self) {
        let ended = self.turn();
        self.call(Call::End(ended));
    }

    fn call(&self, call: Call) {
        // The main thread hears calls until it has heard of the end.
        if let Err(error) = self.caller.send(call) {
            log::debug!("{error}");
        }
    }

    fn turn(&self) -> Result<(), String> {
        let reactor = &self.pool.seats.reactor;
        let now = Instant::now();
        let mut known =
            Known { look: now, beat: now, told: false, haste: Haste::Over(now, Duration::ZERO) };
        let mut limit = None;
        let bed = Bed::new();
        loop {
            self.pool.rest(&bed);
            reactor.wait(limit).map_err(|error| format!("epoll_wait: {error}"))?;
            reactor.stir();
            self.pool.dispatch();
            if reactor.lock().take_watched() {
                self.orders.obey(reactor);
                self.call(Call::Signals);
            }
            if self.pool.take_tired() {
                self.orders.control().tired();
            }
            limit = self.attend(&mut known);
            self.pool.seats.make_room();
            if self.orders.is_quit() || self.is_drained() {
                // The access log has not heard of those that have just ended. And nobody
                // waits for the exit handlers, nor for who does not let go.
                let mut reactor = reactor.lock();
                reactor.settle();
                reactor.forsake();
                return Ok(());
            }
        }
    }

    /// Whether nothing is left to do, or only requests that do not let go.
    fn is_drained(&self) -> bool {
        match self.pool.seats.reactor.lock().remnant() {
            None => false,
            Some(0) => true,
            Some(left) => {
                self.pool.seats.look().iter().filter(|(_, it)| is_stuck(it)).count() == left
            }
        }
    }

    /// Looks after the requests that the application has, if it is time; returns
    /// how long nobody needs to.
    fn attend(&self, known: &mut Known) -> Option<Duration> {
        let reactor = self.pool.seats.reactor.lock();
        if reactor.load() == 0 {
            // Under the lock: a thread that pulls now shows itself after this.
            self.pool.board.asleep();
            return None;
        }
        drop(reactor);
        let now = Instant::now();
        if now >= known.beat {
            known.beat = now + self.beat;
            self.take_pulse();
        }
        if self.pool.seats.take_hurry() || now >= known.look {
            known.look = now + self.limit.map_or(BEAT, |limit| limit.after.min(BEAT));
            self.look(known);
        }
        let mut next = known.beat.min(known.look);
        if let Some(at) = self.hasten(known, now) {
            next = next.min(at);
        }
        Some(next.saturating_duration_since(now))
    }

    /// Has threads give the GIL up sooner while there are requests that compute and
    /// others that wait for it. Not always: to take turns costs quick requests more than
    /// it gives them. Returns when to look again.
    fn hasten(&self, known: &mut Known, now: Instant) -> Option<Instant> {
        match known.haste {
            Haste::Until(end, _) if now < end => None,
            Haste::Until(_, lasted) => {
                known.haste = Haste::Over(now, lasted);
                self.call(Call::Haste(false));
                None
            }
            Haste::Over(end, lasted) => {
                let late = self.pool.stalled()? + PROMPT;
                if now < late {
                    return Some(late);
                }
                let again = now < end + lasted;
                let lasts = if again { (lasted * 2).min(LONGEST_HASTE) } else { HASTE };
                known.haste = Haste::Until(now + lasts, lasts);
                self.call(Call::Haste(true));
                None
            }
        }
    }

    /// A sign of life, if the GIL could be had since the last one.
    fn take_pulse(&self) {
        if self.pool.seats.take_beat() {
            self.pool.board.awake();
            self.call(Call::Beat);
        }
        let taken = self.pool.seats.look();
        let longest = taken.iter().map(|(_, it)| it).min_by_key(|it| it.since);
        let reactor = self.pool.seats.reactor.lock();
        if let Some(taken) = longest
            && let Some(head) = reactor.head(taken.running.exchange)
        {
            self.pool.board.longest(taken.since.elapsed(), head.method(), head.path());
        }
    }

    /// Ends the requests whose time is over.
    fn look(&self, known: &mut Known) {
        for (seat, taken) in self.pool.seats.look() {
            if is_stuck(&taken) && !known.told {
                known.told = true;
                self.orders.control().stuck();
            }
            if let Some(over) = taken.over {
                known.look = known.look.min(over + LETTING_GO);
            }
            let deadline = taken.running.deadline(taken.since, self.limit);
            let Some(at) = deadline.filter(|_| taken.running.is_timed() && !taken.detached) else {
                continue;
            };
            let now = Instant::now();
            known.look = known.look.min(match at <= now && !self.expire(seat, &taken, now - at) {
                true => now + AGAIN,
                false => at.max(now + AGAIN),
            });
        }
    }

    /// Answers the client in the application's place, then has the application
    /// told; false when it is too early or too late for that.
    fn expire(&self, seat: usize, taken: &Taken, overtime: Duration) -> bool {
        let running = &taken.running;
        let mut reactor = self.pool.seats.reactor.lock();
        let request = describe(&reactor, running.exchange);
        // Nobody to answer: most likely the application has, just now.
        let is_answered = reactor.head(running.exchange).is_none();
        if (is_answered && overtime < CLOSING) || !self.pool.seats.expire(seat, taken) {
            return false;
        }
        let answered = reactor.answer_late(running.exchange, 504, MESSAGE);
        drop(reactor);
        log::debug!(
            "client={} was answered in the application's place: {answered:?}",
            running.peer
        );
        self.call(Call::Raise(seat, running.number));
        let line = running.line(self.worker, request.as_deref(), taken.since.elapsed(), self.limit);
        match self.alarm.ring() {
            Ok(stacks) => log::error!("{line}\n{}", stacks.trim_end()),
            Err(error) => log::error!("{line}; no stacks: {error}"),
        }
        true
    }
}

/// Whether a request goes on although its time is over and it was told.
fn is_stuck(taken: &Taken) -> bool {
    taken.over.is_some_and(|at| at.elapsed() >= LETTING_GO)
}
