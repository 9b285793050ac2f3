//! Deadlines of connections, lazily kept: a connection moves its deadline by
//! writing a field, and the heap learns of it only when the old one comes due.
//! A kept-alive request therefore costs no heap operation at all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// A heap of so many entries is not worth sweeping.
const SWEEP: usize = 1024;

/// Why a connection has a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Nothing of the next request has arrived.
    KeepAlive,
    /// A head began and must be complete.
    Header,
    /// The body must keep up a minimum rate.
    BodyRate,
    /// The request must be given to the application.
    Queue,
    /// The client must take some of the response.
    Write,
    /// The response is sent; the client may still be writing.
    Linger,
}

/// A connection's own part: what it waits for, and what the heap knows.
///
/// INVARIANT: `armed` is the earliest heap entry of this connection, and while
/// `due` is set, `armed <= due`.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Deadline {
    due: Option<(Instant, Timer)>,
    armed: Option<Instant>,
}

impl Deadline {
    pub(crate) fn clear(&mut self) {
        self.due = None;
    }

    /// Whether the heap's entry for `at` is the one that counts.
    pub(crate) fn is_armed(&self, at: Instant) -> bool {
        self.armed == Some(at)
    }

    pub(crate) fn timer(&self) -> Option<Timer> {
        self.due.map(|(_, timer)| timer)
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.due.map(|(at, _)| at)
    }
}

/// The heap of all connections: (when, slab key, connection serial).
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, usize, u32)>>,
}

impl Timers {
    pub(crate) fn arm(
        &mut self,
        deadline: &mut Deadline,
        owner: (usize, u32),
        timer: Timer,
        at: Instant,
    ) {
        deadline.due = Some((at, timer));
        if deadline.armed.is_none_or(|armed| armed > at) {
            deadline.armed = Some(at);
            self.heap.push(Reverse((at, owner.0, owner.1)));
        }
    }

    /// Forgets the entries that `live` does not know, once they are the most of
    /// them: connections end long before their deadlines.
    pub(crate) fn sweep(&mut self, count: usize, live: impl Fn(Instant, usize, u32) -> bool) {
        if self.heap.len() > SWEEP && self.heap.len() > 2 * count {
            self.heap.retain(|Reverse((at, key, serial))| live(*at, *key, *serial));
        }
    }

    /// When [`Timers::pop`] may have something, at the earliest.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next entry that is due; its owner asks [`Timers::expired`].
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Instant, usize, u32)> {
        self.next().filter(|at| *at <= now)?;
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Whether the popped entry really ends something, or the deadline has
    /// moved on meanwhile (then the heap learns the new one).
    pub(crate) fn expired(
        &mut self,
        deadline: &mut Deadline,
        entry: (Instant, usize, u32),
        now: Instant,
    ) -> Option<Timer> {
        let (at, key, serial) = entry;
        if !deadline.is_armed(at) {
            return None;
        }
        deadline.armed = None;
        let (due, timer) = deadline.due?;
        if due <= now {
            deadline.due = None;
            return Some(timer);
        }
        self.arm(deadline, (key, serial), timer, due);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const OWNER: (usize, u32) = (7, 1);

    fn fire(timers: &mut Timers, deadline: &mut Deadline, now: Instant) -> Vec<Timer> {
        let mut fired = Vec::new();
        while let Some(entry) = timers.pop(now) {
            fired.extend(timers.expired(deadline, entry, now));
        }
        fired
    }

    #[test]
    fn a_later_deadline_costs_no_push_and_an_earlier_one_fires_first() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let (mut timers, mut deadline) = (Timers::default(), Deadline::default());
        for second in 0..50 {
            timers.arm(&mut deadline, OWNER, Timer::KeepAlive, at(75 + second));
        }
        assert_eq!(timers.heap.len(), 1, "moving a deadline later must not touch the heap");
        timers.arm(&mut deadline, OWNER, Timer::Header, at(20));
        assert_eq!(timers.next(), Some(at(20)));
        assert_eq!(fire(&mut timers, &mut deadline, at(19)), []);
        assert_eq!(fire(&mut timers, &mut deadline, at(20)), [Timer::Header]);
    }

    #[test]
    fn entries_of_connections_that_are_gone_do_not_pile_up() {
        let start = Instant::now();
        let (mut timers, mut kept) = (Timers::default(), Deadline::default());
        timers.arm(&mut kept, OWNER, Timer::KeepAlive, start);
        for serial in 0..100_000 {
            timers.arm(&mut Deadline::default(), (8, serial), Timer::KeepAlive, start);
            timers.sweep(1, |at, key, serial| (key, serial) == OWNER && kept.is_armed(at));
            assert!(timers.heap.len() <= SWEEP + 1);
        }
        assert_eq!(fire(&mut timers, &mut kept, start), [Timer::KeepAlive]);
    }

    #[test]
    fn a_moved_deadline_fires_at_its_new_time_once() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let (mut timers, mut deadline) = (Timers::default(), Deadline::default());
        timers.arm(&mut deadline, OWNER, Timer::Header, at(20));
        timers.arm(&mut deadline, OWNER, Timer::KeepAlive, at(90));
        assert_eq!(fire(&mut timers, &mut deadline, at(50)), []);
        assert_eq!(fire(&mut timers, &mut deadline, at(91)), [Timer::KeepAlive]);
        assert_eq!(fire(&mut timers, &mut deadline, at(500)), []);
        deadline.clear();
        assert_eq!(deadline.timer(), None);
    }
}
