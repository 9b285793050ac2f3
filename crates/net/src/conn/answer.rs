//! The answering half of a connection: what the application's calls do, and how
//! bytes get to a client that may not want them yet.
//!
//! Writes at once as far as the kernel takes them and keeps the rest. How the
//! connection goes on after the last byte is decided here; reading is not.

use std::fs::File;
use std::io::{self, IoSlice};

use serve_http::{Keep, Response, Size, Version};

use super::{Conn, Input, LINGER, LINGER_PAUSE, Last, Phase};
use crate::body::Spool;
use crate::core::Core;
use crate::gateway::Sent;
use crate::out::Flushed;
use crate::stream::{Moved, Then};
use crate::timer::Timer;

/// The largest piece of a body, in bytes, that is copied behind its head.
const JOINED: usize = 8 * 1024;

/// So many bytes for one client wait for nothing.
const ENOUGH: usize = 32 * 1024;

/// When to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    /// Together with the next pieces.
    WithNext,
    /// Together with other answers.
    WithOthers,
    /// Together with the end of the connection.
    WithEnd,
}

impl Conn {
    /// The response head and the first piece of the body in one write.
    ///
    /// # Errors
    /// When the application's head contradicts itself; nothing is sent then.
    pub(crate) fn begin(
        &mut self,
        core: &mut Core,
        response: &Response,
        size: Size,
        first: &[u8],
    ) -> Result<Sent, serve_http::Error> {
        self.begin_then(core, response, size, first, Then::More)
    }

    fn begin_then(
        &mut self,
        core: &mut Core,
        response: &Response,
        size: Size,
        first: &[u8],
        then: Then,
    ) -> Result<Sent, serve_http::Error> {
        self.sent = Some(core.now);
        let is_whole = size == Size::Known(first.len() as u64)
            || response.content_length() == Some(first.len() as u64);
        let waits = is_whole && core.deferred.holds_answer(self.record.runs_since(), core.now);
        let mut head = std::mem::take(&mut core.outbox);
        head.clear();
        let begun = self.start(core, response, size, &mut head).and_then(|()| {
            let when = match then {
                _ if waits => When::WithOthers,
                Then::End if self.is_last() => When::WithEnd,
                _ => When::Now,
            };
            let wire = self.http.send_data(first.len() as u64, &mut head)?;
            self.put_piece(core, &mut head, taken(first, wire.take), wire.suffix, when);
            Ok(self.room(core))
        });
        core.outbox = head;
        begun
    }

    /// A whole response; if the application's is invalid, the server's own.
    ///
    /// # Errors
    /// Those of [`Conn::begin`] and [`Conn::finish`].
    pub(crate) fn respond(
        &mut self,
        core: &mut Core,
        response: &Response,
        body: &[u8],
    ) -> Result<(), serve_http::Error> {
        match self.begin_then(core, response, Size::Known(body.len() as u64), body, Then::End) {
            Ok(Sent::Gone) => Ok(()),
            Ok(Sent::Taken | Sent::Full) => self.finish(core),
            Err(error) => {
                self.fail(core, 500, "the application sent an invalid response");
                Err(error)
            }
        }
    }

    fn start(
        &mut self,
        core: &Core,
        response: &Response,
        size: Size,
        head: &mut Vec<u8>,
    ) -> Result<(), serve_http::Error> {
        self.note_response(core, response);
        if !core.keeps_alive(!self.stream.is_secure()) {
            self.http.close_after();
        }
        self.close_delimited = size == Size::Unknown
            && response.content_length().is_none()
            && self.http.head().version() == Version::Http10;
        self.http.send_head(response, size, &core.stamp(), head)
    }

    /// A further piece of the body. It may wait for the next ones, if they come
    /// quickly.
    ///
    /// # Errors
    /// When no head was sent.
    pub(crate) fn send(&mut self, core: &mut Core, data: &[u8]) -> Result<Sent, serve_http::Error> {
        let before = self.sent.replace(core.now);
        let when = match before.map(|before| core.now.saturating_duration_since(before)) {
            Some(pause) if pause < core.deferred.pieces => When::WithNext,
            _ => When::Now,
        };
        let mut prefix = std::mem::take(&mut core.outbox);
        prefix.clear();
        let sent = self.http.send_data(data.len() as u64, &mut prefix).map(|wire| {
            // Of the answer to HEAD, nothing.
            if wire.take > 0 {
                self.put_piece(core, &mut prefix, taken(data, wire.take), wire.suffix, when);
            }
            self.room(core)
        });
        core.outbox = prefix;
        sent
    }

