//! The head of a request: its request line and header fields.
//!
//! Received bytes are appended once, parsed line by line as lines complete, and
//! never looked at again; what was found is kept as spans. Fields that are, byte by
//! byte, those of the request before are not parsed again, nor is a head that is the
//! same as a whole. Header names are not filtered: what an underscore may mean is up
//! to the gateway.

use std::mem::take;

use crate::error::Kind;
use crate::fields::{Expects, Fields, Keep};
use crate::framing::Framing;
use crate::limits::Limits;
use crate::line::{self, Bound};
use crate::request_line::{RequestLine, Version};

/// One request head. It owns its bytes and keeps its buffers when it is reused,
/// so that a connection allocates for its first request only.
#[derive(Debug, Default)]
pub struct Head {
    bytes: Vec<u8>,
    fields: Fields,
    stage: Stage,
    /// Where in `bytes` the line being received begins: `line <= bytes.len()`.
    line: usize,
    request: RequestLine,
    /// Made for the second request of a connection.
    past: Option<Box<Past>>,
}

/// The request before, as long as nothing of the next one is there.
#[derive(Debug, Default)]
struct Past {
    /// Empty if nothing is kept.
    bytes: Vec<u8>,
    request: RequestLine,
    fields: Fields,
}

/// What is being received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    #[default]
    Start,
    /// The one empty line that may come first has come (RFC 9112 2.2).
    AfterEmptyLine,
    Fields,
    Complete,
}

/// Whether a head is complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    Incomplete,
    Complete,
}

/// The most capacity that outlives a request, in bytes and in fields.
const KEPT: (usize, usize) = (16 * 1024, 128);

/// Of a longer head, nothing is kept.
const PAST: usize = 4 * 1024;

const LINE_END: &[u8] = b"\r\n";

/// The record type that every TLS connection begins with (RFC 8446 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

impl Head {
    /// The method, as sent.
    pub fn method(&self) -> &[u8] {
        self.request.method.of(&self.bytes)
    }

    /// The request target exactly as received.
    pub fn target(&self) -> &[u8] {
        self.request.target.of(&self.bytes)
    }

    /// The path of the target, still percent-encoded; `*` for `OPTIONS *`; `/`
    /// for an absolute-form target without one (RFC 9110 4.2.3).
    pub fn path(&self) -> &[u8] {
        match self.request.path.of(&self.bytes) {
            b"" if self.request.authority.is_some() => b"/",
            path => path,
        }
    }

    /// The query of the target without its `?`, still percent-encoded; empty if
    /// there is none.
    pub fn query(&self) -> &[u8] {
        self.request.query.of(&self.bytes)
    }

    /// The version of the request.
    pub fn version(&self) -> Version {
        self.request.version
    }

    /// What delimits the body (RFC 9112 6.3).
    pub fn framing(&self) -> Framing {
        self.fields.framing
    }

    /// Whether the client wants the connection to persist (RFC 9112 9.3).
    pub fn keep(&self) -> Keep {
        match (self.fields.asked, self.request.version) {
            (Some(asked), _) => asked,
            (None, Version::Http11) => Keep::Alive,
            (None, Version::Http10) => Keep::Close,
        }
    }

    /// `host[:port]` of the request: the authority of an absolute-form target,
    /// else the Host field (RFC 9112 3.2.2). May be empty; `None` only for
    /// HTTP/1.0.
    pub fn host(&self) -> Option<&[u8]> {
        match (self.request.authority, self.fields.host) {
            (Some(authority), _) => Some(authority.of(&self.bytes)),
            (None, host) => host.map(|span| span.of(self.field_lines())),
        }
    }

