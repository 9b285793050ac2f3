//! One client connection: reads and parses until a request is complete, writes
//! what the application answers (`conn/answer.rs`), and waits for whatever comes
//! next.
//!
//! A connection never calls the application and never looks at other
//! connections; complete requests go to [`Core::ready`]. It does not remove
//! itself either: it becomes [`Phase::Closed`], and the reactor sweeps.

mod answer;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Token};
use serve_http::{Connection, Event, Framing, Head};

use crate::body::Spool;
use crate::core::{Core, Drain, Pending, SHARE};
use crate::gateway::{Exchange, ExchangeId, Peer};
use crate::out::{Flushed, Out};
use crate::stream::{Moved, Stream, Then};
use crate::timer::{Deadline, Timer};

mod moving;
mod proxy;
mod queue;
mod record;
mod secure;
mod upload;

use proxy::Introduction;
use record::Record;

/// After an early answer, how long the client may go on writing before the
/// connection is closed over its head (RFC 9112 section 9.6); nginx's
/// `lingering_time`.
const LINGER: Duration = Duration::from_secs(30);
/// How long it may pause meanwhile.
const LINGER_PAUSE: Duration = Duration::from_secs(2);

/// What the connection is doing, and so which timer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// TLS begins; header timer.
    Handshake,
    /// Between requests; keep-alive timer.
    Idle,
    /// A head has begun; header timer.
    Head,
    /// A body is arriving, its last piece at `came`; body-rate timer.
    Body {
        since: Instant,
        came: Instant,
    },
    /// The request is complete and the application has not seen it; queue timer.
    Waiting {
        since: Instant,
    },
    /// The application has the request; write timer while output waits.
    Running,
    /// The response is complete and not yet written; write timer.
    Flushing,
    /// All is sent and the write side shut; linger timer.
    Lingering {
        until: Instant,
    },
    Closed,
}

/// What to do when the last byte of the response is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// The next request, if both sides keep the connection.
    Next,
    /// Close, but let a client that is still writing read the answer first.
    Linger,
    /// Close so that the client sees that the body is not complete.
    Cut,
}

/// What is known about the socket's input since the last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// A read has found it empty: there will be an event.
    Empty,
    /// There may be some.
    Some,
    /// There may be some, and behind it is the end, for which there will be no
    /// other event: a short read does not mean that nothing is left.
    Last,
}

pub(crate) struct Conn {
    stream: Stream,
    http: Connection,
    peer: Peer,
    listener: usize,
    key: usize,
    serial: u32,
    /// The turn in which it came.
    turn: u64,
    /// Of the current exchange.
    number: u32,
    /// Whether the other end is a trusted proxy.
    trusted: bool,
    introduction: Introduction,
    /// Here, and not by another worker.
    accepted: bool,
    pub(crate) phase: Phase,
    last: Last,
    record: Record,
    /// Whether the end of the body is the end of the connection (HTTP/1.0).
    close_delimited: bool,
    registered: bool,
    unread: Input,
    writable: bool,
    /// Bytes of the next, pipelined, request.
    input: Vec<u8>,
    spool: Spool,
    out: Out,
    /// When the application last sent a piece of the body.
    sent: Option<Instant>,
    /// Bytes of the body that are deferred.
    held: u64,
    /// Whether they are all of it, and wait for other answers; it is logged when
    /// they are sent.
    is_whole_held: bool,
    deadline: Deadline,
}

impl Conn {
    pub(crate) fn new(
        core: &Core,
        fd: OwnedFd,
        peer: Option<SocketAddr>,
        listener: usize,
        key: usize,
        serial: u32,
    ) -> Self {
        let peer = peer.map_or(Peer::Unix, Peer::tcp);
        Self {
            stream: Stream::new(fd),
            http: Connection::new(core.limits.clone()),
            peer,
            listener,
            key,
            serial,
            turn: core.turn,
            number: 0,
            trusted: core.witness.believes(peer),
            introduction: Introduction::of(core, peer),
            accepted: false,
            phase: Phase::Idle,
            last: Last::Next,
            record: Record::new(core.now),
            close_delimited: false,
            registered: false,
            // A client that connects has usually written already: read first,
            // and the poller need not hear of a connection that ends at once.
            unread: Input::Some,
            writable: true,
            input: Vec::new(),
            spool: Spool::default(),
            out: Out::default(),
            sent: None,
            held: 0,
            is_whole_held: false,
            deadline: Deadline::default(),
        }
    }

    pub(crate) fn http(&self) -> &Connection {
        &self.http
    }

    /// The current exchange, or the last one.
    pub(crate) fn id(&self) -> ExchangeId {
        ExchangeId { key: self.key, serial: self.serial, number: self.number }
    }

    pub(crate) fn take_head(&mut self) -> Head {
        self.http.take_head()
    }

    pub(crate) fn restore_head(&mut self, head: Head) {
        self.http.restore_head(head);
    }

    /// Whether `id` is the exchange that the application is working on.
    pub(crate) fn runs(&self, id: ExchangeId) -> bool {
        self.phase == Phase::Running && (self.serial, self.number) == (id.serial, id.number)
    }

