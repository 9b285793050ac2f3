//! The master's clock: what time it is, and whether the master was away.
//!
//! Pure; the caller reads the time. Away is to look long after one wanted to, between two steps or
//! out of a sleep: no machine is so busy, so the master was stopped or suspended, and perhaps all
//! its children with it.

use crate::worker::Ms;

/// To be so late is no matter of a busy machine.
const AWAY: Ms = 1_000;

#[derive(Debug)]
pub(crate) struct Clock {
    now: Ms,
    /// When the next look was to be, at the latest.
    due: Ms,
}

/// What a look tells besides the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lapse {
    None,
    Away,
}

impl Clock {
    pub(crate) fn new(now: Ms) -> Self {
        Self { now, due: now }
    }

    /// As it was when last looked at: what is decided by it stays right if the master is stopped
    /// meanwhile.
    pub(crate) fn now(&self) -> Ms {
        self.now
    }

    /// Looks at it. Until [`Clock::sleep`] the next look is due at once.
    pub(crate) fn look(&mut self, now: Ms) -> Lapse {
        let lapse = if now > self.due.saturating_add(AWAY) { Lapse::Away } else { Lapse::None };
        (self.now, self.due) = (now, now);
        lapse
    }

    /// The master sleeps until then, or for as long as nothing happens.
    pub(crate) fn sleep(&mut self, until: Option<Ms>) {
        self.due = until.map_or(Ms::MAX, |until| until.max(self.now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_in_time_was_not_away() {
        let mut clock = Clock::new(5_000);
        for now in [5_000, 5_000 + AWAY, 5_000 + 2 * AWAY] {
            assert_eq!((clock.look(now), clock.now()), (Lapse::None, now));
        }
    }

    #[test]
    fn a_jump_between_two_looks_is_told_once() {
        let mut clock = Clock::new(5_000);
        assert_eq!(clock.look(5_001 + AWAY), Lapse::Away);
        assert_eq!(clock.look(5_001 + AWAY), Lapse::None);
    }

    #[test]
    fn a_sleep_is_no_jump_unless_it_was_too_long() {
        let mut clock = Clock::new(5_000);
        clock.sleep(Some(9_000));
        assert_eq!(clock.look(9_000 + AWAY), Lapse::None);
        clock.sleep(Some(9_000));
        assert_eq!(clock.look(10_001 + AWAY), Lapse::Away, "the deadline had passed before");
        clock.sleep(None);
        assert_eq!(clock.look(1_000_000), Lapse::None, "nobody knows for how long it should sleep");
        assert_eq!(clock.look(2_000_000), Lapse::Away);
    }
}
