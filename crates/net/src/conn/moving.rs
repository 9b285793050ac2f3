//! A connection moves to another worker: between two requests, or with a
//! complete one that the application has not seen. Or the application itself
//! takes it over. One that speaks TLS does neither.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Instant;

use mio::unix::SourceFd;
use serve_http::Framing;

use super::{Conn, Phase};
use crate::body::Body;
use crate::core::Core;
use crate::gateway::{Exchange, Peer};
use crate::handoff::{MOST, Put, Wait};
use crate::timer::Timer;

impl Conn {
    /// Begins, with what another worker has received already. Its request has
    /// waited since then, or since it came: in the queue of a listener, where
    /// nobody looked at it.
    pub(crate) fn begin_with(&mut self, core: &mut Core, received: Vec<u8>, wait: Wait) {
        self.input = received;
        self.pump(core);
        if matches!(self.phase, Phase::Waiting { .. }) {
            let since = match wait {
                Wait::Since(since) => since,
                Wait::Idle => self.last_input(core),
            };
            self.wait(core, since);
        }
    }

    /// When the client's last byte came, as far as the kernel tells.
    fn last_input(&self, core: &Core) -> Instant {
        let silent = match self.peer {
            Peer::Tcp(_) => self.stream.silent_for(),
            Peer::Unix => None,
        };
        core.now.checked_sub(silent.unwrap_or_default()).unwrap_or(core.now)
    }

    /// Until when an idle connection may stay; `None` if it is not idle, or no
    /// longer, which nobody has noticed yet.
    pub(crate) fn idle_until(&self) -> Option<Instant> {
        let idle = self.phase == Phase::Idle && self.input.is_empty() && !self.stream.has_input();
        idle.then(|| self.deadline.due())?
    }

    /// The reactor drains: an idle connection gets until then to send one more
    /// request.
    pub(crate) fn drain(&mut self, core: &mut Core, idle_until: Instant) {
        let timer = match self.phase {
            Phase::Idle => Timer::KeepAlive,
            Phase::Handshake if !self.stream.has_begun() => Timer::Header,
            _ => return,
        };
        let until = self.grace(core, idle_until);
        core.timers.arm(&mut self.deadline, (self.key, self.serial), timer, until);
    }

    /// Puts an idle connection.
    pub(crate) fn put_idle(&mut self, core: &mut Core) -> Put {
        if self.phase != Phase::Idle {
            return Put::Stays;
        }
        self.put_with(core, &[], Wait::Idle)
    }

    /// Puts a connection with its complete request.
    pub(crate) fn put_request(&mut self, core: &mut Core, exchange: &Exchange) -> Put {
        let Body::Memory(body) = &exchange.body else { return Put::Stays };
        let Some(since) = self.waits(exchange.id) else { return Put::Stays };
        let head = self.http.head();
        let (mut size, end): (_, &[u8]) = match head.framing() {
            Framing::None | Framing::Length(_) => (Vec::new(), b""),
            Framing::Chunked if body.is_empty() => (Vec::new(), b"0\r\n\r\n"),
            // One chunk says the same as those that came.
            Framing::Chunked => (Vec::new(), b"\r\n0\r\n\r\n"),
        };
        if head.framing() == Framing::Chunked && !body.is_empty() {
            write!(size, "{:x}\r\n", body.len()).expect("writing to memory does not fail");
        }
        let head = head.received().to_vec();
        self.put_with(core, &[&head, &size, body, end], Wait::Since(since))
    }

    fn put_with(&mut self, core: &mut Core, request: &[&[u8]], wait: Wait) -> Put {
        let Some(hand_off) = &core.hand_off else { return Put::Stays };
        // The keys of a session are in no message, and should be in none.
        if self.stream.is_secure() {
            return Put::Stays;
        }
        let mut parts = vec![self.introduction.words()];
        parts.extend(request);
        parts.push(&self.input);
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > MOST || !self.out.is_empty() {
            return Put::Stays;
        }
        let limit = core.options.queue_limit.filter(|_| wait != Wait::Idle);
        if limit.is_some_and(|limit| hand_off.waiting() >= limit) {
            return Put::Full;
        }
        let fd = self.stream.raw_fd();
        let put = hand_off.put(fd, &parts, wait);
        if put == Put::Done {
            self.forget(core);
            core.counters.handed_over += 1;
        }
        put
    }

    /// The application takes the connection over, in the middle of an exchange.
    /// It answers itself: with 101, if it does what such a thing is for.
    pub(crate) fn leave(&mut self, core: &mut Core) {
        self.log_as(core, 101);
        self.forget(core);
    }

    /// The socket, and what was received after the current request.
    pub(crate) fn into_parts(self) -> (OwnedFd, Vec<u8>) {
        (self.stream.into_fd(), self.input)
    }

    /// The poller knows the socket, which lives on in other hands: it would go on
    /// reporting it here, under a key that may be another's.
    fn forget(&mut self, core: &mut Core) {
        if self.registered
            && let Err(error) = core.registry.deregister(&mut SourceFd(&self.stream.raw_fd()))
        {
            log::debug!("epoll_ctl: {error}");
        }
        self.phase = Phase::Closed;
        self.deadline.clear();
    }
}
