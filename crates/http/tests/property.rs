//! What must hold for any bytes and any calls, tried with random ones.
//!
//! Each test runs many small cases, each from its own seed; a failure names the
//! seed, and `SERVE_SEED=n` runs that case alone.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "the corpus is files, the seed comes from outside")]

mod util;

use std::fmt::Write;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use serve_http::{Connection, Event, Keep, Limits, Response, Size};
use util::{Ending, Outcome, STAMP, feed, render};

/// xorshift64*: good enough to choose by, and the same everywhere.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[7]
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    /// Up to `most` bytes of an alphabet.
    fn word(&mut self, alphabet: &[u8], most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }
}

fn for_seeds(cases: u64, check: impl Fn(&mut Rng)) {
    let given = std::env::var("SERVE_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let first = given.unwrap_or_else(|| RandomState::new().hash_one(0) >> 16);
    for seed in first..first + given.map_or(cases, |_| 1) {
        // Odd and spread out: xorshift never leaves 0, and is alike for alike seeds.
        let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let result = catch_unwind(AssertUnwindSafe(|| check(&mut rng)));
        assert!(result.is_ok(), "replay with SERVE_SEED={seed}");
    }
}

#[test]
fn any_bytes_are_requests_or_the_clients_error() {
    let corpus = corpus();
    for_seeds(20_000, |rng| {
        let mut bytes = corpus[rng.below(corpus.len())].clone();
        if rng.chance(2) {
            bytes.extend_from_slice(&corpus[rng.below(corpus.len())]);
        }
        for _ in 0..rng.below(5) {
            mutate(rng, &mut bytes);
        }
        bytes.truncate(2000);
        bytes.extend([rng.byte(), rng.byte()]);
        util::connection(&bytes);
    });
}

#[test]
fn random_bytes_are_requests_or_the_clients_error() {
    for_seeds(5000, |rng| {
        let bytes: Vec<u8> = (0..rng.below(100)).map(|_| rng.byte()).collect();
        util::connection(&bytes);
    });
}

fn corpus() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/requests");
    let folders = ["valid", "invalid"].map(|folder| fs::read_dir(root.join(folder)).unwrap());
    let paths = folders.into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().unwrap() == "http").collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Breaks bytes in one of the ways that parsers break on.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    const TOKENS: &[&[u8]] = &[
        b"\r\n",
        b"\r",
        b"\n",
        b"\0",
        b" ",
        b"\t",
        b":",
        b",",
        b";",
        b"0",
        b"\r\n\r\n",
        b"0\r\n\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: b\r\n",
        b"Connection: close\r\n",
        b"GET / HTTP/1.1\r\n",
        b"ffffffffffffffff",
        b"HTTP/1.0",
        b"\xff",
    ];
    let at = rng.below(bytes.len() + 1);
    let end = at + rng.below(bytes.len() - at + 1).min(20);
    match rng.below(5) {
        0 if at < bytes.len() => bytes[at] = rng.byte(),
        1 => drop(bytes.drain(at..end)),
        2 => drop(bytes.splice(at..at, rng.pick(TOKENS).iter().copied())),
        3 => {
            let again = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, again));
        }
        _ => bytes.truncate(end),
    }
}

#[test]
fn a_valid_request_is_read_as_it_was_meant() {
    for_seeds(3000, |rng| {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..=rng.below(3) {
            let (sent, meant) = request(rng);
            bytes.extend(sent);
            expected.push(meant);
        }
        let outcome = feed(&Arc::default(), pieces(rng, &bytes));
        assert_eq!((render(&outcome), outcome.error), (expected.join("\n"), None));
        assert_eq!(outcome.ending, Some(Ending::Idle));
    });
}

