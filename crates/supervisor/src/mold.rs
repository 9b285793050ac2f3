//! A generation as the table sees it: its mold, how far it has come, and what it asks for.
//!
//! Data only, like `worker`; also the back-off that spaces out what keeps failing.

use nix::unistd::Pid;

use crate::worker::Ms;

/// What the table needs of a [`Plan`](crate::Plan).
#[derive(Default, Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) workers: u16,
    /// A worker that shows no life for this long, and `kill_grace` more, is replaced; `None`: never.
    pub(crate) timeout: Option<Ms>,
    pub(crate) kill_grace: Ms,
    pub(crate) graceful: Ms,
    pub(crate) boot: Ms,
    /// A worker this old is recycled.
    pub(crate) max_age: Option<Ms>,
    /// A worker with more resident bytes is recycled.
    pub(crate) max_rss: Option<u64>,
    /// What all workers together must stay below, in bytes.
    pub(crate) memory: Option<u64>,
    /// How long TERM changes nothing yet but what readiness says.
    pub(crate) drain: Ms,
    /// How many workers more than the target may exist during a reload, `>= 1`.
    pub(crate) surge: u16,
    /// The mold leaves after its workers.
    pub(crate) keep_mold: bool,
    /// The mold wants to know what happens, to the end.
    pub(crate) news: bool,
}

/// How far a generation has come. Only forwards, and to `Leaving` from anywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Phase {
    /// Its mold evaluates the configuration.
    Molding,
    /// Its mold prepares (preloads) the application.
    Booting,
    /// Its first worker has to show that it can serve.
    Canary,
    /// Its workers replace the old generation's, one by one.
    Rolling,
    /// The current one.
    Serving,
    /// Replaced, given up, or the server stops; waits for its last worker and its mold.
    Leaving,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mold {
    /// The fork was asked for; the rim has not answered yet.
    Unborn,
    Alive(Pid),
    /// It closed its link: it takes no more orders, and ends soon or is killed.
    Silent(Pid),
    Gone,
}

impl Mold {
    pub(crate) fn pid(self) -> Option<Pid> {
        match self {
            Self::Alive(pid) | Self::Silent(pid) => Some(pid),
            Self::Unborn | Self::Gone => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) id: u32,
    pub(crate) phase: Phase,
    pub(crate) mold: Mold,
    /// Meaningful from `Booting` on; before that only `boot` is.
    pub(crate) settings: Settings,
    /// Its mold is to leave once its workers are gone.
    pub(crate) waits: bool,
    /// Why the master killed its mold, for the line that reports the death.
    pub(crate) killed: Option<&'static str>,
    /// How many workers it should have now: the plan's number, moved by TTIN, TTOU and WINCH.
    pub(crate) target: u16,
    /// Until `Canary`: given up then. Later: its mold is killed then.
    pub(crate) deadline: Option<Ms>,
    pub(crate) settled: Ms,
    /// When its next worker may be ordered.
    pub(crate) retry: Backoff,
}

impl Generation {
    pub(crate) fn new(id: u32, now: Ms, boot: Ms) -> Self {
        Self {
            id,
            phase: Phase::Molding,
            mold: Mold::Unborn,
            killed: None,
            settings: Settings { boot, surge: 1, ..Settings::default() },
            target: 0,
            waits: false,
            deadline: Some(now + boot),
            settled: 0,
            retry: Backoff::default(),
        }
    }

    /// The deadline, if there is one, is not before this moment.
    pub(crate) fn spare(&mut self, until: Ms) {
        self.deadline = self.deadline.map(|deadline| deadline.max(until));
    }

    /// Moves the deadline forwards in time only if that is sooner.
    pub(crate) fn hurry(&mut self, deadline: Ms) {
        self.deadline = Some(self.deadline.map_or(deadline, |old| old.min(deadline)));
    }
}

/// Half a second after the first failure, doubling to half a minute, forgotten after ten quiet
/// seconds.
#[derive(Default, Clone, Copy, Debug)]
pub(crate) struct Backoff {
    delay: Ms,
    until: Ms,
}

impl Backoff {
    pub(crate) const FIRST: Ms = 500;
    pub(crate) const LONGEST: Ms = 30_000;
    pub(crate) const QUIET: Ms = 10_000;

    /// Something failed: the moment of the next attempt. Failures during a delay are the same
    /// failure (workers that were started together die together) and do not lengthen it.
    pub(crate) fn fail(&mut self, now: Ms) -> Ms {
        if now >= self.until {
            let quiet = now >= self.until + Self::QUIET;
            self.delay = if quiet || self.delay == 0 {
                Self::FIRST
            } else {
                (self.delay * 2).min(Self::LONGEST)
            };
            self.until = now + self.delay;
        }
        self.until
    }

    /// The next attempt may be made from this moment on.
    pub(crate) fn until(&self) -> Ms {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;

    #[test]
    fn backoff_doubles_to_its_limit_and_forgets_after_quiet() {
        let mut backoff = Backoff::default();
        let mut now = 1_000_000;
        let mut delays = Vec::new();
        for _ in 0..8 {
            let until = backoff.fail(now);
            assert_eq!(
                backoff.fail(now + 1),
                until,
                "a failure during the delay is the same failure"
            );
            delays.push(until - now);
            now = until;
        }
        assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        now += Backoff::QUIET;
        assert_eq!(backoff.fail(now) - now, Backoff::FIRST);
    }
}
