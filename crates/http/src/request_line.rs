//! The request line (RFC 9112 3) and the forms of its target.
//!
//! Takes one complete line and says where its parts are; the bytes stay where
//! they are. Nothing is decoded or normalised: that is for the application.

use crate::error::Kind;
use crate::grammar::{Span, is_host, is_target, token_len};

/// The version of a request. 1.2 and above are treated as 1.1 (RFC 9110 2.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
}

/// Where the parts of a request line are, counted from its first byte.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestLine {
    pub(crate) line: Span,
    pub(crate) method: Span,
    pub(crate) target: Span,
    /// Empty only for an absolute-form target without a path.
    pub(crate) path: Span,
    pub(crate) query: Span,
    /// Of an absolute-form target.
    pub(crate) authority: Option<Span>,
    pub(crate) version: Version,
}

/// The longest registered method, UPDATEREDIRECTREF, has 17 bytes.
const METHOD_MAX: usize = 32;

/// Of `" HTTP/1.1"`.
const VERSION_LEN: usize = 9;

impl RequestLine {
    /// Parses a line without its CRLF.
    ///
    /// The version is looked at before the target, so that the preface of
    /// HTTP/2 (`PRI * HTTP/2.0`) is answered for what it is.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, Kind> {
        let method = Span { start: 0, end: token_len(line) };
        let start = method.end + 1;
        let end = line.len().checked_sub(VERSION_LEN).ok_or(Kind::RequestLine)?;
        match line.get(method.end) {
            Some(b' ') if method.end > 0 && start <= end => {}
            Some(b' ') => return Err(Kind::RequestLine),
            _ => return Err(Kind::Method),
        }
        if method.end > METHOD_MAX {
            return Err(Kind::MethodTooLong);
        }
        let version = version(&line[end..])?;
        let whole = Self {
            line: Span { start: 0, end: line.len() },
            method,
            target: Span { start, end },
            version,
            ..Self::default()
        };
        whole.split_target(line)
    }

    fn split_target(self, line: &[u8]) -> Result<Self, Kind> {
        let target = self.target.of(line);
        let method = self.method.of(line);
        if method == b"CONNECT" {
            return Err(Kind::Connect);
        }
        if !is_target(target) {
            return Err(Kind::Target);
        }
        match target {
            [b'/', ..] => Ok(self.split_path(line, self.target.start)),
            b"*" if method == b"OPTIONS" => Ok(self.split_path(line, self.target.start)),
            _ => self.split_absolute(line),
        }
    }

    /// `http://authority/path?query` (RFC 9112 3.2.2). User information is
    /// refused by the grammar of a host (RFC 9110 4.2.4).
    fn split_absolute(self, line: &[u8]) -> Result<Self, Kind> {
        let target = self.target.of(line);
        let slashes = memchr::memmem::find(target, b"://").ok_or(Kind::Target)?;
        let scheme = &target[..slashes];
        if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
            return Err(Kind::Target);
        }
        let start = self.target.start + slashes + 3;
        let rest = &line[start..self.target.end];
        let end = start + memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
        let authority = Span { start, end };
        // RFC 9110 4.2.1: an empty host identifier is invalid here.
        if matches!(authority.of(line), [] | [b':', ..]) || !is_host(authority.of(line)) {
            return Err(Kind::Target);
        }
        Ok(Self { authority: Some(authority), ..self.split_path(line, end) })
    }

    fn split_path(self, line: &[u8], start: usize) -> Self {
        let end = self.target.end;
        let mark = memchr::memchr(b'?', &line[start..end]).map_or(end, |at| start + at);
        let path = Span { start, end: mark };
        let query = Span { start: (mark + 1).min(end), end };
        Self { path, query, ..self }
    }
}

/// `" HTTP/" DIGIT "." DIGIT`, case-sensitive (RFC 9112 2.3).
fn version(tail: &[u8]) -> Result<Version, Kind> {
    match tail.strip_prefix(b" HTTP/") {
        Some([b'1', b'.', b'0']) => Ok(Version::Http10),
        Some([b'1', b'.', b'1'..=b'9']) => Ok(Version::Http11),
        Some([b'0'..=b'9', b'.', b'0'..=b'9']) => Err(Kind::VersionUnsupported),
        _ => Err(Kind::Version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(line: &str) -> (&str, &str, Option<&str>) {
        let found = RequestLine::parse(line.as_bytes()).unwrap();
        let text = |span: Span| &line[span.start..span.end];
        (text(found.path), text(found.query), found.authority.map(text))
    }

    #[test]
    fn a_target_has_a_path_and_a_query() {
        assert_eq!(parts("GET / HTTP/1.1"), ("/", "", None));
        assert_eq!(parts("GET /a?b?c HTTP/1.1"), ("/a", "b?c", None));
        assert_eq!(parts("GET /a? HTTP/1.1"), ("/a", "", None));
        assert_eq!(parts("OPTIONS * HTTP/1.1"), ("*", "", None));
        assert_eq!(parts("GET http://h:1/a?b HTTP/1.1"), ("/a", "b", Some("h:1")));
        assert_eq!(parts("GET HTTPS://h HTTP/1.1"), ("", "", Some("h")));
        assert_eq!(parts("GET http://h?q HTTP/1.1"), ("", "q", Some("h")));
        assert_eq!(parts("GET //h/x HTTP/1.1"), ("//h/x", "", None));
    }

    #[test]
    fn versions_of_1_are_two() {
        let version = |line: &[u8]| RequestLine::parse(line).map(|found| found.version);
        assert_eq!(version(b"GET / HTTP/1.0"), Ok(Version::Http10));
        assert_eq!(version(b"GET / HTTP/1.7"), Ok(Version::Http11));
        assert_eq!(version(b"PRI * HTTP/2.0"), Err(Kind::VersionUnsupported));
        assert_eq!(version(b"GET / HTTP/1.10"), Err(Kind::Version));
        assert_eq!(version(b"GET / http/1.1"), Err(Kind::Version));
    }
}
