//! Sends that wait for others, and whether one should.
//!
//! To write costs ten times what a small piece of a stream costs to make, and each
//! write wakes a client. A stream's client has to wait for the next piece anyway.
//! The one of a whole answer is woken together with the others of the turn: between
//! calls of the application, the kernel's work for a send and the interrupt of
//! another processor throw the application out of the caches.
//!
//! That pays only where the application works for a while, and must not hold
//! answers back behind a request that takes long. So it takes others that wait, and
//! an application that was quick for some time.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// An application that takes no longer does not fill the caches.
const WORTH: Duration = Duration::from_micros(20);

/// So many of them can be waited for, if the application is quick.
const OTHERS: u32 = 4;

/// For each that was slow, and at first, as many requests must have been quick. One
/// that was slow for once does not count: the machine may have been busy.
const CALM: u32 = 32;

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Deferred {
    /// Connections that something waits for.
    pub(crate) keys: Vec<usize>,
    /// Whether whole answers are among it.
    pub(crate) has_answers: bool,
    /// When the first of them has waited long enough.
    until: Option<Instant>,
    /// How long a piece of a stream may wait, if the one before was as recent.
    pub(crate) pieces: Duration,
    /// How long a whole answer may, if requests are quick: several take no longer.
    answers: Duration,
    /// Requests that were quick, less `CALM` for each that was not; twice as many
    /// at most.
    quick: u32,
    /// Whether others wait for the application.
    pub(crate) company: bool,
    /// What ends the wait, unless the driver sees to it.
    pub(crate) timer: Option<KernelTimer>,
}

/// A timer of the kernel's: to set it wakes nobody.
#[derive(Debug)]
pub(crate) struct KernelTimer {
    timer: TimerFd,
    /// When it goes off; `None` once that was heard.
    at: Option<Instant>,
    pub(crate) ends: Ends,
}

/// Whose sleep the timer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// The reactor's, whose driver does not see to what waits before.
    OwnSleep,
    /// Of a thread that has nothing else to do with it.
    Another,
}

impl KernelTimer {
    /// # Errors
    /// Those of timerfd_create(2).
    pub(crate) fn new(ends: Ends) -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Self { timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?, at: None, ends })
    }

    /// Readable when it has gone off. Nobody has to read: setting it again makes a
    /// new event.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.timer.as_fd().as_raw_fd()
    }

    fn set(&mut self, now: Instant, at: Instant) -> io::Result<()> {
        if self.at.is_some_and(|earlier| earlier <= at) {
            return Ok(());
        }
        // Zero would mean never.
        let left = at.saturating_duration_since(now).max(Duration::from_nanos(1));
        let once = Expiration::OneShot(TimeSpec::from_duration(left));
        self.timer.set(once, TimerSetTimeFlags::empty())?;
        self.at = Some(at);
        Ok(())
    }
}

impl Deferred {
    /// The longest time for pieces of streams and for answers; zero for never.
    pub(crate) fn limit(&mut self, pieces: Duration, answers: Duration) {
        self.pieces = pieces;
        self.answers = answers;
    }

    pub(crate) fn add_piece(&mut self, key: usize, now: Instant) {
        self.add(key, now, now + self.pieces);
    }

    pub(crate) fn add_answer(&mut self, key: usize, now: Instant) {
        self.has_answers = true;
        self.add(key, now, now + self.answers);
    }

    fn add(&mut self, key: usize, now: Instant, until: Instant) {
        self.keys.push(key);
        self.until = Some(self.until.map_or(until, |earlier| earlier.min(until)));
        self.set_timer(now);
    }

    /// What waited for this one is written already: nobody else must leave earlier
    /// for it.
    pub(crate) fn left(&mut self, key: usize) {
        self.keys.retain(|other| *other != key);
        if self.keys.is_empty() {
            (self.until, self.has_answers) = (None, false);
        }
    }

    /// The timer has gone off.
    pub(crate) fn went_off(&mut self) {
        if let Some(timer) = &mut self.timer {
            timer.at = None;
        }
    }

    /// Sees to it that the reactor turns when something has waited long enough.
    pub(crate) fn set_timer(&mut self, now: Instant) {
        let (Some(timer), Some(until)) = (&mut self.timer, self.until) else { return };
        if let Err(error) = timer.set(now, until) {
            log::warn!("timerfd_settime: {error}; nothing is sent together any more");
            self.limit(Duration::ZERO, Duration::ZERO);
            self.until = Some(now);
        }
    }

