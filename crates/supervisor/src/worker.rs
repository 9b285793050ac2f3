//! A worker as the table sees it: which one, whose, in what state, and until when.
//!
//! Data only; the rules that move a worker from state to state are the table's.

use std::fmt;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Milliseconds of `CLOCK_MONOTONIC`, or a span of them.
pub(crate) type Ms = u64;

/// How many workers exist at most at one time, those that are finishing included: the scoreboard's
/// length.
pub(crate) const SLOTS: u16 = 512;

/// Tells a worker to retire while others serve on; SIGTERM says that nobody will. Not one of those
/// that mean something to the master: sent to all processes of a server, they must not end workers.
pub(crate) const RETIRE: Signal = Signal::SIGURG;

/// The highest number of workers that may be asked for. A few slots more exist, so that a reload
/// can always start a new worker beside a full house.
pub const MAX_WORKERS: u16 = 500;

/// A worker's number, from 1; also its place on the scoreboard. The lowest free number is reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct WorkerId(u16);

impl WorkerId {
    /// All numbers there are, lowest first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (1..=SLOTS).map(Self)
    }

    /// From 1, as the log shows it.
    pub fn number(self) -> u16 {
        self.0
    }

    /// The place on the scoreboard, `< SLOTS`.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0 - 1)
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a worker is in its life. Deadlines are moments on the monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Ordered or booting; given up at the deadline.
    Starting { deadline: Ms },
    /// Serving.
    Ready { since: Ms },
    /// Was told to end by `signal`; killed at the deadline.
    Retiring { signal: Signal, deadline: Ms },
    /// Was sent SIGABRT and gets SIGKILL at the deadline; `None`: was sent SIGKILL, only its death
    /// is awaited.
    Killed { deadline: Option<Ms> },
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) generation: u32,
    /// `None` between the order and the worker's first word.
    pub(crate) pid: Option<Pid>,
    pub(crate) state: State,
    pub(crate) ordered: Ms,
    /// When it is recycled for its age; from when it is ready on.
    pub(crate) expires: Option<Ms>,
    /// Signals that were for it before it had a pid; empty afterwards.
    pub(crate) pending: Vec<Signal>,
    /// Why the master killed it, for the line that reports its death.
    pub(crate) cause: Option<String>,
}

impl Worker {
    pub(crate) fn ordered(id: WorkerId, generation: u32, now: Ms, boot: Ms) -> Self {
        let state = State::Starting { deadline: now + boot };
        Self {
            id,
            generation,
            pid: None,
            state,
            ordered: now,
            expires: None,
            pending: Vec::new(),
            cause: None,
        }
    }

    /// Counts towards the number of workers wanted.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.state, State::Starting { .. } | State::Ready { .. })
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    pub(crate) fn is_starting(&self) -> bool {
        matches!(self.state, State::Starting { .. })
    }

    /// Its deadline, if there is one, is not before this moment.
    pub(crate) fn spare(&mut self, until: Ms) {
        match &mut self.state {
            State::Starting { deadline }
            | State::Retiring { deadline, .. }
            | State::Killed { deadline: Some(deadline) } => *deadline = (*deadline).max(until),
            State::Ready { .. } | State::Killed { deadline: None } => {}
        }
    }

    pub(crate) fn deadline(&self) -> Option<Ms> {
        match self.state {
            State::Starting { deadline } | State::Retiring { deadline, .. } => Some(deadline),
            State::Ready { .. } => self.expires,
            State::Killed { deadline } => deadline,
        }
    }
}

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker={}", self.id)?;
        if let Some(pid) = self.pid {
            write!(f, " pid={pid}")?;
        }
        write!(f, " gen={}", self.generation)
    }
}
