//! What can go wrong in an exchange, whose fault it is, and what to answer.
//!
//! One row per kind holds blame, status and sentence. Nothing is logged here:
//! the caller logs the sentence and may send it to the client as it is, since
//! it never repeats a byte of the client's.

use std::fmt;

/// Who has to change something for the error to go away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// The peer sent something that is not HTTP, or more than it may.
    Client,
    /// The application (or the code that drives the connection for it) asked
    /// for something that must not go on the wire.
    App,
}

/// An error of a [`Connection`](crate::Connection) or of a
/// [`Response`](crate::Response). `Display` is one sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    kind: Kind,
    /// Which header field the application got wrong.
    detail: Option<Box<str>>,
}

/// What exactly was wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// A TLS handshake where a request was expected.
    Tls,
    /// The connection should begin with a PROXY header, and does not.
    Proxy,
    /// LF without CR before it (RFC 9112 2.2 lets a server accept it; that is
    /// how requests are smuggled past proxies that do not).
    BareLf,
    /// CR without LF after it (RFC 9112 2.2).
    BareCr,
    /// NUL or another control byte in a line.
    Control,
    /// A request line that is not three parts with one space between them, or
    /// a second empty line before it.
    RequestLine,
    /// The request line exceeds [`Limits::request_line`](crate::Limits).
    RequestLineTooLong,
    /// A method that is not a token.
    Method,
    /// A method longer than any that exists (RFC 9112 3).
    MethodTooLong,
    /// CONNECT: this is no proxy.
    Connect,
    /// A request target of no known form, or with bytes no URI has.
    Target,
    /// The request line does not end with `HTTP/x.y`.
    Version,
    /// A major version other than 1.
    VersionUnsupported,
    /// More header fields than [`Limits::fields`](crate::Limits).
    TooManyFields,
    /// A header field beyond [`Limits::field_size`](crate::Limits).
    FieldTooLong,
    /// A head beyond [`Limits::head`](crate::Limits).
    HeadTooLong,
    /// A line without `name:` at its start, space before the colon included
    /// (RFC 9112 5.1).
    FieldName,
    /// A field line that begins with a space or tab (RFC 9112 5.2).
    ObsFold,
    /// An HTTP/1.1 request without Host (RFC 9112 3.2).
    HostMissing,
    /// More than one Host field (RFC 9112 3.2).
    HostRepeated,
    /// A Host that is not `uri-host [":" port]` (RFC 9110 7.2).
    Host,
    /// A Content-Length that is not one number that fits 64 bits.
    ContentLength,
    /// More than one Content-Length field, equal or not.
    ContentLengthRepeated,
    /// Content-Length beside Transfer-Encoding (RFC 9112 6.1).
    LengthAndCoding,
    /// Transfer-Encoding in an HTTP/1.0 request (RFC 9112 6.1).
    CodingOn10,
    /// A Transfer-Encoding of which `chunked` is not the single, last coding,
    /// or more than one such field (RFC 9112 6.3).
    Coding,
    /// A transfer coding before `chunked` (RFC 9112 6.1).
    CodingUnsupported,
    /// An expectation other than `100-continue` (RFC 9110 10.1.1).
    Expectation,
    /// A chunk-size line that is none (RFC 9112 7.1).
    ChunkSize,
    /// A chunk-size line beyond [`Limits::chunk_line`](crate::Limits).
    ChunkLineTooLong,
    /// Chunk data not followed by CRLF (RFC 9112 7.1).
    ChunkEnd,
    /// A trailer section beyond [`Limits::trailers`](crate::Limits).
    TrailersTooLong,
    /// A body beyond [`Limits::max_body`](crate::Limits).
    BodyTooLarge,
    /// A status that is not three digits from 200 to 599, a space and a reason
    /// without control characters (PEP 3333).
    ResponseStatus,
    /// A response header name that is not a token.
    ResponseName,
    /// CR, LF, NUL or another control character in a response header value.
    ResponseValue,
    /// A header that is the server's to send (PEP 3333, hop-by-hop).
    HopByHop,
    /// A response Content-Length that is not one number.
    ResponseLength,
    /// The response body ended before its Content-Length was reached.
    ShortBody,
    /// A call that the state of the exchange does not allow.
    OutOfOrder,
}

impl Error {
    pub(crate) fn about(kind: Kind, name: &[u8]) -> Self {
        let name = &name[..name.len().min(64)];
        Self { kind, detail: Some(name.escape_ascii().to_string().into()) }
    }