    // ---- readiness and time

    pub(crate) fn event(&mut self, core: &mut Core, event: Pending) {
        if event.turn <= self.turn {
            return; // It is of whoever had the place before.
        }
        match (event.ended, event.readable) {
            (true, _) => self.unread = Input::Last,
            (false, true) if self.unread == Input::Empty => self.unread = Input::Some,
            (false, _) => {}
        }
        if event.writable {
            self.writable = true;
            self.stream.push();
        }
        if event.ended && core.options.notice_gone && self.is_answering() {
            return self.close(core);
        }
        if self.writable && self.is_parting() {
            self.written(core);
        } else if self.writable {
            self.flush(core);
        }
        self.pump(core);
    }

    /// In the middle of the application's response.
    fn is_answering(&self) -> bool {
        self.phase == Phase::Running && self.http.response_started()
    }

    /// Whether the timers' entry for `at` is this connection's.
    pub(crate) fn awaits(&self, serial: u32, at: Instant) -> bool {
        self.serial == serial && self.deadline.is_armed(at)
    }

    pub(crate) fn timer_entry(&mut self, core: &mut Core, entry: (Instant, usize, u32)) {
        let Some(timer) = core.timers.expired(&mut self.deadline, entry, core.now) else { return };
        // The loop may have been away for longer than the timeout, in an
        // application: what the client did meanwhile was in time.
        if timer == Timer::Write {
            return self.write_timer(core);
        }
        if self.unread == Input::Empty {
            self.unread = Input::Some;
        }
        self.advance(core);
        match (timer, self.phase) {
            (Timer::KeepAlive, Phase::Idle) => self.close(core),
            (Timer::Header, Phase::Handshake) => self.handshake_late(core),
            (Timer::Header, Phase::Head) => {
                self.refuse(core, 408, "the request head did not arrive in time");
            }
            (Timer::BodyRate, Phase::Body { .. }) => self.body_late(core),
            (Timer::Queue, Phase::Waiting { .. }) => self.shed(core),
            (Timer::Linger, Phase::Lingering { until })
                if until <= core.now || self.deadline.timer().is_none() =>
            {
                self.close(core);
            }
            _ => {}
        }
        self.rest(core);
    }

    /// The poller calls a socket writable when a good part of its buffer is
    /// free; a slow reader may have taken a little less than that.
    fn write_timer(&mut self, core: &mut Core) {
        if self.is_parting() {
            return self.close(core);
        }
        match self.out.flush(&mut self.stream, Then::More) {
            Ok(Flushed::Blocked { progress: false }) => {
                log::info!("client={} cut: it took nothing of its response in time", self.peer);
                self.stream.reset_on_close();
                self.close(core);
            }
            flushed => self.flushed(core, flushed),
        }
        self.pump(core);
    }

    // ---- reading

    /// Reads and parses until a request is complete, the socket is empty, or the
    /// others must have their turn.
    pub(crate) fn pump(&mut self, core: &mut Core) {
        self.advance(core);
        self.rest(core);
    }

    fn advance(&mut self, core: &mut Core) {
        let mut share = SHARE;
        while !matches!(
            self.phase,
            Phase::Waiting { .. } | Phase::Running | Phase::Flushing | Phase::Closed
        ) {
            if !self.input.is_empty() {
                let input = std::mem::take(&mut self.input);
                let used = self.feed(core, &input);
                self.keep_rest(input, used);
            } else if self.unread == Input::Empty {
                break;
            } else if share == 0 {
                core.again.push(self.key);
                break;
            } else if self.phase == Phase::Handshake {
                self.shake_hands(core);
            } else {
                share = share.saturating_sub(self.read(core));
            }
        }
    }

    /// After an answer: the next request, if it is there already.
    fn follow(&mut self, core: &mut Core) {
        let more = !self.input.is_empty() || self.unread != Input::Empty;
        if self.phase == Phase::Idle && more && !core.follow() {
            core.again.push(self.key);
            self.rest(core);
        } else {
            self.pump(core);
        }
    }

    fn keep_rest(&mut self, mut input: Vec<u8>, used: usize) {
        if used < input.len() {
            input.drain(..used);
            self.input = input;
        }
    }

    /// Reads once; how many bytes.
    fn read(&mut self, core: &mut Core) -> usize {
        if let Some(read) = self.read_body(core) {
            return read;
        }
        let mut inbox = std::mem::take(&mut core.inbox);
        let moved = self.stream.read(&mut inbox);
        match moved {
            Moved::Bytes(0) | Moved::Gone => self.close(core),
            Moved::Blocked => self.unread = Input::Empty,
            Moved::Bytes(n) => {
                self.note_spent(n == inbox.len());
                self.received(core, &inbox[..n]);
            }
        }
        core.inbox = inbox;
        if let Moved::Bytes(n) = moved { n } else { 0 }
    }

    /// After a read, which may have filled all the room it had.
    fn note_spent(&mut self, filled: bool) {
        if self.unread == Input::Some && self.stream.is_spent(filled) {
            self.unread = Input::Empty;
        }
    }

