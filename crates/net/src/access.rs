//! The access log: one line per answered request, in the combined format.
//!
//! Lines gather in memory and are written once per turn of the loop, in one
//! write(2), so that lines of several workers never mix within a line.

use std::fmt;
use std::io::Write;

use serve_http::Head;

use crate::Peer;

/// Lines that wait for the end of the turn, and where they go.
pub struct AccessLog {
    sink: Box<dyn Write + Send>,
    lines: Vec<u8>,
    failing: Failing,
}

#[derive(PartialEq, Eq)]
enum Failing {
    No,
    /// Said once, until a write succeeds again.
    Said,
}

impl AccessLog {
    /// Writes to `sink`, which must append each write as a whole.
    pub fn new(sink: impl Write + Send + 'static) -> Self {
        Self { sink: Box::new(sink), lines: Vec::new(), failing: Failing::No }
    }

    /// `h l u t "r" s b "f" "a"`, as gunicorn and Apache write it.
    pub(crate) fn line(&mut self, peer: Peer, time: &str, head: &Head, status: u16, bytes: u64) {
        let out = &mut self.lines;
        match peer {
            Peer::Tcp(address) => push(out, format_args!("{}", address.ip())),
            Peer::Unix => out.push(b'-'),
        }
        push(out, format_args!(" - - {time} \""));
        escape(out, head.request_line());
        push(out, format_args!("\" {status} {bytes} \""));
        escape(out, head.field(b"referer").unwrap_or(b"-"));
        out.extend_from_slice(b"\" \"");
        escape(out, head.field(b"user-agent").unwrap_or(b"-"));
        out.extend_from_slice(b"\"\n");
    }

    /// Writes what has gathered. A full disk costs lines, never a request; it
    /// is said once.
    pub(crate) fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        match self.sink.write_all(&self.lines) {
            Ok(()) => self.failing = Failing::No,
            Err(error) if self.failing == Failing::No => {
                self.failing = Failing::Said;
                log::error!("access log: cannot write: {error}; lines are lost until it works");
            }
            Err(_) => {}
        }
        self.lines.clear();
    }
}

fn push(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory does not fail");
}

/// A client must not be able to end the field or forge a line.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x20..=0x7e => out.push(byte),
            _ => push(out, format_args!("\\x{byte:02x}")),
        }
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").field("lines", &self.lines.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_cannot_be_ended_by_its_content() {
        let mut out = Vec::new();
        escape(&mut out, b"a\"b\\c\n\xff");
        assert_eq!(out, br#"a\"b\\c\x0a\xff"#);
    }
}
