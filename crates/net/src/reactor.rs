//! The loop of one worker. Any driver may own its sleep:
//!
//! * [`Reactor::fd`] becomes readable when there is something to do,
//! * [`Reactor::deadline`] says when to turn at the latest,
//! * [`Reactor::wait`] sleeps and [`Reactor::next`] works: together they are a
//!   turn ([`crate::Shared::turn`]),
//! * [`crate::Shared::stir`] and [`Reactor::pull`] are the halves of `next`, for
//!   drivers whose threads help themselves,
//! * [`Reactor::handle`] lets other threads in.
//!
//! Belongs to one thread; create it after the fork, since an epoll descriptor
//! is shared with a child.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token, Waker};
use rustc_hash::FxHashSet;
use serve_http::{Error, Head, Response, Size};
use slab::Slab;

use crate::access::AccessLog;
use crate::conn::{Conn, Phase};
use crate::core::{Core, Pending};
use crate::counters::Counters;
use crate::gateway::{Exchange, ExchangeId, Sent};
use crate::handle::Handle;
use crate::handoff::Put;
use crate::listen::{Acceptor, Listener, Local};
use crate::options::Options;

mod accept;
mod deferring;
mod leaving;
mod logs;
mod sharing;
mod sleep;
mod taking;

pub use deferring::LateSends;
pub use sharing::Heirs;
pub(crate) use sleep::Sleeper;
use sleep::{EVENTS, Sleep};

/// Connections accepted before the others are looked at again.
const ACCEPTS: usize = 16;

/// Requests that are read before the first of them runs. Read one by one between
/// calls of an application, each would find the code for it gone from the caches.
const AHEAD: usize = 16;

const WAKER: Token = Token(usize::MAX);
const WATCH: Token = Token(usize::MAX - 1);
const TAKE: Token = Token(usize::MAX - 2);
const TIMER: Token = Token(usize::MAX - 3);
/// Listener N is `LISTENERS - N`; connections count up from 0.
const LISTENERS: usize = usize::MAX - 4;

/// See the module's description.
pub struct Reactor {
    core: Core,
    /// Taken out while somebody sleeps.
    sleeper: Option<Box<Sleeper>>,
    sleep: Sleep,
    /// Of the poller.
    fd: RawFd,
    /// Whether other threads pull the requests: none of them is a reason to turn.
    pub(crate) pulled: bool,
    /// Events taken and not yet worked on. In their order: whoever is served first
    /// in one turn asks first for the next, and would be the last one then.
    pending: VecDeque<Pending>,
    conns: Slab<Conn>,
    serial: u32,
    doors: Vec<Door>,
    next_door: usize,
    /// Exchanges the application has and has not finished, also those whose
    /// client has its answer already: each holds a slot.
    running: FxHashSet<ExchangeId>,
    handle: Handle,
    watched: bool,
    source: Source,
    /// How many connections may still be accepted before the next wait.
    accepts: usize,
    accept_again: Option<Instant>,
    /// When descriptors were last missing, in the current episode of it.
    short: Option<Instant>,
    /// Exchanges that the application has, and whose client has gone.
    gone: Vec<ExchangeId>,
}

/// A listener, and whether its queue may hold a connection.
struct Door {
    local: Local,
    acceptor: Option<Acceptor>,
    ready: bool,
    /// How many more it may accept, once it is being closed.
    left: usize,
}

/// Where work comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// This worker's connections.
    Own,
    /// Other workers, by the hand-off.
    Put,
    /// The listeners.
    New,
}

impl Source {
    fn after(self) -> Self {
        match self {
            Self::Own => Self::Put,
            Self::Put => Self::New,
            Self::New => Self::Own,
        }
    }
}