    /// `len` bytes of `file` from `offset` as a piece of the body.
    ///
    /// # Errors
    /// When no head was sent.
    pub(crate) fn send_file(
        &mut self,
        core: &mut Core,
        file: File,
        offset: u64,
        len: u64,
    ) -> Result<(), serve_http::Error> {
        let mut prefix = Vec::new();
        let wire = self.http.send_data(len, &mut prefix)?;
        self.out.keep(&[&prefix], 0);
        self.out.push_file(file, offset, wire.take);
        self.out.keep(&[wire.suffix], 0);
        self.flush(core);
        Ok(())
    }

    /// The body is complete.
    ///
    /// # Errors
    /// When the application sent less than it announced; the connection is then
    /// cut, so that the client sees it as well.
    pub(crate) fn finish(&mut self, core: &mut Core) -> Result<(), serve_http::Error> {
        let mut tail = Vec::new();
        let ended = self.http.send_end(&mut tail);
        if ended.is_err() {
            self.last = Last::Cut;
        }
        if !tail.is_empty() {
            self.put(core, &[&tail]);
        } else if self.held > 0 && !self.is_whole_held {
            // The end of a stream waits for nobody.
            self.flush(core);
        }
        core.deferred.note(self.record.runs_since(), core.now);
        if self.http.excess() > 0 {
            log::warn!(
                "client={} path={}: the application sent {} bytes more than its Content-Length; \
                 they are left out",
                self.peer,
                self.http.head().path().escape_ascii(),
                self.http.excess()
            );
        }
        self.answered(core);
        self.follow(core);
        ended
    }

    /// The application cannot answer: 500 if nothing was sent, else the client
    /// is shown that the body is incomplete. Why is in the log: who calls this
    /// knows it.
    pub(crate) fn fail(&mut self, core: &mut Core, status: u16, message: &str) {
        if self.http.response_started() {
            self.last = Last::Cut;
            self.flush(core);
            self.answered(core);
        } else {
            self.answer(core, status, message);
        }
        self.pump(core);
    }

    /// Room in the buffer for more?
    pub(crate) fn room(&self, core: &Core) -> Sent {
        match self.phase {
            Phase::Closed => Sent::Gone,
            _ if self.out.memory() > core.options.high_water => Sent::Full,
            _ => Sent::Taken,
        }
    }

    /// What is wrong with a request, for its client and for the log.
    pub(crate) fn refuse(&mut self, core: &mut Core, status: u16, message: &str) {
        if self.answer(core, status, message) {
            log::info!("client={} {status} {message}", self.peer);
        }
    }

    /// An answer of the server itself; the connection ends with it. False if one had begun.
    fn answer(&mut self, core: &mut Core, status: u16, message: &str) -> bool {
        let mut head = std::mem::take(&mut core.outbox);
        head.clear();
        let is_first = self.http.refuse(status, message, &core.stamp(), &mut head);
        if is_first {
            self.last = Last::Linger;
            self.put(core, &[&head]);
        } else {
            self.last = Last::Cut;
        }
        core.outbox = head;
        self.answered(core);
        is_first
    }

    /// The response is complete as far as the application is concerned.
    fn answered(&mut self, core: &mut Core) {
        if self.is_whole_held {
            self.record.answered(core.now);
        } else {
            self.log(core);
        }
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Flushing;
        if self.out.is_empty() {
            self.written(core);
        }
    }

    /// Whether the connection ends with this answer, and not before the client has
    /// all of it.
    fn is_last(&self) -> bool {
        match self.last {
            Last::Next => self.http.keep() == Keep::Close,
            Last::Linger => true,
            Last::Cut => false,
        }
    }

    /// All is written but what TLS says at the end.
    pub(super) fn is_parting(&self) -> bool {
        self.phase == Phase::Flushing && self.out.is_empty()
    }

    /// Everything is written: the next request, or the end. The caller pumps:
    /// it may be inside a read already.
    pub(super) fn written(&mut self, core: &mut Core) {
        self.deadline.clear();
        match self.last {
            Last::Next if self.http.is_done() && self.http.keep() == Keep::Alive => {
                match self.http.next_cycle() {
                    Ok(()) => self.phase = Phase::Idle,
                    Err(_) => self.close(core),
                }
            }
            Last::Cut => self.cut(core),
            // Without it the client would take the response for cut.
            _ if self.stream.farewell() == Moved::Blocked => {
                self.flushed(core, Ok(Flushed::Blocked { progress: false }));
            }
            Last::Next if !self.has_unread() => {
                // What is left to send leaves with this: the close may turn into a reset,
                // for what the client has just written, and means nothing while a child
                // of the application has the connection open.
                self.stream.shut_write();
                self.close(core);
            }
            Last::Next | Last::Linger => self.linger(core),
        }
    }

    /// Whether the client has written more than was read. Even one that asked for
    /// the end itself may have: a line break after the body of a POST (RFC 9112,
    /// section 2.2).
    fn has_unread(&self) -> bool {
        !self.input.is_empty() || self.unread != Input::Empty || self.stream.has_input()
    }

