//! The head of a response, checked while the application fills it.
//!
//! Whatever PEP 3333 or RFC 9110 forbids is refused here, so that it is never
//! on the wire. Content-Length is kept as a number and hop-by-hop fields are
//! refused: how a message is delimited is the connection's decision alone.

use crate::error::{Error, Kind};
use crate::grammar::{decimal, is_text, is_token};

/// What the server knows about the length of a whole response body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// Exactly this many bytes will be sent.
    Known(u64),
    /// It will show.
    Unknown,
}

/// What the server adds to each response: whole lines, with their CRLF.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// `Date: ` and the current time as an IMF-fixdate (RFC 9110 5.6.7).
    pub date: &'a [u8],
    /// `Server: ` and its value; empty = no such field.
    pub server: &'a [u8],
}

/// The application's status and fields; reusable without allocation.
///
/// Most responses begin as the one before did: lines that come again in their
/// order are compared with those, and then need no check.
#[derive(Debug, Default)]
pub struct Response {
    /// The status line and the fields, each with its CRLF. Behind those of this
    /// response follow what is left of the one before.
    bytes: Vec<u8>,
    /// Of each line in `bytes`; never empty lines.
    lines: Vec<Line>,
    /// How many lines this response has, and where the last of them ends.
    used: usize,
    end: usize,
    /// 0 = not started, else 200..=599.
    status: u16,
    content_length: Option<u64>,
    date: By,
    server: By,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    /// The length of the field's name, or of what precedes the status.
    name: usize,
    /// Where it ends in the head, after its CRLF.
    end: usize,
}

/// Who supplies a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum By {
    App,
    #[default]
    Server,
}

/// What the connection has decided about a response.
pub(crate) struct Decision {
    pub(crate) content_length: Option<u64>,
    /// Whole field lines: `Transfer-Encoding: chunked`, if it is.
    pub(crate) coding: &'static [u8],
    /// `Connection: ...`, if the client could not tell without.
    pub(crate) connection: &'static [u8],
}