impl Reactor {
    /// A loop over `listeners`.
    ///
    /// # Errors
    /// When the kernel gives no epoll or event descriptor.
    pub fn new(
        options: Options,
        listeners: Vec<Listener>,
        access: Option<AccessLog>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let mut doors = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let (local, acceptor) = listener.into_acceptor();
            let token = Token(LISTENERS - index);
            let fd = acceptor.raw_fd();
            poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)?;
            doors.push(Door { local, acceptor: Some(acceptor), ready: true, left: 0 });
        }
        Ok(Self {
            core: Core::new(options, access, poll.registry().try_clone()?),
            fd: poll.as_raw_fd(),
            sleeper: Some(Sleeper::new(poll)),
            sleep: Sleep::No,
            pulled: false,
            pending: VecDeque::with_capacity(EVENTS),
            conns: Slab::new(),
            serial: 0,
            doors,
            next_door: 0,
            running: FxHashSet::default(),
            handle: Handle::new(waker),
            watched: false,
            source: Source::Own,
            accepts: ACCEPTS,
            accept_again: None,
            short: None,
            gone: Vec::new(),
        })
    }

    // ---- the driver's side

    /// Readable when there is something to do (an epoll descriptor).
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// A way in for other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Also wakes when `fd` has something new to read or ends, which
    /// [`Reactor::take_watched`] then tells. The caller keeps it open and reads
    /// it.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn watch(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.core.registry.register(&mut SourceFd(&fd.as_raw_fd()), WATCH, Interest::READABLE)
    }

    /// Whether a watched descriptor has woken the loop since the last call.
    pub fn take_watched(&mut self) -> bool {
        std::mem::take(&mut self.watched)
    }

    /// Works through what [`Reactor::wait`] found until a request is complete;
    /// `None` when there is nothing more to do but to wait again.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end; this goes on")]
    pub fn next(&mut self) -> Option<Exchange> {
        self.expire();
        loop {
            if self.core.ready.is_empty() {
                while self.core.ready.len() < AHEAD && self.step() {}
            }
            if let Some(exchange) = self.run() {
                return Some(exchange);
            }
            if !self.step() && !self.flush_deferred() {
                self.settled();
                return None;
            }
        }
    }

    /// All that a wait has found is done.
    pub(crate) fn settled(&mut self) {
        self.relieve();
        self.core.flush_logs();
    }

    /// Looks for one more piece of work, at each source in its turn: when there
    /// is more than can be done, none of them may starve another.
    pub(crate) fn step(&mut self) -> bool {
        for _ in 0..3 {
            self.source = self.source.after();
            let found = match self.source {
                Source::Own => match self.pending.pop_front() {
                    Some(event) => {
                        self.event(event);
                        return true;
                    }
                    None => false,
                },
                Source::Put => self.accepts > 0 && self.take(),
                Source::New => self.accepts > 0 && self.accept(),
            };
            if found {
                self.accepts -= 1;
                return true;
            }
        }
        false
    }

    /// As [`Reactor::next`], but only moves bytes: for a driver whose application
    /// waits in the middle of a call. Complete requests go to other workers or
    /// stay for the next `next`, new connections in the kernel's queue.
    pub fn settle(&mut self) {
        self.expire();
        while let Some(event) = self.pending.pop_front() {
            self.event(event);
        }
        self.flush_deferred();
        self.settled();
    }

    /// The time of the last event, or of the last call of an application.
    pub fn now(&self) -> Instant {
        self.core.now
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        self.core.counters
    }

    /// Open client connections.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    // ---- the application's side

    /// The head of a request that is being answered; `None` once its client has
    /// gone.
    pub fn head(&self, id: ExchangeId) -> Option<&Head> {
        let conn = self.conns.get(id.key)?;
        conn.runs(id).then(|| conn.http().head())
    }

    /// Sends a response head and the first piece of its body in one write.
    ///
    /// # Errors
    /// When the head contradicts itself (the application's fault); nothing has
    /// been sent then, and [`Reactor::fail`] still can answer.
    pub fn begin(
        &mut self,
        id: ExchangeId,
        response: &Response,
        size: Size,
        first: &[u8],
    ) -> Result<Sent, Error> {
        self.with(id, Ok(Sent::Gone), |conn, core| {
            let sent = conn.begin(core, response, size, first);
            if core.options.notice_gone {
                conn.register(core);
            }
            sent
        })
    }

    /// Sends a further piece of a body.
    ///
    /// # Errors
    /// When the body is not open.
    pub fn send(&mut self, id: ExchangeId, data: &[u8]) -> Result<Sent, Error> {
        self.with(id, Ok(Sent::Gone), |conn, core| conn.send(core, data))
    }

    /// Sends `len` bytes of `file` from `offset` as a piece of a body, without
    /// reading them into memory.
    ///
    /// # Errors
    /// When the body is not open.
    pub fn send_file(
        &mut self,
        id: ExchangeId,
        file: File,
        offset: u64,
        len: u64,
    ) -> Result<(), Error> {
        self.with(id, Ok(()), |conn, core| conn.send_file(core, file, offset, len))
    }

    /// Whether a response's buffer has room again.
    pub fn room(&self, id: ExchangeId) -> Sent {
        match self.conns.get(id.key) {
            Some(conn) if conn.runs(id) => conn.room(&self.core),
            _ => Sent::Gone,
        }
    }

    /// Ends a body, and with it the exchange.
    ///
    /// # Errors
    /// When the body is shorter than its Content-Length; the connection has been
    /// cut then.
    pub fn finish(&mut self, id: ExchangeId) -> Result<(), Error> {
        self.release(id);
        self.with(id, Ok(()), Conn::finish)
    }

    /// Answers with a whole response, in one write if the client takes it.
    ///
    /// # Errors
    /// When the head contradicts itself or the body (the application's fault):
    /// 500 has been answered, or the connection cut.
    pub fn respond(
        &mut self,
        id: ExchangeId,
        response: &Response,
        body: &[u8],
    ) -> Result<(), Error> {
        self.release(id);
        self.with(id, Ok(()), |conn, core| conn.respond(core, response, body))
    }

    /// Ends an exchange that cannot be answered properly: `status` and `message`
    /// if nothing was sent, otherwise the connection is cut.
    pub fn fail(&mut self, id: ExchangeId, status: u16, message: &str) {
        self.release(id);
        self.with(id, (), |conn, core| conn.fail(core, status, message));
    }

    /// As [`Reactor::fail`], but while the application still runs: the exchange
    /// is over for the client, and keeps its slot until the application's own
    /// `respond`, `finish` or `fail`, which finds its client gone.
    ///
    /// [`Sent::Gone`] if there was nobody left to answer: the application was
    /// quicker, or the client has gone.
    pub fn answer_late(&mut self, id: ExchangeId, status: u16, message: &str) -> Sent {
        self.with(id, Sent::Gone, |conn, core| {
            core.counters.timed_out += 1;
            conn.fail(core, status, message);
            Sent::Taken
        })
    }

    // ---- inside

    /// Whether there is something to do without an event. A request that must
    /// wait for a slot is nothing: whoever frees the slot turns the loop.
    fn busy(&self) -> bool {
        (!self.pulled && self.has_slot() && !self.core.ready.is_empty())
            || !self.pending.is_empty()
            || !self.core.again.is_empty()
            || self.has_deferred()
            || !self.gone.is_empty()
            || self.is_drained()
            || (self.may_accept() && self.doors.iter().any(|door| door.ready))
            || self.may_take()
    }

    fn may_accept(&self) -> bool {
        self.running.len() + self.core.ready.len() < self.core.options.slots
            && self.accept_again.is_none()
    }

    fn has_slot(&self) -> bool {
        self.free() > 0
    }

    /// Slots.
    fn free(&self) -> usize {
        self.core.options.slots.saturating_sub(self.running.len())
    }

    /// The next request that the application can have now.
    fn run(&mut self) -> Option<Exchange> {
        while self.has_slot() {
            let exchange = self.core.ready.pop_front()?;
            if self.leave(&exchange) == Put::Done {
                continue;
            }
            self.on_conn(exchange.id.key, Conn::run);
            if self.conns.get(exchange.id.key).is_some_and(|conn| conn.runs(exchange.id)) {
                self.running.insert(exchange.id);
                self.core.deferred.company =
                    !self.pending.is_empty() || !self.core.ready.is_empty();
                return Some(exchange);
            }
        }
        None
    }

    fn event(&mut self, event: Pending) {
        match event.token {
            WAKER => {
                for job in self.handle.take() {
                    job(self);
                }
            }
            WATCH => self.watched = true,
            TAKE => self.take_event(),
            TIMER => {
                self.send_late();
            }
            Token(index) if index > LISTENERS - self.doors.len() => {
                self.doors[LISTENERS - index].ready = true;
            }
            Token(key) => self.on_conn(key, |conn, core| conn.event(core, event)),
        }
    }

    pub(crate) fn expire(&mut self) {
        let now = self.core.now;
        if self.accept_again.is_some_and(|at| at <= now) {
            self.accept_again = None;
        }
        self.core.room.expire(now);
        while let Some(entry) = self.core.timers.pop(now) {
            let (at, key, serial) = entry;
            if self.conns.get(key).is_some_and(|conn| conn.awaits(serial, at)) {
                self.on_conn(key, |conn, core| conn.timer_entry(core, entry));
            }
        }
        let conns = &self.conns;
        self.core.timers.sweep(conns.len(), |at, key, serial| {
            conns.get(key).is_some_and(|conn| conn.awaits(serial, at))
        });
    }

    fn on_conn(&mut self, key: usize, act: impl FnOnce(&mut Conn, &mut Core)) {
        // An event may be older than the connection's end.
        let Some(conn) = self.conns.get_mut(key) else { return };
        act(conn, &mut self.core);
        if conn.phase == Phase::Closed {
            self.forget(key);
        }
    }

    fn with<T>(
        &mut self,
        id: ExchangeId,
        gone: T,
        act: impl FnOnce(&mut Conn, &mut Core) -> T,
    ) -> T {
        self.core.tick();
        let result = match self.conns.get_mut(id.key) {
            Some(conn) if conn.runs(id) => {
                let result = act(conn, &mut self.core);
                if conn.phase == Phase::Closed {
                    self.forget(id.key);
                }
                result
            }
            _ => gone,
        };
        self.flush_late();
        self.rouse();
        result
    }
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor")
            .field("connections", &self.conns.len())
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}
