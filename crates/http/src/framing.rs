//! What delimits a message body, in both directions.
//!
//! RFC 9112 6.3 decides, in the strict reading: where it lets a server choose
//! between repairing and refusing, this refuses. A proxy in front that repairs
//! differently would otherwise see other requests than this server does.

use crate::error::Kind;
use crate::grammar::{decimal, is_token, list, trim};
use crate::request_line::Version;
use crate::response::Size;

/// What delimits a request body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Framing {
    /// Neither Content-Length nor Transfer-Encoding: no body.
    #[default]
    None,
    /// Content-Length, in bytes.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
}

/// The framing after a Content-Length field, given what earlier fields said.
///
/// RFC 9112 6.3 rule 5 would allow a list of equal lengths.
pub(crate) fn content_length(before: Framing, value: &[u8]) -> Result<Framing, Kind> {
    match before {
        Framing::None => decimal(value).map(Framing::Length).ok_or(Kind::ContentLength),
        Framing::Length(_) => Err(Kind::ContentLengthRepeated),
        Framing::Chunked => Err(Kind::LengthAndCoding),
    }
}

/// The framing after a Transfer-Encoding field, given what earlier fields said.
pub(crate) fn transfer_coding(
    before: Framing,
    version: Version,
    value: &[u8],
) -> Result<Framing, Kind> {
    match (version, before) {
        (Version::Http10, _) => return Err(Kind::CodingOn10),
        (_, Framing::Length(_)) => return Err(Kind::LengthAndCoding),
        (_, Framing::Chunked) => return Err(Kind::Coding),
        (_, Framing::None) => {}
    }
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if is_chunked(value) {
        return Ok(Framing::Chunked);
    }
    let codings = || list(value);
    let last = codings().last().is_some_and(is_chunked);
    let single = codings().filter(|coding| is_chunked(name(coding))).count() == 1;
    if last && single && codings().all(|coding| is_token(name(coding))) {
        return Err(Kind::CodingUnsupported);
    }
    Err(Kind::Coding)
}

/// A transfer coding without its parameters.
fn name(coding: &[u8]) -> &[u8] {
    let end = memchr::memchr(b';', coding).unwrap_or(coding.len());
    trim(&coding[..end]).of(coding)
}

/// What delimits a response body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Delimiter {
    /// There is no body: HEAD, 204, 304 (RFC 9112 6.3 rule 1).
    Nothing,
    /// This many bytes are still to come.
    Length(u64),
    /// The last chunk.
    Chunked,
    /// The end of the connection.
    Close,
}

/// Whose body a response would describe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// HEAD: the fields of the response to GET, without its body.
    Head,
    /// Any other method.
    Whole,
}

/// The Content-Length that a response announces, if any.
///
/// RFC 9110 8.6: none in a 204; in a 304, and in a response to HEAD, only what
/// the whole response would have. There an application that says nothing and
/// sends nothing has not said 0.
pub(crate) fn announced(asked: Asked, status: u16, app: Option<u64>, size: Size) -> Option<u64> {
    match (status, size, asked) {
        (204, _, _) => None,
        (304, _, _) | (_, Size::Unknown, _) | (_, Size::Known(0), Asked::Head) => app,
        (_, Size::Known(len), _) => app.or(Some(len)),
    }
}

/// What delimits the body of a response that announces `length`.
pub(crate) fn delimiter(
    asked: Asked,
    version: Version,
    status: u16,
    length: Option<u64>,
) -> Delimiter {
    match (asked, status, length, version) {
        (Asked::Head, ..) | (_, 204 | 304, ..) => Delimiter::Nothing,
        (_, _, Some(len), _) => Delimiter::Length(len),
        (_, _, None, Version::Http11) => Delimiter::Chunked,
        (_, _, None, Version::Http10) => Delimiter::Close,
    }
}
