//! The second thread of a sync worker. While the main thread is inside the
//! application nobody would drive the reactor: then the relay does, until the
//! main thread wants it back. It is what keeps slow readers and uploads moving
//! meanwhile, hears the master, and ends a request that takes too long.
//!
//! It looks once a tick, and only while there are requests; a request that is
//! done within a tick never meets it. A thread that wakes costs more than a quick
//! request, so its ticks become longer for as long as none was slow. It never
//! touches Python, so that no C code of the application can hold it up.
//!
//! Started after the fork, in the worker; ended before the interpreter is.

use std::thread;
use std::time::{Duration, Instant};

use serve_net::{Reactor, Shared};

use super::orders::Orders;
use super::running::{Limit, Running, describe};
use super::watch::{Look, Watch};
use crate::alarm::Alarm;

/// How often the relay looks at least, and what a request may take unnoticed.
const TICK: Duration = Duration::from_millis(1);
/// How often it looks while all requests are quick; Go's sysmon has the same.
const LONG_TICK: Duration = Duration::from_millis(10);
/// A request that takes so long is slow. A collection of garbage is over before.
const SLOW: Duration = Duration::from_millis(5);
/// Looks without a slow request after which the ticks become longer.
const QUIET: u32 = 50;

/// From the last byte of an answer to the end of its request, at most, on a
/// machine that is overloaded. Longer than that only takes a `close()` that
/// hangs, or an application that has lost its client; neither is in a hurry.
const CLOSING: Duration = Duration::from_secs(1);

const MESSAGE: &str = "the application did not answer in time";

/// How often to stand back before the reactor is asked for all the same.
const PATIENCE: u32 = 50;

pub(crate) struct Relay<'a, 'c> {
    pub(crate) reactor: &'a Shared,
    pub(crate) watch: &'a Watch,
    pub(crate) orders: &'a Orders<'c>,
    pub(crate) alarm: Alarm,
    pub(crate) limit: Option<Limit>,
    /// The worker's name in the log.
    pub(crate) worker: &'a str,
}

/// What the relay knows of the request that runs.
struct Known {
    number: u64,
    since: Instant,
    /// Its method and path, noted while its client is there.
    request: Option<String>,
    /// How often in a row the main thread had the reactor.
    refused: u32,
}

/// How often the relay looks.
struct Pace {
    tick: Duration,
    /// Looks without a slow request, since the last change.
    quiet: u32,
}

impl Pace {
    fn new() -> Self {
        Self { tick: TICK, quiet: 0 }
    }

    /// Until the next look.
    fn rest(&mut self) {
        thread::sleep(self.tick);
        self.quiet += 1;
        if self.quiet >= QUIET {
            *self = Self { tick: (self.tick * 2).min(LONG_TICK), quiet: 0 };
        }
    }
}

impl Known {
    fn new(number: u64, since: Instant) -> Self {
        Self { number, since, request: None, refused: 0 }
    }

    fn note(&mut self, reactor: &Reactor, running: &Running) {
        self.request = self.request.take().or_else(|| describe(reactor, running.exchange));
    }
}

impl Relay<'_, '_> {
    /// Runs until the watch says that it is over.
    pub(crate) fn run(&self) {
        self.watch.enter();
        let mut idle = 0;
        let mut pace = Pace::new();
        let mut known = Known::new(0, Instant::now());
        loop {
            match self.watch.look(idle) {
                Look::End => return,
                Look::Park => {
                    thread::park();
                    idle = 0;
                }
                Look::Idle => {
                    idle += 1;
                    pace.rest();
                }
                Look::Running(_, since) if since.elapsed() < TICK => {
                    idle = 0;
                    pace.rest();
                }
                Look::Running(running, since) => {
                    idle = 0;
                    if running.number != known.number {
                        known = Known::new(running.number, since);
                    }
                    self.attend(&running, &mut known);
                    if since.elapsed() >= SLOW {
                        pace = Pace::new();
                    }
                }
            }
        }
    }

    /// Until something happens in the reactor, or the request's time is over.
    fn attend(&self, running: &Running, known: &mut Known) {
        let left = self.left(running, known.since);
        if left == Some(Duration::ZERO) {
            if !self.expire(running, known) {
                thread::sleep(TICK);
            }
        } else if self.drive(left, running, known) {
            known.refused = 0;
        } else {
            self.stand_back(left, known);
        }
    }

    /// The main thread has the reactor: most likely it waits for a slow reader,
    /// so look again later and later.
    fn stand_back(&self, left: Option<Duration>, known: &mut Known) {
        known.refused += 1;
        thread::sleep((TICK * known.refused).min(left.unwrap_or(Duration::MAX)));
        if known.refused == PATIENCE {
            known.refused = 0;
            if self.reactor.lock().take_watched() {
                self.orders.obey(self.reactor);
            }
        }
    }

    fn left(&self, running: &Running, since: Instant) -> Option<Duration> {
        let deadline = running.deadline(since, self.limit)?;
        running.is_timed().then(|| deadline.saturating_duration_since(Instant::now()))
    }

    /// One sleep and one step with the reactor in the main thread's place; false
    /// when it cannot be had.
    fn drive(&self, limit: Option<Duration>, running: &Running, known: &mut Known) -> bool {
        if self.reactor.is_wanted() {
            return false;
        }
        let Some(mut reactor) = self.reactor.try_lock() else { return false };
        known.note(&reactor, running);
        reactor.settle();
        if let Err(error) = reactor.wait(limit) {
            log::error!("epoll_wait: {error}");
            return false;
        }
        reactor.settle();
        let ordered = reactor.take_watched();
        drop(reactor);
        if ordered {
            self.orders.obey(self.reactor);
        }
        true
    }

    /// Answers the client in the application's place, then tells the application;
    /// false when it is too early or too late for that.
    fn expire(&self, running: &Running, known: &mut Known) -> bool {
        let mut reactor = self.reactor.lock();
        known.note(&reactor, running);
        // Nobody to answer: most likely the application has, just now.
        let is_answered = reactor.head(running.exchange).is_none();
        let overtime = running.deadline(known.since, self.limit).map_or(TICK, |at| at.elapsed());
        if (is_answered && overtime < CLOSING) || !self.watch.expire(running) {
            return false;
        }
        let answered = reactor.answer_late(running.exchange, 504, MESSAGE);
        drop(reactor);
        log::debug!(
            "client={} was answered in the application's place: {answered:?}",
            running.peer
        );
        let age = known.since.elapsed();
        let line = running.line(self.worker, known.request.as_deref(), age, self.limit);
        match self.alarm.ring() {
            Ok(stacks) => log::error!("{line}\n{}", stacks.trim_end()),
            Err(error) => log::error!("{line}; no stacks: {error}"),
        }
        true
    }
}
