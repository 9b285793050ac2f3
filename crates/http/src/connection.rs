//! The server's end of one HTTP/1.1 connection, without the connection.
//!
//! Bytes from the client go in by `receive` and come out as events; a response
//! goes in by `send_*` and comes out as bytes for the client, body bytes
//! excepted, which never pass through here. Deliberately absent: sockets,
//! clocks, buffers of body data, pipelining (the caller keeps what is not
//! consumed), HTTP/2, Upgrade.
//!
//! **Rules.** A request that is not understood is refused and poisons the
//! connection. The machine announces `keep-alive` only when it can keep it.
//! May a thing happen now? `state.rs` decides, nothing here.
//!
//! Who may call: whoever owns the socket; one thread at a time.

use std::sync::Arc;

use crate::chunked::{self, Decoder};
use crate::error::{Error, Kind};
use crate::fields::Keep;
use crate::framing::{Asked, Delimiter, Framing, announced, delimiter};
use crate::head::{Head, Progress};
use crate::limits::Limits;
use crate::request_line::Version;
use crate::response::{Decision, Response, Size, Stamp, status_line};
use crate::state::{Inbound, Outbound, Received, Sent};

/// What [`Connection::receive`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'i> {
    /// Nothing more without more bytes.
    Incomplete,
    /// The head of a request is complete.
    Head,
    /// Some bytes of its body, never empty.
    Data(&'i [u8]),
    /// The request is complete.
    End,
}

/// What may go on the wire of announced body bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "sending other bytes than these breaks the framing"]
pub struct Wire {
    /// How many of them, counted from the first.
    pub take: u64,
    /// What must follow them.
    pub suffix: &'static [u8],
}

/// One client connection.
#[derive(Debug)]
pub struct Connection {
    limits: Arc<Limits>,
    inbound: Inbound,
    outbound: Outbound,
    head: Head,
    decoder: Decoder,
    /// Of the request; a length is what is still to come.
    framing: Framing,
    version: Version,
    asked: Asked,
    /// What the client and the server want; see `keep()` for what they get.
    keep: Keep,
    /// Of the response; a length is what is still to come.
    delimiter: Delimiter,
    status: u16,
    sent: u64,
    excess: u64,
}

impl Connection {
    /// A connection on which nothing has happened.
    pub fn new(limits: Arc<Limits>) -> Self {
        Self {
            limits,
            inbound: Inbound::Idle,
            outbound: Outbound::Waiting,
            head: Head::default(),
            decoder: Decoder::default(),
            framing: Framing::None,
            version: Version::Http11,
            asked: Asked::Whole,
            keep: Keep::Alive,
            delimiter: Delimiter::Nothing,
            status: 0,
            sent: 0,
            excess: 0,
        }
    }

