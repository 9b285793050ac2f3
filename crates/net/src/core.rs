//! What all connections of a reactor share, apart from the connections.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Registry, Token};
use serve_http::{Limits, Stamp};

use crate::access::AccessLog;
use crate::body::Room;
use crate::clock::Clock;
use crate::counters::Counters;
use crate::deferred::Deferred;
use crate::gateway::Exchange;
use crate::handoff::HandOff;
use crate::options::Options;
use crate::reactor::Heirs;
use crate::statsd::Statsd;
use crate::timer::Timers;
use crate::trust::Witness;

/// Size of the one read buffer, in bytes: a connection has a buffer of its own
/// only while a request is incomplete.
const READ: usize = 64 * 1024;

/// Bytes that are read from or written to one connection before it is the
/// others' turn.
pub(crate) const SHARE: usize = 512 * 1024;

/// Pipelined requests that may follow each other in a turn, of all connections
/// together. Beyond, a client with many would keep the others waiting.
const FOLLOWERS: usize = 32;

pub(crate) struct Core {
    pub(crate) options: Options,
    pub(crate) limits: Arc<Limits>,
    /// For request bodies.
    pub(crate) room: Room,
    pub(crate) registry: Registry,
    pub(crate) timers: Timers,
    pub(crate) clock: Clock,
    /// The line of Server, with its CRLF; empty: none.
    server: Vec<u8>,
    /// Time of the last event or call; deadlines are counted from here.
    pub(crate) now: Instant,
    /// Where reads land. Taken out while it is parsed.
    pub(crate) inbox: Vec<u8>,
    /// Where a response head is serialised.
    pub(crate) outbox: Vec<u8>,
    /// Complete requests the application has not seen yet.
    pub(crate) ready: VecDeque<Exchange>,
    /// Keys of connections that could go on, had they not had their share of
    /// this turn. No event will come for them.
    pub(crate) again: Vec<usize>,
    pub(crate) deferred: Deferred,
    /// Counts the turns.
    pub(crate) turn: u64,
    /// How many pipelined requests may still follow in this turn.
    followers: usize,
    pub(crate) access: Option<AccessLog>,
    pub(crate) statsd: Option<Statsd>,
    pub(crate) witness: Witness,
    pub(crate) drain: Drain,
    /// The way to other workers.
    pub(crate) hand_off: Option<HandOff>,
    pub(crate) counters: Counters,
    /// When the log last heard of it.
    spool_failed: Option<Instant>,
}

/// Something to do for a connection, or for one of the others.
#[derive(Clone, Copy)]
pub(crate) struct Pending {
    pub(crate) token: Token,
    /// Heard of by which turn.
    pub(crate) turn: u64,
    pub(crate) readable: bool,
    /// The client writes no more, or the connection is broken.
    pub(crate) ended: bool,
    pub(crate) writable: bool,
}

impl Pending {
    pub(crate) fn new(event: &Event, turn: u64) -> Self {
        Self {
            token: event.token(),
            turn,
            readable: event.is_readable(),
            ended: event.is_read_closed() || event.is_error(),
            writable: event.is_writable() || event.is_write_closed() || event.is_error(),
        }
    }

    /// A connection that has had its share of the last turn and can go on.
    pub(crate) fn again(key: usize, turn: u64) -> Self {
        Self { token: Token(key), turn, readable: false, ended: false, writable: false }
    }
}

/// Whether the reactor goes on for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drain {
    No,
    /// Until `idle_until` a connection may wait for one more request, or for
    /// room to move to an heir. Every response is the last one of its
    /// connection, unless an heir can have it.
    Since {
        idle_until: Instant,
        heirs: Heirs,
    },
}

impl Drain {
    pub(crate) fn heirs(self) -> Option<Heirs> {
        match self {
            Self::No => None,
            Self::Since { heirs, .. } => Some(heirs),
        }
    }
}

impl Core {
    pub(crate) fn new(options: Options, access: Option<AccessLog>, registry: Registry) -> Self {
        let now = Instant::now();
        let server = Some(&options.server).filter(|server| !server.is_empty());
        let server = server.map(|server| format!("Server: {server}\r\n")).unwrap_or_default();
        Self {
            limits: Arc::new(options.limits.clone()),
            room: Room::new(options.body_memory, options.body_pool),
            witness: Witness::new(options.trust.clone(), options.request_ids),
            options,
            registry,
            timers: Timers::default(),
            clock: Clock::new(now),
            server: server.into_bytes(),
            now,
            inbox: vec![0; READ],
            outbox: Vec::with_capacity(4096),
            ready: VecDeque::new(),
            again: Vec::new(),
            deferred: Deferred::default(),
            turn: 0,
            followers: FOLLOWERS,
            access,
            statsd: None,
            drain: Drain::No,
            hand_off: None,
            counters: Counters::default(),
            spool_failed: None,
        }
    }

    /// A new turn begins.
    pub(crate) fn turn(&mut self) {
        self.followers = FOLLOWERS;
    }

    /// Whether one more pipelined request may follow in this turn.
    pub(crate) fn follow(&mut self) -> bool {
        let left = self.followers.checked_sub(1);
        self.followers = left.unwrap_or(0);
        left.is_some()
    }

    /// Looks at both clocks: whenever the loop has slept, and whenever an
    /// application comes back, which may have been away for longer than any
    /// timeout.
    pub(crate) fn tick(&mut self) {
        self.now = Instant::now();
        self.clock.tick(self.now);
    }

    pub(crate) fn stamp(&self) -> Stamp<'_> {
        Stamp { date: self.clock.date(), server: &self.server }
    }

    /// One line a second at most: a full disk fails every upload.
    pub(crate) fn cannot_spool(&mut self, error: &io::Error) {
        if self.spool_failed.is_some_and(|at| self.now < at + Duration::from_secs(1)) {
            return;
        }
        self.spool_failed = Some(self.now);
        log::error!(
            "cannot keep a request body in {}: {error}; answered 500",
            std::env::temp_dir().display()
        );
    }

    /// What the turn has to tell leaves.
    pub(crate) fn flush_logs(&mut self) {
        if let Some(statsd) = &mut self.statsd {
            statsd.flush();
        }
        if let Some(access) = &mut self.access {
            access.flush();
        }
    }

    /// Whether a connection goes on after its response; `moves`: as far as it is
    /// concerned, an heir can have it.
    pub(crate) fn keeps_alive(&self, moves: bool) -> bool {
        let goes_on = match self.drain {
            Drain::No => true,
            Drain::Since { idle_until, heirs } => {
                moves && heirs == Heirs::Some && self.now < idle_until
            }
        };
        goes_on && !self.options.keep_alive.is_zero()
    }
}