    fn received(&mut self, core: &mut Core, bytes: &[u8]) {
        if let Phase::Lingering { until } = self.phase {
            self.arm(core, Timer::Linger, until.min(core.now + LINGER_PAUSE));
        } else {
            let used = self.feed(core, bytes);
            self.input.extend_from_slice(&bytes[used..]);
        }
    }

    /// Parses; returns how many bytes are done with. Only when a request is
    /// complete, these may not be all.
    fn feed(&mut self, core: &mut Core, bytes: &[u8]) -> usize {
        if self.phase == Phase::Idle {
            self.record.renew(core.now);
        }
        let mut used = self.introduced(core, bytes);
        if used > 0 && used == bytes.len() {
            return used;
        }
        while matches!(self.phase, Phase::Idle | Phase::Head | Phase::Body { .. }) {
            let (n, event) = match self.http.receive(&bytes[used..]) {
                Ok(found) => found,
                Err(error) => {
                    self.refuse(core, error.status(), &error.to_string());
                    break;
                }
            };
            used += n;
            match event {
                Event::Incomplete => {
                    if self.phase == Phase::Idle && self.http.started() {
                        self.phase = Phase::Head;
                    }
                    break;
                }
                Event::Head => self.head_complete(core, used == bytes.len()),
                Event::Data(piece) => self.body_piece(core, piece),
                Event::End => self.request_complete(core),
            }
        }
        if matches!(self.phase, Phase::Waiting { .. }) { used } else { bytes.len() }
    }

    fn head_complete(&mut self, core: &mut Core, body_waits: bool) {
        self.phase = Phase::Body { since: core.now, came: core.now };
        let head = self.http.head();
        match core.witness.see(self.peer, self.trusted, self.stream.is_secure(), head) {
            Ok(seen) => self.record.seen(seen),
            Err(reason) => return self.refuse(core, 400, reason),
        }
        let bodiless = matches!(head.framing(), Framing::None | Framing::Length(0));
        if head.expects_continue() && !bodiless && body_waits {
            let mut line = std::mem::take(&mut core.outbox);
            line.clear();
            self.http.send_continue(&mut line);
            self.put(core, &[&line]);
            core.outbox = line;
        }
    }

    fn request_complete(&mut self, core: &mut Core) {
        self.deadline.clear();
        self.wait(core, core.now);
        self.number = self.number.wrapping_add(1);
        let Some(seen) = self.record.seen.clone() else {
            return self.refuse(core, 500, "the server failed");
        };
        let Some(body) = self.body_whole(core) else { return };
        core.ready.push_back(Exchange {
            id: self.id(),
            body,
            peer: seen.client,
            proxy: self.introduction.at(),
            seen,
            listener: self.listener,
        });
    }

    // ---- waiting and ending

    /// Nothing to do now: be woken by the socket or by the right timer.
    fn rest(&mut self, core: &mut Core) {
        if self.phase == Phase::Closed {
            return;
        }
        // A connection that ends with this response never meets the poller.
        if !matches!(self.phase, Phase::Waiting { .. } | Phase::Running) {
            self.register(core);
        }
        let options = &core.options;
        match self.phase {
            Phase::Idle if self.deadline.timer() != Some(Timer::KeepAlive) => {
                // Some browsers connect ahead of need; with keep-alive off they
                // still get the time of a head.
                let wait = match self.number {
                    0 => options.keep_alive.max(options.header_timeout),
                    _ => options.keep_alive,
                };
                let mut until = core.now + wait;
                if let Drain::Since { idle_until, .. } = core.drain {
                    until = until.min(self.grace(core, idle_until));
                }
                self.arm(core, Timer::KeepAlive, until);
            }
            Phase::Handshake if self.deadline.timer() != Some(Timer::Header) => {
                let until = self.handshake_until(core);
                self.arm(core, Timer::Header, until);
            }
            Phase::Head if self.deadline.timer() != Some(Timer::Header) => {
                self.arm(core, Timer::Header, core.now + options.header_timeout);
            }
            Phase::Body { since, came } => {
                let due = self.body_due(core, since, came);
                self.arm(core, Timer::BodyRate, due);
            }
            _ => {}
        }
    }

    fn arm(&mut self, core: &mut Core, timer: Timer, at: Instant) {
        core.timers.arm(&mut self.deadline, (self.key, self.serial), timer, at);
    }

    pub(crate) fn register(&mut self, core: &mut Core) {
        if self.registered {
            return;
        }
        self.registered = true;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let fd = self.stream.raw_fd();
        let token = Token(self.key);
        if let Err(error) = core.registry.register(&mut SourceFd(&fd), token, interest) {
            log::error!("client={} dropped: epoll_ctl: {error}", self.peer);
            self.close(core);
        }
    }

    pub(crate) fn close(&mut self, core: &mut Core) {
        self.log_unfinished(core);
        if self.phase != Phase::Running && self.out.is_empty() {
            self.stream.farewell();
        }
        self.phase = Phase::Closed;
        self.deadline.clear();
    }
}
