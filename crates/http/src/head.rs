//! The head of a request: its request line and header fields.
//!
//! Received bytes are appended once, parsed line by line as lines complete, and
//! never looked at again; what was found is kept as spans. Fields that decide
//! about the connection (Host, Content-Length, Transfer-Encoding, Connection,
//! Expect) are understood here, all others only checked. Header names are not
//! filtered: what an underscore may mean is up to the gateway.

use crate::error::Kind;
use crate::framing::{Framing, content_length, transfer_coding};
use crate::grammar::{Span, is_host, is_text, list, token_len, trim};
use crate::limits::Limits;
use crate::line::{self, Bound};
use crate::request_line::{RequestLine, Version};

/// Whether the connection may carry another exchange after this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// It may.
    Alive,
    /// It ends with this exchange.
    Close,
}

/// One request head. It owns its bytes and keeps its buffers when it is reused,
/// so that a connection allocates for its first request only.
#[derive(Debug, Default)]
pub struct Head {
    bytes: Vec<u8>,
    /// Spans of `bytes`.
    fields: Vec<Field>,
    stage: Stage,
    /// Where in `bytes` the line being received begins: `line <= bytes.len()`.
    line: usize,
    request: RequestLine,
    host: Option<Span>,
    framing: Framing,
    /// What the Connection fields ask for; `close` wins.
    asked: Option<Keep>,
    expects: Expects,
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

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Expects {
    #[default]
    Nothing,
    Continue,
}

/// Whether a head is complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    Incomplete,
    Complete,
}

/// The most capacity that outlives a request, in bytes and in fields.
const KEPT: (usize, usize) = (16 * 1024, 128);

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
        self.framing
    }

    /// Whether the client wants the connection to persist (RFC 9112 9.3).
    pub fn keep(&self) -> Keep {
        match (self.asked, self.request.version) {
            (Some(asked), _) => asked,
            (None, Version::Http11) => Keep::Alive,
            (None, Version::Http10) => Keep::Close,
        }
    }

    /// `host[:port]` of the request: the authority of an absolute-form target,
    /// else the Host field (RFC 9112 3.2.2). May be empty; `None` only for
    /// HTTP/1.0.
    pub fn host(&self) -> Option<&[u8]> {
        self.request.authority.or(self.host).map(|span| span.of(&self.bytes))
    }

    /// Whether an HTTP/1.1 client waits for 100 Continue before it sends the
    /// body (RFC 9110 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.expects == Expects::Continue
    }

    /// Name and value of each field, in order; names as sent, values without
    /// the white space around them.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (field.name.of(&self.bytes), field.value.of(&self.bytes)))
    }

    /// The value of the first field of that name, in whatever case.
    pub fn field(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
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

    /// Forgets the request and keeps the buffers, unless it was a giant: an
    /// idle connection must stay small.
    pub(crate) fn clear(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let fields = std::mem::take(&mut self.fields);
        *self = Self { bytes, fields, ..Self::default() };
        self.bytes.clear();
        self.bytes.shrink_to(KEPT.0);
        self.fields.clear();
        self.fields.shrink_to(KEPT.1);
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
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
        let mut taken = 0;
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
                let field = Field::parse(line, self.line)?;
                self.fields.push(field);
                self.understand(field)?;
            }
            (Stage::Fields, true) => self.finish(limits)?,
            (Stage::Complete, _) => {}
        }
        Ok(())
    }

    fn understand(&mut self, field: Field) -> Result<(), Kind> {
        let name = field.name.of(&self.bytes);
        let value = field.value.of(&self.bytes);
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is(b"host") => {
                if self.host.is_some() {
                    return Err(Kind::HostRepeated);
                }
                if !is_host(value) {
                    return Err(Kind::Host);
                }
                self.host = Some(field.value);
            }
            6 if is(b"expect") => self.expects = expectation(self.request.version, value)?,
            10 if is(b"connection") => self.asked = connection(self.asked, value),
            14 if is(b"content-length") => {
                self.framing = content_length(self.framing, value)?;
            }
            17 if is(b"transfer-encoding") => {
                self.framing = transfer_coding(self.framing, self.request.version, value)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, limits: &Limits) -> Result<(), Kind> {
        if self.host.is_none() && self.request.version == Version::Http11 {
            return Err(Kind::HostMissing);
        }
        match (self.framing, limits.max_body) {
            (Framing::Length(len), Some(max)) if len > max => Err(Kind::BodyTooLarge),
            _ => {
                self.stage = Stage::Complete;
                Ok(())
            }
        }
    }
}

/// RFC 9110 10.1.1: an expectation in an HTTP/1.0 request is to be ignored.
fn expectation(version: Version, value: &[u8]) -> Result<Expects, Kind> {
    match version {
        Version::Http10 => Ok(Expects::Nothing),
        Version::Http11 if value.eq_ignore_ascii_case(b"100-continue") => Ok(Expects::Continue),
        Version::Http11 => Err(Kind::Expectation),
    }
}

/// RFC 9112 9.3: `close` wins, wherever it stands.
fn connection(asked: Option<Keep>, value: &[u8]) -> Option<Keep> {
    list(value).fold(asked, |asked, option| match asked {
        _ if option.eq_ignore_ascii_case(b"close") => Some(Keep::Close),
        None if option.eq_ignore_ascii_case(b"keep-alive") => Some(Keep::Alive),
        _ => asked,
    })
}

/// Where a field's name and value are. Trailers are made of the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    name: Span,
    value: Span,
}

impl Field {
    /// Parses a field line without its CRLF, which begins at `start` of the
    /// buffer that the spans are to point into.
    pub(crate) fn parse(line: &[u8], start: usize) -> Result<Self, Kind> {
        if matches!(line, [b' ' | b'\t', ..]) {
            return Err(Kind::ObsFold);
        }
        let colon = token_len(line);
        if colon == 0 || line.get(colon) != Some(&b':') {
            return Err(Kind::FieldName);
        }
        let rest = &line[colon + 1..];
        if !is_text(rest) {
            return Err(Kind::Control);
        }
        let value = trim(rest);
        let offset = start + colon + 1;
        Ok(Self {
            name: Span { start, end: start + colon },
            value: Span { start: offset + value.start, end: offset + value.end },
        })
    }
}