    /// Takes bytes from the front of `input`: how many, and what they meant.
    ///
    /// The caller drops them and calls again, with no input too, until it gets
    /// `Incomplete`. That has consumed everything, with one exception: after
    /// `End` nothing is consumed until [`next_cycle`](Self::next_cycle), so
    /// that pipelined requests stay with the caller.
    ///
    /// # Errors
    /// The client's, of whatever kind; from then on always the same.
    pub fn receive<'i>(&mut self, input: &'i [u8]) -> Result<(usize, Event<'i>), Error> {
        let received = match self.inbound {
            Inbound::Idle | Inbound::Head => self.receive_head(input),
            Inbound::Body => self.receive_body(input),
            Inbound::Done => return Ok((0, Event::Incomplete)),
            Inbound::Failed(kind) => Err(kind),
        };
        received.or_else(|kind| {
            self.inbound = self.inbound.on(Received::Fault(kind))?;
            Err(kind.into())
        })
    }

    /// The head of the current request, as far as it has been received; empty
    /// while it is taken.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Moves a complete head out, to the application. Empty if there is none.
    pub fn take_head(&mut self) -> Head {
        match self.inbound {
            // The parser still needs it.
            Inbound::Idle | Inbound::Head => Head::default(),
            _ => std::mem::take(&mut self.head),
        }
    }

    /// Gives a taken head back, for its buffers: before `next_cycle` (which
    /// clears it) or, at the latest, before the next request begins.
    pub fn restore_head(&mut self, mut head: Head) {
        match self.inbound {
            // Too late: the next request is in the buffers by now.
            Inbound::Head => return,
            Inbound::Idle => head.clear(),
            Inbound::Body | Inbound::Done | Inbound::Failed(_) => {}
        }
        self.head = head;
    }

    /// Whether a byte of the current request has arrived: tells a half-sent
    /// head from an idle connection.
    pub fn started(&self) -> bool {
        self.inbound != Inbound::Idle
    }

    /// Appends the head of the response to `out`.
    ///
    /// The body is delimited by the application's Content-Length, else by a
    /// known `size`, else by chunks (HTTP/1.1) or the end of the connection
    /// (HTTP/1.0). Adds Date and Server unless the application gave them.
    ///
    /// # Errors
    /// [`Kind::OutOfOrder`] without a request head, after another response
    /// head, or for a response that was not started.
    pub fn send_head(
        &mut self,
        response: &Response,
        size: Size,
        stamp: &Stamp<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if response.status() == 0 {
            return Err(Kind::OutOfOrder.into());
        }
        self.outbound = self.outbound.on(Sent::Head)?;
        self.write_head(response, size, stamp, out);
        Ok(())
    }

    /// Announces `len` body bytes: appends to `out` what must precede them, and
    /// says how many of them may follow, and then what.
    ///
    /// None may when the response has no body (HEAD, 204, 304); what exceeds
    /// its Content-Length is cut and counted as [`excess`](Self::excess).
    ///
    /// # Errors
    /// [`Kind::OutOfOrder`] before the head or after the end.
    pub fn send_data(&mut self, len: u64, out: &mut Vec<u8>) -> Result<Wire, Error> {
        self.outbound = self.outbound.on(Sent::Data)?;
        let (take, suffix) = match &mut self.delimiter {
            Delimiter::Nothing => (0, &b""[..]),
            Delimiter::Length(left) => {
                let take = len.min(*left);
                *left -= take;
                self.excess += len - take;
                (take, &b""[..])
            }
            // A chunk of 0 bytes would be the last one.
            Delimiter::Chunked if len == 0 => (0, &b""[..]),
            Delimiter::Chunked => {
                chunked::write_size(len, out);
                (len, chunked::CHUNK_END)
            }
            Delimiter::Close => (len, &b""[..]),
        };
        self.sent += take;
        Ok(Wire { take, suffix })
    }

    /// Ends the response: appends to `out` what the body must end with.
    ///
    /// # Errors
    /// [`Kind::ShortBody`] if less than the Content-Length was sent: the
    /// connection must be closed, so that the client sees the truncation.
    /// [`Kind::OutOfOrder`] before the head or after the end.
    pub fn send_end(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        if let (Outbound::Body, Delimiter::Length(1..)) = (self.outbound, self.delimiter) {
            self.outbound = self.outbound.on(Sent::Short)?;
            return Err(Kind::ShortBody.into());
        }
        self.outbound = self.outbound.on(Sent::End)?;
        if self.delimiter == Delimiter::Chunked {
            out.extend_from_slice(chunked::LAST_CHUNK);
        }
        Ok(())
    }

    /// Appends 100 Continue, if it is still of use: once, before the final
    /// head, and to an HTTP/1.1 client (RFC 9110 15.2).
    pub fn send_continue(&mut self, out: &mut Vec<u8>) {
        // Out of order is out of use: nothing to report.
        if let (Version::Http11, Ok(next)) = (self.version, self.outbound.on(Sent::Continue)) {
            self.outbound = next;
            out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// Appends a whole response of the server's own, after which the connection
    /// closes: `message` as plain text. At any time before the response head,
    /// even before a request and after an error. A `status` that no server makes
    /// up by itself becomes 500.
    ///
    /// False = a head has already been sent: nothing was written, and the caller
    /// must cut the connection.
    #[must_use = "if nothing was written, the connection must be cut"]
    pub fn refuse(
        &mut self,
        status: u16,
        message: &str,
        stamp: &Stamp<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        let Ok(next) = self.outbound.on(Sent::Refuse) else {
            return false;
        };
        self.outbound = next;
        self.keep = Keep::Close;
        if self.head.method() == b"HEAD" {
            // Also of a request whose head could not be completed.
            self.asked = Asked::Head;
        }
        let mut response = Response::new();
        let filled = response
            .start(status_line(status))
            .and_then(|()| response.field(b"Content-Type", b"text/plain; charset=utf-8"));
        debug_assert_eq!(filled, Ok(()));
        if status == 503 {
            // RFC 9110 10.2.3: too much at the moment, which soon passes.
            let filled = response.field(b"Retry-After", b"1");
            debug_assert_eq!(filled, Ok(()));
        }
        self.write_head(&response, Size::Known(message.len() as u64 + 1), stamp, out);
        if let Delimiter::Length(len) = self.delimiter {
            out.extend_from_slice(message.as_bytes());
            out.push(b'\n');
            self.sent = len;
            self.delimiter = Delimiter::Length(0);
        }
        true
    }

    /// The server wants the connection to end with this exchange, or with the
    /// next one if none has begun. No effect after the response head.
    pub fn close_after(&mut self) {
        if !self.outbound.has_head() {
            self.keep = Keep::Close;
        }
    }

    /// Whether another request may follow the response.
    pub fn keep(&self) -> Keep {
        match (self.inbound, self.outbound) {
            (Inbound::Failed(_), _) | (_, Outbound::Cut) => Keep::Close,
            _ => self.keep,
        }
    }

    /// Whether the request has been wholly received and the response wholly
    /// sent.
    pub fn is_done(&self) -> bool {
        (self.inbound, self.outbound) == (Inbound::Done, Outbound::Done)
    }

    /// Makes ready for the next request.
    ///
    /// # Errors
    /// [`Kind::OutOfOrder`] unless `is_done()` and `keep()` is `Alive`.
    pub fn next_cycle(&mut self) -> Result<(), Error> {
        if self.keep() == Keep::Close {
            return Err(Kind::OutOfOrder.into());
        }
        let (inbound, outbound) = (self.inbound.on(Received::Next)?, self.outbound.on(Sent::Next)?);
        (self.inbound, self.outbound) = (inbound, outbound);
        self.head.clear();
        self.decoder.reset();
        (self.version, self.asked) = (Version::Http11, Asked::Whole);
        (self.status, self.sent, self.excess) = (0, 0, 0);
        Ok(())
    }

    /// Whether a final response head has been handed out.
    pub fn response_started(&self) -> bool {
        self.outbound.has_head()
    }

    /// Body bytes allowed on the wire so far, for the access log.
    pub fn sent_body(&self) -> u64 {
        self.sent
    }

    /// Body bytes the application announced beyond its Content-Length.
    pub fn excess(&self) -> u64 {
        self.excess
    }

    /// The status sent; 0 before the response head.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Panics if the parts contradict each other; for tests.
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        let started = self.outbound.has_head();
        assert_eq!(started, self.status != 0);
        assert!(started || (self.sent, self.excess) == (0, 0));
        assert!(self.sent == 0 || self.delimiter != Delimiter::Nothing);
        assert!(self.excess == 0 || self.delimiter == Delimiter::Length(0));
        if self.outbound == Outbound::Done {
            assert!(!matches!(self.delimiter, Delimiter::Length(1..)));
        }
        if matches!(self.inbound, Inbound::Failed(_)) || self.outbound == Outbound::Cut {
            assert_eq!(self.keep(), Keep::Close);
        }
        if started && (self.owes_body() || self.delimiter == Delimiter::Close) {
            assert_eq!(self.keep(), Keep::Close);
        }
        if matches!(self.inbound, Inbound::Idle | Inbound::Head) {
            assert!(matches!(self.outbound, Outbound::Waiting | Outbound::Done));
        }
        assert!(self.inbound != Inbound::Idle || self.head.is_empty());
    }

    fn receive_head(&mut self, input: &[u8]) -> Result<(usize, Event<'static>), Kind> {
        let (taken, progress) = self.head.read(input, &self.limits)?;
        let event = if self.head.is_empty() { Received::Nothing } else { Received::Bytes };
        self.inbound = self.inbound.on(event)?;
        if progress == Progress::Incomplete {
            return Ok((taken, Event::Incomplete));
        }
        self.inbound = self.inbound.on(Received::Head)?;
        // Not so if the request came after it was refused, for lateness say.
        if let Ok(next) = self.outbound.on(Sent::Request) {
            self.outbound = next;
        }
        self.begin();
        Ok((taken, Event::Head))
    }

    /// Keeps what the response depends on, since the head may be taken.
    fn begin(&mut self) {
        self.framing = self.head.framing();
        self.version = self.head.version();
        self.asked = if self.head.method() == b"HEAD" { Asked::Head } else { Asked::Whole };
        if self.head.keep() == Keep::Close {
            self.keep = Keep::Close;
        }
    }

    fn receive_body<'i>(&mut self, input: &'i [u8]) -> Result<(usize, Event<'i>), Kind> {
        let (taken, event) = match self.framing {
            Framing::None | Framing::Length(0) => (0, Event::End),
            Framing::Length(left) => {
                let (data, left) = chunked::split(input, left);
                self.framing = Framing::Length(left);
                let event = if data.is_empty() { Event::Incomplete } else { Event::Data(data) };
                (data.len(), event)
            }
            Framing::Chunked => self.decoder.decode(input, &self.limits)?,
        };
        self.inbound = match event {
            Event::Data(_) => self.inbound.on(Received::Data)?,
            Event::End => self.inbound.on(Received::End)?,
            Event::Incomplete | Event::Head => self.inbound,
        };
        Ok((taken, event))
    }

    /// Whether the client has yet to send body bytes.
    fn owes_body(&self) -> bool {
        let empty = matches!(self.framing, Framing::None | Framing::Length(0));
        self.inbound == Inbound::Body && !empty
    }

    fn write_head(
        &mut self,
        response: &Response,
        size: Size,
        stamp: &Stamp<'_>,
        out: &mut Vec<u8>,
    ) {
        let status = response.status();
        let length = announced(self.asked, status, response.content_length(), size);
        self.status = status;
        self.delimiter = delimiter(self.asked, self.version, status, length);
        // RFC 9112 9.6: whoever will close should say so. Whether the rest of
        // the request will still be read cannot be promised here.
        if self.delimiter == Delimiter::Close || self.owes_body() {
            self.keep = Keep::Close;
        }
        let chunked = self.delimiter == Delimiter::Chunked;
        let decision = Decision {
            content_length: length,
            coding: if chunked { b"Transfer-Encoding: chunked\r\n" } else { b"" },
            connection: match (self.keep(), self.version) {
                (Keep::Close, _) => b"Connection: close\r\n",
                (Keep::Alive, Version::Http10) => b"Connection: keep-alive\r\n",
                (Keep::Alive, Version::Http11) => b"",
            },
        };
        response.write(&decision, stamp, out);
    }
}

#[cfg(test)]
mod tests;