    pub(crate) fn take(&mut self) -> Vec<usize> {
        self.until = None;
        self.has_answers = false;
        std::mem::take(&mut self.keys)
    }

    pub(crate) fn is_late(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Whether an answer should wait, to a request that runs since then.
    pub(crate) fn holds_answer(&self, since: Instant, now: Instant) -> bool {
        self.company && self.quick >= CALM && now >= since + WORTH
    }

    /// The application is done with a request that it has had since then.
    pub(crate) fn note(&mut self, since: Instant, now: Instant) {
        self.quick = match now <= since + self.answers / OTHERS {
            true => (self.quick + 1).min(2 * CALM),
            false => self.quick.saturating_sub(CALM),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_micros(100);
    const SLOW: Duration = Duration::from_millis(2);

    impl Deferred {
        fn holds(&self, took: Duration) -> bool {
            let now = Instant::now();
            self.holds_answer(now, now + took)
        }

        fn took(&mut self, took: Duration) {
            let now = Instant::now();
            self.note(now, now + took);
        }
    }

    fn deferred() -> Deferred {
        let mut deferred = Deferred { company: true, ..Deferred::default() };
        deferred.limit(Duration::from_micros(200), Duration::from_millis(1));
        deferred
    }

    #[test]
    fn answers_wait_once_the_application_was_quick_for_a_while() {
        let mut deferred = deferred();
        for _ in 0..CALM {
            assert!(!deferred.holds(QUICK));
            deferred.took(QUICK);
        }
        assert!(deferred.holds(QUICK));
        assert!(!deferred.holds(Duration::from_micros(5)), "hardly worth it");
        deferred.company = false;
        assert!(!deferred.holds(QUICK), "nobody to wait for");
        deferred.company = true;
        deferred.took(SLOW);
        deferred.took(QUICK);
        assert!(!deferred.holds(QUICK), "the next may be slow again");
        (0..3 * CALM).for_each(|_| deferred.took(QUICK));
        deferred.took(SLOW);
        assert!(deferred.holds(QUICK), "once in a long time");
        deferred.took(SLOW);
        assert!(!deferred.holds(QUICK), "but not again");
    }

    #[test]
    fn they_never_wait_where_it_is_not_allowed() {
        let mut deferred = Deferred { company: true, ..Deferred::default() };
        (0..2 * CALM).for_each(|_| deferred.took(QUICK));
        assert!(!deferred.holds(QUICK));
    }

    #[test]
    fn what_has_left_makes_nobody_leave_early() {
        let mut deferred = deferred();
        let now = Instant::now();
        deferred.add_piece(1, now);
        deferred.left(1);
        deferred.add_piece(2, now + QUICK);
        assert!(!deferred.is_late(now + QUICK + Duration::from_micros(199)));
        deferred.add_piece(1, now + QUICK * 2);
        deferred.left(1);
        assert!(deferred.is_late(now + QUICK + Duration::from_micros(200)), "the other one waits");
    }

    #[test]
    fn the_timer_is_set_for_the_first_that_must_leave() {
        let timer = Some(KernelTimer::new(Ends::OwnSleep).expect("timer"));
        let mut deferred = Deferred { timer, ..deferred() };
        let at = |deferred: &Deferred| deferred.timer.as_ref().and_then(|timer| timer.at);
        let now = Instant::now();
        deferred.add_answer(1, now);
        assert_eq!(at(&deferred), Some(now + Duration::from_millis(1)));
        deferred.add_piece(2, now);
        assert_eq!(at(&deferred), Some(now + Duration::from_micros(200)));
        deferred.add_piece(3, now + QUICK);
        assert_eq!(at(&deferred), Some(now + Duration::from_micros(200)), "it is soon enough");
        deferred.take();
        deferred.went_off();
        deferred.set_timer(now);
        assert_eq!(at(&deferred), None, "nothing waits");
    }

    #[test]
    fn the_first_that_has_waited_long_enough_counts() {
        let mut deferred = deferred();
        let now = Instant::now();
        deferred.add_answer(1, now);
        deferred.add_piece(2, now);
        assert!(!deferred.is_late(now + Duration::from_micros(199)));
        assert!(deferred.is_late(now + Duration::from_micros(200)));
        assert_eq!(deferred.take(), [1, 2]);
        assert!(!deferred.is_late(now + SLOW));
    }
}