    /// What exactly was wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        self.kind.row().0
    }

    /// The status to answer with, if an answer is still possible.
    pub fn status(&self) -> u16 {
        self.kind.row().1
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Self { kind, detail: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.row().2)?;
        match &self.detail {
            Some(name) => write!(f, ": \"{name}\""),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl Kind {
    #[rustfmt::skip]
    fn row(self) -> (Blame, u16, &'static str) {
        use Blame::{App, Client};
        match self {
            Self::Proxy => (Client, 400, "the connection must begin with a valid PROXY header"),
            Self::Tls => (Client, 400, "the client speaks TLS: this looks like TLS on a plain HTTP port"),
            Self::BareLf => (Client, 400, "the client sent a line feed without the carriage return before it"),
            Self::BareCr => (Client, 400, "the client sent a carriage return without the line feed after it"),
            Self::Control => (Client, 400, "the client sent a control character in a header line"),
            Self::RequestLine => (Client, 400, "the client's request line is not \"METHOD TARGET HTTP/1.1\""),
            Self::RequestLineTooLong => (Client, 414, "the client's request line is longer than allowed (limit_request_line)"),
            Self::Method => (Client, 400, "the client's request method is not a token"),
            Self::MethodTooLong => (Client, 501, "the client's request method is longer than any known one"),
            Self::Connect => (Client, 501, "the client takes this server for a proxy: CONNECT is not supported"),
            Self::Target => (Client, 400, "the client's request target is not a valid path, http URL or \"*\""),
            Self::Version => (Client, 400, "the client's request line does not end with an HTTP version"),
            Self::VersionUnsupported => (Client, 505, "the client asks for a version of HTTP other than 1.0 and 1.1"),
            Self::TooManyFields => (Client, 431, "the client sent more header fields than allowed (limit_request_fields)"),
            Self::FieldTooLong => (Client, 431, "the client sent a header field longer than allowed (limit_request_field_size)"),
            Self::HeadTooLong => (Client, 431, "the client's request head is larger than allowed"),
            Self::FieldName => (Client, 400, "the client sent a header line that does not start with a name and a colon"),
            Self::ObsFold => (Client, 400, "the client sent a header line that begins with white space"),
            Self::HostMissing => (Client, 400, "the client's HTTP/1.1 request has no Host header"),
            Self::HostRepeated => (Client, 400, "the client sent more than one Host header"),
            Self::Host => (Client, 400, "the client's Host header is not a host name with an optional port"),
            Self::ContentLength => (Client, 400, "the client's Content-Length is not a number"),
            Self::ContentLengthRepeated => (Client, 400, "the client sent more than one Content-Length"),
            Self::LengthAndCoding => (Client, 400, "the client sent both Content-Length and Transfer-Encoding"),
            Self::CodingOn10 => (Client, 400, "the client sent Transfer-Encoding in an HTTP/1.0 request"),
            Self::Coding => (Client, 400, "the client's Transfer-Encoding does not end with a single \"chunked\""),
            Self::CodingUnsupported => (Client, 501, "the client uses a transfer coding other than chunked"),
            Self::Expectation => (Client, 417, "the client expects something other than 100-continue"),
            Self::ChunkSize => (Client, 400, "the client sent a chunk without a valid size"),
            Self::ChunkLineTooLong => (Client, 400, "the client sent a chunk-size line longer than allowed"),
            Self::ChunkEnd => (Client, 400, "the client sent a chunk that is longer than its size says"),
            Self::TrailersTooLong => (Client, 431, "the client sent more trailers than allowed"),
            Self::BodyTooLarge => (Client, 413, "the client's request body is larger than allowed (max_body_size)"),
            Self::ResponseStatus => (App, 500, "the application's status is not a code from 200 to 599 and a reason"),
            Self::ResponseName => (App, 500, "the application's response has a header whose name is not a token"),
            Self::ResponseValue => (App, 500, "the application's response has a control character in the value of a header"),
            Self::HopByHop => (App, 500, "the application's response has a header that only the server may send"),
            Self::ResponseLength => (App, 500, "the application's response has a Content-Length that is not one number"),
            Self::ShortBody => (App, 500, "the application's response body is shorter than its Content-Length"),
            Self::OutOfOrder => (App, 500, "the application's response was driven out of order"),
        }
    }
}