/// A client repeats itself: then its fields are not parsed again.
#[test]
fn fields_that_repeat_are_read_as_those_that_do_not() {
    let long = format!("GET /{} HTTP/1.1", "x".repeat(4075));
    let lines = ["GET / HTTP/1.1", "GET /a/longer?target HTTP/1.1", "HEAD /b HTTP/1.0", &long];
    let fields = [
        "Host: a\r\n\r\n",
        "Host: a\r\nConnection: Keep-Alive\r\nX_y: z\r\n\r\n",
        "Host: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
        "hOST: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Connection: keep-alive\r\n\r\n",
        "\r\n",
    ];
    for_seeds(5_000, |rng| {
        let head = if rng.chance(2) { 50 + rng.below(70) } else { 5000 };
        let request_line = if rng.chance(4) { 20 } else { 4094 };
        let limits = Arc::new(Limits { head, request_line, ..Limits::default() });
        let fields = [rng.pick(&fields), rng.pick(&fields)];
        let mut requests: Vec<_> = (0..6)
            .map(|_| format!("{}\r\n{}", rng.pick(&lines), rng.pick(&fields)).into_bytes())
            .collect();
        if rng.chance(3) {
            mutate(rng, &mut requests[5]);
        }
        let bytes = requests.concat();
        let split = if rng.chance(2) {
            pieces(rng, &bytes)
        } else {
            requests.iter().map(Vec::as_slice).collect()
        };
        let together = feed(&limits, split);
        let mut alone = Outcome::default();
        for request in &requests {
            let one = feed(&limits, [request.as_slice()]);
            alone.requests.extend(one.requests);
            alone.error = one.error;
            if one.ending != Some(Ending::Idle) {
                break;
            }
        }
        assert_eq!((together.requests, together.error), (alone.requests, alone.error));
    });
}

/// An application repeats itself: then its lines are not checked again.
#[test]
fn responses_that_repeat_are_those_that_do_not() {
    let status: [&[u8]; 5] = [b"200 OK", b"200", b"200 ", b"404 Not Found", b"200 O\r\nA: 1"];
    let names: [&[u8]; 8] =
        [b"A", b"a", b"B", b"A: 1", b"Date", b"Server", b"Content-Length", b"Connection"];
    let values: [&[u8]; 6] = [b"1", b"2", b"", b"1: 2", b"1\r\nB: 1", b"1\r\nA: 1\r\nB: 1"];
    let outcome = |response: &Response| {
        let mut out = Vec::new();
        let mut connection = Connection::new(Arc::new(Limits::default()));
        connection.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("a request");
        let sent = connection.send_head(response, Size::Unknown, &STAMP, &mut out);
        (sent, out, response.head().to_vec(), response.status(), response.content_length())
    };
    for_seeds(5_000, |rng| {
        let mut kept = Response::new();
        let mut lines: Vec<(&[u8], &[u8])> = Vec::new();
        for _ in 0..6 {
            let mut fresh = Response::new();
            let status = rng.pick(&status);
            assert_eq!(kept.start(status), fresh.start(status));
            if lines.is_empty() || rng.chance(3) {
                let some = |_| (rng.pick(&names), rng.pick(&values));
                lines = (0..4).map(some).collect();
            }
            lines.truncate(1 + rng.below(4));
            for (name, value) in &lines {
                assert_eq!(kept.field(name, value), fresh.field(name, value));
            }
            assert_eq!(outcome(&kept), outcome(&fresh));
        }
    });
}