    /// Whether an HTTP/1.1 client waits for 100 Continue before it sends the
    /// body (RFC 9110 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.fields.expects == Expects::Continue
    }

    /// Name and value of each field, in order; names as sent, values without
    /// the white space around them.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.of(self.field_lines())
    }

    /// The fields whose name has an underscore.
    pub fn underscored_fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let fields = self.fields.underscored.then(|| self.fields());
        fields.into_iter().flatten().filter(|(name, _)| name.contains(&b'_'))
    }

    /// All field lines as received, and the empty line behind them: heads that have
    /// the same ones have the same [`fields`](Self::fields).
    pub fn field_lines(&self) -> &[u8] {
        match self.request.line.end {
            0 => &[],
            end => &self.bytes[end + LINE_END.len()..],
        }
    }

    /// The value of the first field of that name, in whatever case.
    pub fn field(&self, name: &[u8]) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// The values of all fields of that name, in whatever case, in order.
    pub fn values<'a>(&'a self, name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        self.fields.named(self.field_lines(), name)
    }

    /// The request line as received, without its CRLF, for the access log. Of a
    /// line that was refused or is not complete, what has come of it, which may
    /// be anything: escape it.
    pub fn request_line(&self) -> &[u8] {
        let end = match self.request.line.end {
            0 => memchr::memchr2(b'\r', b'\n', &self.bytes).unwrap_or(self.bytes.len()),
            end => end,
        };
        &self.bytes[..end]
    }

    /// The whole head as received, with the empty line at its end but not the
    /// one that may have come before it: what to send to repeat the request.
    pub fn received(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether nothing has been received; a leading empty line is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets the request, but for what the next one may repeat, and keeps the
    /// buffers, unless it was a giant: an idle connection must stay small.
    pub(crate) fn clear(&mut self) {
        let (mut bytes, mut fields) = (take(&mut self.bytes), take(&mut self.fields));
        let mut past = self.past.take();
        if self.stage == Stage::Complete && bytes.len() <= PAST {
            let past = past.get_or_insert_default();
            past.request = self.request;
            (past.bytes, past.fields) = (take(&mut bytes), take(&mut fields));
        }
        bytes.clear();
        bytes.shrink_to(KEPT.0);
        fields.clear();
        fields.shrink_to(KEPT.1);
        *self = Self { bytes, fields, past, ..Self::default() };
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        let past = self.past.as_ref().map_or(0, |past| past.bytes.capacity());
        past + self.bytes.capacity()
    }

    /// Takes what belongs to the head from the front of `input`: how many bytes
    /// that were, all of them unless the head is complete.
    pub(crate) fn read(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<(usize, Progress), Kind> {
        if self.stage == Stage::Start && self.is_empty() && input.first() == Some(&TLS_HANDSHAKE) {
            return Err(Kind::Tls);
        }
        let mut taken = self.repeat(input, limits);
        while taken < input.len() && self.stage != Stage::Complete {
            taken += self.read_line(&input[taken..], limits)?;
        }
        match self.stage {
            Stage::Complete => Ok((taken, Progress::Complete)),
            _ => Ok((taken, Progress::Incomplete)),
        }
    }

    /// Takes the rest of a line, or all of `input` if the line does not end.
    fn read_line(&mut self, input: &[u8], limits: &Limits) -> Result<usize, Kind> {
        let bound = self.bound(limits);
        let found = line::scan(&self.bytes[self.line..], input, bound);
        let len = match found {
            Ok(end) => end.unwrap_or(input.len()),
            // No more than this was looked at; the access log shows it.
            Err(_) => input.len().min(bound.len - (self.bytes.len() - self.line)),
        };
        self.bytes.extend_from_slice(&input[..len]);
        if found?.is_some() {
            let parsed = self.end_line(limits);
            parsed.map_err(|kind| line::judge(&self.bytes[self.line..], kind))?;
            self.line = self.bytes.len();
        }
        Ok(len)
    }

    /// Takes a whole head at once if its fields are those of the request before: each
    /// was good, and would be now. How many bytes it has; 0 if it is another one.
    fn repeat(&mut self, input: &[u8], limits: &Limits) -> usize {
        let Some(past) = self.past.as_deref_mut().filter(|past| !past.bytes.is_empty()) else {
            return 0;
        };
        let before = past.request;
        (self.bytes, self.fields) = (take(&mut past.bytes), take(&mut past.fields));
        if input.starts_with(&self.bytes) {
            self.request = before;
        } else {
            let lines = before.line.end + LINE_END.len();
            let line = self.line_before(input, &self.bytes[lines..], limits);
            let Some(request) = line.filter(|request| request.version == before.version) else {
                self.bytes.clear();
                self.fields.clear();
                return 0;
            };
            let len = request.line.end + LINE_END.len();
            self.bytes.splice(..lines, input[..len].iter().copied());
            self.request = request;
        }
        self.line = self.bytes.len();
        self.stage = Stage::Complete;
        self.line
    }

    /// The request line that `input` begins with, if `fields` follow it.
    fn line_before(&self, input: &[u8], fields: &[u8], limits: &Limits) -> Option<RequestLine> {
        let end = memchr::memchr(b'\n', input)? + 1;
        if !input[end..].starts_with(fields) || end + fields.len() > limits.head {
            return None;
        }
        // Whatever is wrong with it is found again, and told.
        line::scan(&[], &input[..end], self.bound(limits)).ok()??;
        RequestLine::parse(line::content(&input[..end])).ok()
    }

    /// The bound of the line being received: its own (0 = none), or what is
    /// left of the head.
    fn bound(&self, limits: &Limits) -> Bound {
        let left = limits.head.saturating_sub(self.line);
        let full = limits.fields > 0 && self.fields.len() >= limits.fields;
        let (own, excess, excess_of_head) = match self.stage {
            // Only the empty line may follow.
            Stage::Fields if full => (2, Kind::TooManyFields, Kind::HeadTooLong),
            Stage::Fields => (limits.field_size, Kind::FieldTooLong, Kind::HeadTooLong),
            _ => {
                let with_crlf = limits.request_line.saturating_add(2);
                let own = if limits.request_line == 0 { 0 } else { with_crlf };
                (own, Kind::RequestLineTooLong, Kind::RequestLineTooLong)
            }
        };
        match own {
            1.. if own <= left => Bound { len: own, excess },
            _ => Bound { len: left, excess: excess_of_head },
        }
    }

    /// Parses the line that has just been completed.
    fn end_line(&mut self, limits: &Limits) -> Result<(), Kind> {
        let line = line::content(&self.bytes[self.line..]);
        match (self.stage, line.is_empty()) {
            (Stage::Start, true) => {
                self.bytes.clear();
                self.stage = Stage::AfterEmptyLine;
            }
            (Stage::Start | Stage::AfterEmptyLine, _) => {
                self.request = RequestLine::parse(line)?;
                self.stage = Stage::Fields;
            }
            (Stage::Fields, false) => {
                let first = self.request.line.end + LINE_END.len();
                let (lines, start) = (&self.bytes[first..], self.line - first);
                self.fields.add(lines, start, self.request.version)?;
            }
            (Stage::Fields, true) => self.finish(limits)?,
            (Stage::Complete, _) => {}
        }
        Ok(())
    }

    fn finish(&mut self, limits: &Limits) -> Result<(), Kind> {
        if self.fields.host.is_none() && self.request.version == Version::Http11 {
            return Err(Kind::HostMissing);
        }
        match (self.fields.framing, limits.max_body) {
            (Framing::Length(len), Some(max)) if len > max => Err(Kind::BodyTooLarge),
            _ => {
                self.stage = Stage::Complete;
                Ok(())
            }
        }
    }
}