impl Response {
    /// A response that has not been started.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything; it is as new.
    pub fn clear(&mut self) {
        let (bytes, lines) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.lines));
        *self = Self { bytes, lines, ..Self::default() };
    }

    /// Begins anew with a status such as `200 OK`, and forgets all fields.
    ///
    /// The code is three digits from 200 to 599 (interim responses are the
    /// server's, codes above are invalid: RFC 9110 15); a space and a reason
    /// without control characters may follow (PEP 3333).
    ///
    /// # Errors
    /// [`Kind::ResponseStatus`].
    pub fn start(&mut self, status: &[u8]) -> Result<(), Error> {
        self.clear();
        let code = code(status).ok_or_else(|| Error::about(Kind::ResponseStatus, status))?;
        // RFC 9112 4: the space stands even before an absent reason.
        let end: &[u8] = if status.len() == 3 { b" \r\n" } else { b"\r\n" };
        if !self.repeats(b"HTTP/1.1", b" ", status, end) {
            self.add(b"HTTP/1.1", b" ", status, end);
        }
        self.status = code;
        Ok(())
    }

    /// Adds a field.
    ///
    /// # Errors
    /// [`Kind::ResponseName`], [`Kind::ResponseValue`], [`Kind::HopByHop`],
    /// [`Kind::ResponseLength`] (also when it is given twice), all of which
    /// name the field; [`Kind::OutOfOrder`] before `start`.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Error> {
        if self.status == 0 {
            return Err(Kind::OutOfOrder.into());
        }
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is(b"date") => self.date = By::App,
            6 if is(b"server") => self.server = By::App,
            14 if is(b"content-length") => return self.length(value),
            _ => {}
        }
        if self.repeats(name, b": ", value, b"\r\n") {
            return Ok(());
        }
        check(name, value)?;
        if is_hop_by_hop(name) {
            return Err(Error::about(Kind::HopByHop, name));
        }
        self.add(name, b": ", value, b"\r\n");
        Ok(())
    }

    /// Whether the next line is the one that the response before had here: it is
    /// this one's, too, then.
    fn repeats(&mut self, name: &[u8], separator: &[u8], value: &[u8], end: &[u8]) -> bool {
        let Some(&line) = self.lines.get(self.used) else { return false };
        let past = &self.bytes[self.end..line.end];
        let is_same = line.name == name.len()
            && past.len() == name.len() + separator.len() + value.len() + end.len()
            && past.starts_with(name)
            && past[name.len() + separator.len()..].starts_with(value);
        if is_same {
            self.used += 1;
            self.end = line.end;
        }
        is_same
    }

    /// Adds a line that is not the one before's; those that followed there are
    /// forgotten.
    fn add(&mut self, name: &[u8], separator: &[u8], value: &[u8], end: &[u8]) {
        self.bytes.truncate(self.end);
        self.lines.truncate(self.used);
        self.bytes.reserve(name.len() + value.len() + 4);
        for part in [name, separator, value, end] {
            self.bytes.extend_from_slice(part);
        }
        self.used += 1;
        self.end = self.bytes.len();
        self.lines.push(Line { name: name.len(), end: self.end });
    }

    /// The status code; 0 before `start`.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The status line and fields as the application gave them, each line with
    /// its end; empty before `start`.
    pub fn head(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// The Content-Length that the application gave.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// The value of the application's first field of that name, in whatever case.
    pub fn value(&self, name: &[u8]) -> Option<Vec<u8>> {
        if name.eq_ignore_ascii_case(b"content-length") {
            return self.content_length.map(|length| length.to_string().into_bytes());
        }
        let mut lines = self.head().split(|byte| *byte == b'\n').skip(1);
        lines.find_map(|line| {
            let (found, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b": ")?.strip_suffix(b"\r")?;
            found.eq_ignore_ascii_case(name).then(|| value.to_vec())
        })
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Error> {
        match (self.content_length, decimal(value)) {
            (None, Some(length)) => {
                self.content_length = Some(length);
                Ok(())
            }
            _ => Err(Error::about(Kind::ResponseLength, value)),
        }
    }

    /// Appends the whole head.
    pub(crate) fn write(&self, decision: &Decision, stamp: &Stamp<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head());
        if self.server == By::Server {
            out.extend_from_slice(stamp.server);
        }
        if self.date == By::Server {
            out.extend_from_slice(stamp.date);
        }
        if let Some(length) = decision.content_length {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(decision.coding);
        out.extend_from_slice(decision.connection);
        out.extend_from_slice(b"\r\n");
    }
}

/// The code of a status that may be sent.
fn code(status: &[u8]) -> Option<u16> {
    let [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', reason @ ..] = status else {
        return None;
    };
    let digit = |b: u8| u16::from(b - b'0');
    let valid = reason.is_empty() || (reason.starts_with(b" ") && is_text(reason));
    valid.then(|| digit(*a) * 100 + digit(*b) * 10 + digit(*c))
}

/// The fields that PEP 3333 keeps from applications ("Other HTTP Features",
/// after RFC 2616 13.5.1), with the `Trailer` that RFC 2616 meant.
fn is_hop_by_hop(name: &[u8]) -> bool {
    let known: &[&[u8]] = match name.len() {
        2 => &[b"te"],
        7 => &[b"trailer", b"upgrade"],
        8 => &[b"trailers"],
        10 => &[b"connection", b"keep-alive"],
        17 => &[b"transfer-encoding"],
        18 => &[b"proxy-authenticate"],
        19 => &[b"proxy-authorization"],
        _ => return false,
    };
    known.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// A field's name is a token, and its value has no control characters but HTAB.
fn check(name: &[u8], value: &[u8]) -> Result<(), Error> {
    if !is_token(name) {
        return Err(Error::about(Kind::ResponseName, name));
    }
    if !is_text(value) {
        return Err(Error::about(Kind::ResponseValue, name));
    }
    Ok(())
}

/// The status string of a response that the server makes itself; 500 for a
/// code that it never makes.
pub(crate) fn status_line(code: u16) -> &'static [u8] {
    match code {
        400 => b"400 Bad Request",
        408 => b"408 Request Timeout",
        413 => b"413 Content Too Large",
        414 => b"414 URI Too Long",
        417 => b"417 Expectation Failed",
        431 => b"431 Request Header Fields Too Large",
        501 => b"501 Not Implemented",
        503 => b"503 Service Unavailable",
        504 => b"504 Gateway Timeout",
        505 => b"505 HTTP Version Not Supported",
        _ => b"500 Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(result: Result<(), Error>) -> Option<Kind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn a_status_is_a_code_and_a_reason() {
        for good in ["200 OK", "200", "404 ", "299 a\tb", "599 \u{e9}"] {
            assert_eq!(kind(Response::new().start(good.as_bytes())), None, "{good}");
        }
        for bad in
            ["", "20", "2000 OK", "200OK", "100 Continue", "103 x", "600 x", "20x a", "200 a\r\nb"]
        {
            let started = Response::new().start(bad.as_bytes());
            assert_eq!(kind(started), Some(Kind::ResponseStatus), "{bad}");
        }
    }

    #[test]
    fn a_header_cannot_inject_another() {
        let mut response = Response::new();
        response.start(b"200 OK").unwrap();
        for value in ["a\r\nSet-Cookie: b", "a\n", "\r", "a\0b", "\u{7f}", "\u{b}"] {
            let added = response.field(b"X-A", value.as_bytes());
            assert_eq!(kind(added), Some(Kind::ResponseValue), "{value:?}");
        }
        for name in ["", "a b", "a:", "a\r\n", "\u{e9}", "a\0"] {
            let added = response.field(name.as_bytes(), b"x");
            assert_eq!(kind(added), Some(Kind::ResponseName), "{name:?}");
        }
        assert_eq!(response.head(), b"HTTP/1.1 200 OK\r\n");
        assert_eq!(kind(response.field(b"X-A", b"tab\tand \xe9")), None);
    }

    #[test]
    fn hop_by_hop_fields_are_the_servers() {
        let mut response = Response::new();
        response.start(b"200 OK").unwrap();
        for name in [
            "Connection",
            "keep-alive",
            "Proxy-Authenticate",
            "Proxy-Authorization",
            "TE",
            "Trailer",
            "Trailers",
            "TRANSFER-ENCODING",
            "Upgrade",
        ] {
            let error = response.field(name.as_bytes(), b"x").unwrap_err();
            assert_eq!(error.kind(), Kind::HopByHop, "{name}");
            assert!(error.to_string().ends_with(&format!("\"{name}\"")), "{error}");
        }
    }

    #[test]
    fn content_length_is_one_number() {
        let mut response = Response::new();
        response.start(b"200 OK").unwrap();
        for bad in ["", "-1", "5, 5", " 5", "x", "18446744073709551616"] {
            let added = response.field(b"Content-Length", bad.as_bytes());
            assert_eq!(kind(added), Some(Kind::ResponseLength), "{bad}");
        }
        assert_eq!(kind(response.field(b"content-length", b"5")), None);
        assert_eq!(kind(response.field(b"Content-Length", b"5")), Some(Kind::ResponseLength));
        assert_eq!(response.content_length(), Some(5));
    }

    #[test]
    fn a_value_is_found_in_whatever_case_and_the_status_line_has_none() {
        let mut response = Response::new();
        response.start(b"200 X-A: no").unwrap();
        response.field(b"X-AB", b"long").unwrap();
        response.field(b"x-a", b"").unwrap();
        response.field(b"Content-Length", b"5").unwrap();
        let value = |name: &[u8]| response.value(name);
        assert_eq!(value(b"X-a"), Some(Vec::new()));
        assert_eq!(value(b"x-ab"), Some(b"long".to_vec()));
        assert_eq!(value(b"content-length"), Some(b"5".to_vec()));
        assert_eq!((value(b"HTTP/1.1 200 X-A"), value(b"X")), (None, None));
    }

    #[test]
    fn start_forgets_the_response_before() {
        let mut response = Response::new();
        assert_eq!(kind(response.field(b"X-A", b"b")), Some(Kind::OutOfOrder));
        response.start(b"200 OK").unwrap();
        response.field(b"Content-Length", b"5").unwrap();
        response.field(b"Date", b"x").unwrap();
        response.start(b"404 Not Found").unwrap();
        assert_eq!((response.status(), response.content_length()), (404, None));
        assert_eq!(
            (response.date, response.head()),
            (By::Server, &b"HTTP/1.1 404 Not Found\r\n"[..])
        );
        response.start(b"junk").unwrap_err();
        assert_eq!(response.status(), 0);
    }

    #[test]
    fn every_error_of_the_client_has_its_status_line() {
        for code in [400, 413, 414, 417, 431, 501, 505] {
            assert!(status_line(code).starts_with(code.to_string().as_bytes()));
        }
    }
}