/// Splits bytes at random.
fn pieces<'b>(rng: &mut Rng, mut bytes: &'b [u8]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(1 + rng.below(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

const TOKEN: &[u8] = b"abcXYZ019!#$%&'*+-.^_`|~";
const PATH: &[u8] = b"abc019-._~%/:@!$&'()*+,;=";
const VALUE: &[u8] = b"abcXYZ019 \t:;,=\"()\x80\xff";

/// A keep-alive request: its bytes, and the text that `util` makes of it.
fn request(rng: &mut Rng) -> (Vec<u8>, String) {
    let method = [b"M", &rng.word(TOKEN, 31)[..]].concat();
    let path = [b"/", &rng.word(PATH, 30)[..]].concat();
    let query = rng.word(PATH, 20);
    let mark = if query.is_empty() { &b""[..] } else { b"?" };
    let target = [&path, mark, &query].concat();
    let mut text = String::new();
    let mut line = |name: &str, value: &[u8]| {
        writeln!(text, "{name} {}", value.escape_ascii()).unwrap();
    };
    line("method", &method);
    line("target", &target);
    line("path", &path);
    if !query.is_empty() {
        line("query", &query);
    }
    line("version", b"1.1");
    line("host", b"h");
    let mut bytes = [&method, &b" "[..], &target, b" HTTP/1.1\r\n"].concat();
    let body = rng.word(b"\r\n0;a\0\xff", 40);
    for (name, value) in fields(rng, body.len()) {
        line("field", &[&name, &b": "[..], &value].concat());
        let space = rng.pick(&[&b""[..], b" ", b"\t ", b"   "]);
        bytes.extend([&name, &b":"[..], space, &value, space, b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
    if memchr::memmem::find(&bytes, b"chunked").is_some() {
        line("framing", b"chunked");
        bytes.extend(chunked(rng, &body));
    } else {
        line("framing", format!("length {}", body.len()).as_bytes());
        bytes.extend(&body);
    }
    if !body.is_empty() {
        line("body", &body);
    }
    line("keep", b"alive");
    (bytes, text)
}

/// Fields that mean nothing, around a Host and a framing.
fn fields(rng: &mut Rng, body: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut fields: Vec<_> = (0..rng.below(8))
        .map(|_| {
            let name = [b"x-", &rng.word(TOKEN, 12)[..]].concat();
            (name, rng.word(VALUE, 30).trim_ascii().to_vec())
        })
        .collect();
    let framing = match rng.chance(2) {
        true => (b"Transfer-Encoding".to_vec(), b"chunked".to_vec()),
        false => (b"Content-Length".to_vec(), body.to_string().into_bytes()),
    };
    for field in [(b"hOST".to_vec(), b"h".to_vec()), framing] {
        fields.insert(rng.below(fields.len() + 1), field);
    }
    fields
}

fn chunked(rng: &mut Rng, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces(rng, body) {
        let extension = rng.pick(&["", ";a", ";a=\"b c\"", " ; a"]);
        bytes.extend(format!("{:x}{extension}\r\n", piece.len()).into_bytes());
        bytes.extend([piece, b"\r\n"].concat());
    }
    bytes.extend(rng.pick(&[&b"0\r\n\r\n"[..], b"000;x\r\nA: b\r\n\r\n"]));
    bytes
}

#[test]
fn any_order_of_calls_keeps_the_machine_whole() {
    for_seeds(10_000, |rng| {
        let mut connection = Connection::new(Arc::default());
        for _ in 0..rng.below(40) {
            act(rng, &mut connection);
            connection.check_invariants();
        }
    });
}

/// Any call, whether it is its turn or not.
fn act(rng: &mut Rng, connection: &mut Connection) {
    let mut out = Vec::new();
    let before = connection.keep();
    match rng.below(12) {
        0..=3 => {
            let bytes = rng.pick(&[
                &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
                b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
                b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"ab",
                b"1\r\na\r\n",
                b"0\r\n\r\n",
                b"",
                b"\n",
            ]);
            if let Ok((_, Event::Head)) = connection.receive(bytes) {
                assert!(connection.started());
            }
        }
        4 => {
            let size = if rng.chance(2) { Size::Unknown } else { Size::Known(rng.next() % 5) };
            drop(connection.send_head(&response(rng), size, &STAMP, &mut out));
        }
        5 => drop(connection.send_data(rng.next() % 4, &mut out)),
        6 => drop(connection.send_end(&mut out)),
        7 => connection.send_continue(&mut out),
        8 if rng.chance(4) => {
            let started = connection.response_started();
            assert_eq!(connection.refuse(503, "busy", &STAMP, &mut out), !started);
        }
        9 if rng.chance(4) => connection.close_after(),
        10 => {
            let head = connection.take_head();
            connection.restore_head(head);
        }
        11 => {
            let may = connection.is_done() && connection.keep() == Keep::Alive;
            assert_eq!(connection.next_cycle().is_ok(), may);
        }
        _ => {}
    }
    assert!(before == Keep::Alive || connection.keep() == Keep::Close, "close is for good");
}

fn response(rng: &mut Rng) -> Response {
    let mut response = Response::new();
    response.start(rng.pick(&[&b"200 OK"[..], b"204 No Content", b"304 Not Modified"])).unwrap();
    if rng.chance(3) {
        response.field(b"Content-Length", (rng.next() % 5).to_string().as_bytes()).unwrap();
    }
    response
}

#[test]
fn a_client_reads_what_the_application_wrote() {
    for_seeds(5000, |rng| {
        let mut connection = Connection::new(Limits::default().into());
        let request = rng.pick(&[
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
        ]);
        assert_eq!(connection.receive(request.as_bytes()), Ok((request.len(), Event::Head)));
        assert_eq!(connection.receive(b""), Ok((0, Event::End)));
        let response = response(rng);
        let body: Vec<Vec<u8>> = (0..rng.below(4)).map(|_| rng.word(b"\r\n0ab", 9)).collect();
        let (wire, ended) = send(rng, &mut connection, &response, &body);
        let (seen, delimited) = read(&wire, request, &response);
        let mut meant = body.concat();
        if let Some(len) = response.content_length() {
            meant.truncate(usize::try_from(len).unwrap());
        }
        if request.starts_with("HEAD") || response.status() != 200 {
            meant.clear();
        }
        assert_eq!(seen, meant);
        assert_eq!(connection.sent_body(), meant.len() as u64);
        assert_eq!(delimited, connection.keep() == Keep::Alive || request.contains("1.0"));
        assert_eq!(ended, connection.is_done());
    });
}

/// Sends a response; says what went on the wire and whether it was completed.
fn send(
    rng: &mut Rng,
    connection: &mut Connection,
    response: &Response,
    body: &[Vec<u8>],
) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let size = match rng.chance(2) {
        true => Size::Known(body.concat().len() as u64),
        false => Size::Unknown,
    };
    connection.send_head(response, size, &STAMP, &mut out).unwrap();
    for part in body {
        let wire = connection.send_data(part.len() as u64, &mut out).unwrap();
        out.extend_from_slice(&part[..usize::try_from(wire.take).unwrap()]);
        out.extend_from_slice(wire.suffix);
        connection.check_invariants();
    }
    let ended = connection.send_end(&mut out).is_ok();
    connection.check_invariants();
    (out, ended)
}

/// A small client: the body, and whether its end was seen within the bytes (a
/// body delimited by the end of an HTTP/1.0 connection counts as seen).
fn read(wire: &[u8], request: &str, response: &Response) -> (Vec<u8>, bool) {
    let end = memchr::memmem::find(wire, b"\r\n\r\n").unwrap();
    let head = str::from_utf8(&wire[..end]).unwrap();
    let mut rest = &wire[end + 4..];
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    assert!(field("Content-Length: ").is_none() || field("Transfer-Encoding: ").is_none());
    if request.starts_with("HEAD") || response.status() != 200 {
        return (rest.to_vec(), true);
    }
    if let Some(len) = field("Content-Length: ") {
        let len: usize = len.parse().unwrap();
        assert!(rest.len() <= len);
        return (rest.to_vec(), rest.len() == len || request.contains("1.0"));
    }
    if field("Transfer-Encoding: ").is_none() {
        assert!(request.contains("1.0") && field("Connection: ") == Some("close"));
        return (rest.to_vec(), true);
    }
    let mut body = Vec::new();
    loop {
        let line = memchr::memmem::find(rest, b"\r\n").unwrap();
        let size = usize::from_str_radix(str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        let data = &rest[line + 2..];
        body.extend_from_slice(&data[..size]);
        assert_eq!(&data[size..size + 2], b"\r\n");
        rest = &data[size + 2..];
        if size == 0 {
            assert!(rest.is_empty());
            return (body, true);
        }
    }
}
