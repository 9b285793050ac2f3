//! Feeds a connection as a caller would and writes down what came of it.
//!
//! Shared by the corpus, the property test and the fuzz target: one reading of
//! the contract of `receive`, which asserts all of it at each step.

// Each of the three uses its part.
#![allow(dead_code, reason = "each of the test binaries uses its part")]

use std::fmt::Write;
use std::sync::Arc;

use serve_http::{
    Blame, Connection, Event, Framing, Head, Keep, Kind, Limits, Response, Size, Stamp, Version,
};

pub(crate) const STAMP: Stamp<'static> =
    Stamp { date: b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", server: b"Server: serve\r\n" };

/// What a client's bytes amount to, however they are split.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Each request as text: one line per part, escaped.
    pub(crate) requests: Vec<String>,
    /// Of the request that is not complete.
    pub(crate) body: Vec<u8>,
    pub(crate) error: Option<(u16, Kind)>,
    pub(crate) ending: Option<Ending>,
}

/// Where the bytes ran out, if they did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Between requests.
    Idle,
    /// Within one.
    Started,
    /// The connection had to close before.
    Closed,
}

/// The lines of all requests.
pub(crate) fn render(outcome: &Outcome) -> String {
    outcome.requests.join("\n")
}

/// Feeds the pieces one after the other.
pub(crate) fn feed<'a>(
    limits: &Arc<Limits>,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Outcome {
    let mut connection = Connection::new(limits.clone());
    let mut outcome = Outcome::default();
    let mut buffer = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let taken = drain(&mut connection, &buffer, &mut outcome);
        if outcome.ending.is_some() {
            return outcome;
        }
        buffer.drain(..taken);
        assert!(buffer.is_empty(), "Incomplete consumes everything");
    }
    let ending = if connection.started() { Ending::Started } else { Ending::Idle };
    outcome.ending = Some(ending);
    outcome
}

/// Calls `receive` until it has nothing more to say.
fn drain(connection: &mut Connection, buffer: &[u8], outcome: &mut Outcome) -> usize {
    let mut taken = 0;
    loop {
        let input = &buffer[taken..];
        let received = connection.receive(input);
        connection.check_invariants();
        let (len, event) = match received {
            Ok(received) => received,
            Err(error) => {
                assert_eq!(error.blame(), Blame::Client);
                outcome.error = Some((error.status(), error.kind()));
                outcome.ending = Some(Ending::Closed);
                refused(connection, &error);
                return taken;
            }
        };
        taken += len;
        match event {
            Event::Incomplete => {
                assert_eq!(len, input.len());
                return taken;
            }
            Event::Head => outcome.requests.push(describe(connection.head())),
            Event::Data(data) => {
                assert!(!data.is_empty() && len >= data.len());
                outcome.body.extend_from_slice(data);
            }
            Event::End => {
                assert_eq!(connection.receive(input), Ok((0, Event::Incomplete)));
                finish(connection, outcome);
                if outcome.ending.is_some() {
                    return taken;
                }
            }
        }
    }
}

/// An error stays, and can be answered.
fn refused(connection: &mut Connection, error: &serve_http::Error) {
    assert_eq!(connection.receive(b"GET / HTTP/1.1\r\n\r\n").as_ref(), Err(error));
    assert_eq!(connection.keep(), Keep::Close);
    assert!(connection.next_cycle().is_err());
    let mut out = Vec::new();
    assert!(connection.refuse(error.status(), &error.to_string(), &STAMP, &mut out));
    assert!(out.starts_with(format!("HTTP/1.1 {} ", error.status()).as_bytes()));
    connection.check_invariants();
}

/// Ends a request: its body and what becomes of the connection, then a response.
fn finish(connection: &mut Connection, outcome: &mut Outcome) {
    let text = outcome.requests.last_mut().unwrap();
    if !outcome.body.is_empty() {
        writeln!(text, "body {}", outcome.body.escape_ascii()).unwrap();
        outcome.body.clear();
    }
    writeln!(text, "keep {}", keep(connection.keep())).unwrap();
    let head = connection.take_head();
    let mut response = Response::new();
    response.start(b"200 OK").unwrap();
    let mut out = Vec::new();
    connection.send_head(&response, Size::Known(0), &STAMP, &mut out).unwrap();
    connection.send_end(&mut out).unwrap();
    connection.restore_head(head);
    connection.check_invariants();
    assert!(connection.is_done());
    if connection.keep() == Keep::Close {
        outcome.ending = Some(Ending::Closed);
        return;
    }
    connection.next_cycle().unwrap();
    connection.check_invariants();
    assert!(!connection.started());
}

fn describe(head: &Head) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &[u8]| {
        writeln!(text, "{name} {}", value.escape_ascii()).unwrap();
    };
    line("method", head.method());
    line("target", head.target());
    line("path", head.path());
    if !head.query().is_empty() {
        line("query", head.query());
    }
    line("version", if head.version() == Version::Http10 { b"1.0" } else { b"1.1" });
    if let Some(host) = head.host() {
        line("host", host);
    }
    for (name, value) in head.fields() {
        line("field", &[name, b": ", value].concat());
        assert!(head.field(&name.to_ascii_uppercase()).is_some());
    }
    let underscored = head.fields().filter(|(name, _)| name.contains(&b'_'));
    assert!(head.underscored_fields().eq(underscored));
    match head.framing() {
        Framing::None => {}
        Framing::Length(len) => line("framing", format!("length {len}").as_bytes()),
        Framing::Chunked => line("framing", b"chunked"),
    }
    if head.expects_continue() {
        line("expects", b"100-continue");
    }
    let whole = [head.method(), b" ", head.target(), b" HTTP/1."].concat();
    assert!(head.request_line().starts_with(&whole));
    text
}

fn keep(keep: Keep) -> &'static str {
    match keep {
        Keep::Alive => "alive",
        Keep::Close => "close",
    }
}

/// Whatever bytes a client sends, they are requests or the client's error, and
/// the same ones however the network splits them. The last two bytes choose
/// the limits and the size of the pieces, so that a request is a good seed.
pub(crate) fn connection(data: &[u8]) {
    let [bytes @ .., choice, width] = data else { return };
    let limits = Arc::new(match choice % 4 {
        0 => Limits {
            request_line: 16,
            fields: 2,
            field_size: 24,
            head: 64,
            chunk_line: 4,
            trailers: 12,
            max_body: Some(8),
        },
        1 => Limits { request_line: 0, fields: 0, field_size: 0, head: 200, ..Limits::default() },
        _ => Limits::default(),
    });
    let whole = feed(&limits, [bytes]);
    assert_eq!(whole, feed(&limits, bytes.chunks(1)));
    assert_eq!(whole, feed(&limits, bytes.chunks(usize::from(*width).max(1))));
}
