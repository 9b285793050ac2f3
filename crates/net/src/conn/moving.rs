//! A connection moves to another worker: between two requests, or with a
//! complete one that the application has not seen.

use std::io::Write;
use std::time::Instant;

use mio::unix::SourceFd;
use serve_http::Framing;

use super::{Conn, Phase};
use crate::body::Body;
use crate::core::Core;
use crate::gateway::Exchange;
use crate::handoff::{MOST, Put};

impl Conn {
    /// Begins, with what another worker has received already.
    pub(crate) fn begin_with(&mut self, core: &mut Core, received: Vec<u8>) {
        self.input = received;
        self.pump(core);
    }

    /// Until when an idle connection may stay; `None` if it is not idle, or no
    /// longer, which nobody has noticed yet.
    pub(crate) fn idle_until(&self) -> Option<Instant> {
        let idle = self.phase == Phase::Idle && self.input.is_empty() && !self.stream.has_input();
        idle.then(|| self.deadline.due())?
    }

    /// Puts an idle connection.
    pub(crate) fn put_idle(&mut self, core: &mut Core) -> Put {
        if self.phase != Phase::Idle {
            return Put::Stays;
        }
        self.put_with(core, &[])
    }

    /// Puts a connection with its complete request.
    pub(crate) fn put_request(&mut self, core: &mut Core, exchange: &Exchange) -> Put {
        let Body::Memory(body) = &exchange.body else { return Put::Stays };
        if !self.waits(exchange.id) {
            return Put::Stays;
        }
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
        self.put_with(core, &[&head, &size, body, end])
    }

    fn put_with(&mut self, core: &mut Core, request: &[&[u8]]) -> Put {
        let Some(hand_off) = &core.hand_off else { return Put::Stays };
        let mut parts = vec![self.introduction.words()];
        parts.extend(request);
        parts.push(&self.input);
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > MOST || !self.out.is_empty() {
            return Put::Stays;
        }
        let fd = self.stream.raw_fd();
        let put = hand_off.put(fd, &parts);
        if put == Put::Done {
            // The poller knows the socket, which lives on in another process: it
            // would go on reporting it here, under a key that may be another's.
            if self.registered
                && let Err(error) = core.registry.deregister(&mut SourceFd(&fd))
            {
                log::debug!("epoll_ctl: {error}");
            }
            core.counters.handed_over += 1;
            self.phase = Phase::Closed;
            self.deadline.clear();
        }
        put
    }
}