    /// Closes so that the client sees that the response is not complete.
    fn cut(&mut self, core: &mut Core) {
        if self.close_delimited {
            self.stream.reset_on_close();
        } else {
            self.stream.break_off();
        }
        self.close(core);
    }

    /// Closing with unread bytes would reset the connection and could take the
    /// answer with it before the client has read it.
    pub(super) fn linger(&mut self, core: &mut Core) {
        if self.stream.shut_write() == Moved::Gone {
            self.close(core);
            return;
        }
        self.input = Vec::new();
        self.spool = Spool::default();
        self.phase = Phase::Lingering { until: core.now + LINGER };
        self.arm(core, Timer::Linger, core.now + LINGER_PAUSE);
    }

    // ---- writing

    /// A piece of a body with what goes before and after it. To copy a small one
    /// costs less than to have the kernel gather three parts.
    fn put_piece(
        &mut self,
        core: &mut Core,
        prefix: &mut Vec<u8>,
        data: &[u8],
        suffix: &[u8],
        when: When,
    ) {
        let waits = matches!(when, When::WithNext | When::WithOthers);
        if waits && self.out.memory() + data.len() < ENOUGH {
            match when {
                When::WithOthers => {
                    self.is_whole_held = true;
                    core.deferred.add_answer(self.key, core.now);
                }
                _ if self.out.is_empty() => core.deferred.add_piece(self.key, core.now),
                _ => {}
            }
            self.held += data.len() as u64;
            self.out.keep(&[prefix, data, suffix], 0);
        } else if data.len() <= JOINED {
            prefix.extend_from_slice(data);
            prefix.extend_from_slice(suffix);
            self.put_when(core, &[prefix], when);
        } else {
            self.put_when(core, &[prefix, data, suffix], when);
        }
    }

    /// Writes `parts` now as far as the kernel takes them; keeps the rest.
    pub(super) fn put(&mut self, core: &mut Core, parts: &[&[u8]]) {
        self.put_when(core, parts, When::Now);
    }

    fn put_when(&mut self, core: &mut Core, parts: &[&[u8]], when: When) {
        if self.phase == Phase::Closed {
            return;
        }
        if !self.out.is_empty() {
            // Whoever waits for these bytes to leave waits for the new ones too.
            self.out.keep(parts, 0);
            if self.writable {
                self.flush(core);
            } else if self.deadline.timer() != Some(Timer::Write) {
                // What waits was to precede the request's body, which came all the same.
                self.arm(core, Timer::Write, core.now + core.options.write_timeout);
            }
            return;
        }
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if total == 0 {
            return;
        }
        let mut slices = [IoSlice::new(&[]); 4];
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
        }
        let then = if when == When::WithEnd { Then::End } else { Then::More };
        let done = match self.stream.write(&slices[..parts.len()], then) {
            Moved::Bytes(n) => n,
            Moved::Blocked => 0,
            Moved::Gone => return self.close(core),
        };
        if done < total {
            self.out.keep(parts, done);
            self.flush(core);
        }
    }

    /// What waits is written; then the client's next request may be
    /// here already.
    pub(crate) fn flush_deferred(&mut self, core: &mut Core) {
        self.flush(core);
        self.follow(core);
    }

    pub(super) fn flush(&mut self, core: &mut Core) {
        if self.out.is_empty() || self.phase == Phase::Closed {
            return;
        }
        let ends = self.phase == Phase::Flushing && self.is_last();
        let then = if ends { Then::End } else { Then::More };
        let flushed = self.out.flush(&mut self.stream, then);
        if self.held > 0 {
            core.deferred.left(self.key);
        }
        if !matches!(flushed, Ok(Flushed::Gone)) {
            self.held = 0;
        }
        self.is_whole_held = false;
        self.flushed(core, flushed);
    }

    pub(super) fn flushed(&mut self, core: &mut Core, flushed: io::Result<Flushed>) {
        match flushed {
            Ok(Flushed::All) => {
                self.deadline.clear();
                if self.phase == Phase::Flushing {
                    self.log(core);
                    self.written(core);
                }
            }
            Ok(Flushed::Blocked { progress }) => {
                self.writable = false;
                self.register(core);
                if progress || self.deadline.timer() != Some(Timer::Write) {
                    self.arm(core, Timer::Write, core.now + core.options.write_timeout);
                }
            }
            Ok(Flushed::More) => {
                self.writable = true;
                self.deadline.clear();
                core.again.push(self.key);
            }
            Ok(Flushed::Gone) => self.close(core),
            Err(error) => {
                log::error!("cannot send a file to client={}: {error}; cut", self.peer);
                self.cut(core);
            }
        }
    }
}

fn taken(data: &[u8], take: u64) -> &[u8] {
    // `take` never exceeds the length that was announced.
    &data[..usize::try_from(take).unwrap_or(data.len()).min(data.len())]
}
