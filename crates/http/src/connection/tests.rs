//! The response side, and what the corpus cannot show.

use super::*;
use crate::error::Blame;

const STAMP: Stamp<'static> =
    Stamp { date: b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", server: b"Server: serve\r\n" };

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
const GET_10: &str = "GET / HTTP/1.0\r\n\r\n";
const GET_10_KEEP: &str = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";

/// A connection that has received one request.
fn after(request: &str) -> Connection {
    let mut connection = Connection::new(Arc::default());
    receive(&mut connection, request);
    connection
}

/// Feeds bytes up to the end of a request; says how many were taken.
fn receive(connection: &mut Connection, bytes: &str) -> usize {
    let mut taken = 0;
    loop {
        let (len, event) = connection.receive(&bytes.as_bytes()[taken..]).unwrap();
        taken += len;
        if event == Event::Incomplete {
            return taken;
        }
    }
}

fn response(status: &str, fields: &[(&str, &str)]) -> Response {
    let mut response = Response::new();
    response.start(status.as_bytes()).unwrap();
    for (name, value) in fields {
        response.field(name.as_bytes(), value.as_bytes()).unwrap();
    }
    response
}

/// Sends a response with some body parts; says what is on the wire, without
/// Server and Date, and how it ended.
fn send(
    connection: &mut Connection,
    response: &Response,
    size: Size,
    body: &[&str],
) -> (String, Result<(), Kind>) {
    let mut out = Vec::new();
    connection.send_head(response, size, &STAMP, &mut out).unwrap();
    for part in body {
        let wire = connection.send_data(part.len() as u64, &mut out).unwrap();
        out.extend_from_slice(&part.as_bytes()[..usize::try_from(wire.take).unwrap()]);
        out.extend_from_slice(wire.suffix);
    }
    let ended = connection.send_end(&mut out).map_err(|error| error.kind());
    connection.check_invariants();
    let text = String::from_utf8(out).unwrap();
    (text.replace("Server: serve\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n", ""), ended)
}

/// Sends an empty response.
fn answer(connection: &mut Connection) {
    let (_, ended) = send(connection, &response("200 OK", &[]), Size::Known(0), &[]);
    assert_eq!(ended, Ok(()));
}

/// As `send`, for a response `200 OK` without fields, to a new connection.
fn reply(request: &str, size: Size, body: &[&str]) -> (String, Keep) {
    let mut connection = after(request);
    let (text, ended) = send(&mut connection, &response("200 OK", &[]), size, body);
    assert_eq!(ended, Ok(()));
    (text, connection.keep())
}

#[test]
fn a_known_size_is_a_content_length() {
    let (text, keep) = reply(GET, Size::Known(5), &["he", "llo"]);
    assert_eq!(text, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(keep, Keep::Alive);
}

#[test]
fn an_unknown_size_is_chunked() {
    let (text, keep) = reply(GET, Size::Unknown, &["hello", "", "0123456789abcdef"]);
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"
    );
    assert_eq!(keep, Keep::Alive);
}

#[test]
fn http10_of_unknown_size_ends_with_the_connection() {
    for request in [GET_10, GET_10_KEEP] {
        let (text, keep) = reply(request, Size::Unknown, &["hello"]);
        assert_eq!(text, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello");
        assert_eq!(keep, Keep::Close);
    }
}

#[test]
fn http10_is_kept_alive_if_it_asks_and_says_so() {
    let (text, keep) = reply(GET_10_KEEP, Size::Known(1), &["x"]);
    assert_eq!(text, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx");
    assert_eq!(keep, Keep::Alive);
    let (text, keep) = reply(GET_10, Size::Known(1), &["x"]);
    assert_eq!(text, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
    assert_eq!(keep, Keep::Close);
}

#[test]
fn head_has_the_length_and_no_body() {
    let (text, keep) = reply(HEAD, Size::Known(5), &["hello"]);
    assert_eq!(text, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(keep, Keep::Alive);
    let (text, _) = reply(HEAD, Size::Unknown, &["hello"]);
    assert_eq!(text, "HTTP/1.1 200 OK\r\n\r\n");
    let (text, _) = reply(HEAD, Size::Known(0), &[]);
    assert_eq!(text, "HTTP/1.1 200 OK\r\n\r\n");
    let mut connection = after(HEAD);
    let given = response("200 OK", &[("Content-Length", "7")]);
    let (text, ended) = send(&mut connection, &given, Size::Known(0), &[]);
    assert_eq!(text, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n");
    assert_eq!((ended, connection.sent_body()), (Ok(()), 0));
}

#[test]
fn head_is_remembered_when_the_head_is_taken() {
    let mut connection = after(HEAD);
    let head = connection.take_head();
    assert_eq!((head.method(), connection.head().method()), (&b"HEAD"[..], &b""[..]));
    let (text, _) = send(&mut connection, &response("200 OK", &[]), Size::Known(5), &["hello"]);
    assert!(text.ends_with("\r\n\r\n"), "{text}");
}

#[test]
fn statuses_without_a_body_have_none() {
    for (status, fields, size, lines) in [
        ("204 No Content", &[("Content-Length", "5")][..], Size::Known(5), ""),
        ("204 No Content", &[], Size::Unknown, ""),
        ("304 Not Modified", &[], Size::Known(5), ""),
        ("304 Not Modified", &[], Size::Known(0), ""),
        ("304 Not Modified", &[("Content-Length", "5")], Size::Unknown, "Content-Length: 5\r\n"),
    ] {
        let mut connection = after(GET);
        let (text, ended) = send(&mut connection, &response(status, fields), size, &["hello"]);
        assert_eq!(text, format!("HTTP/1.1 {status}\r\n{lines}\r\n"));
        assert_eq!((ended, connection.keep()), (Ok(()), Keep::Alive));
        connection.next_cycle().unwrap();
    }
}

#[test]
fn the_applications_length_wins_and_its_excess_is_cut() {
    let mut connection = after(GET);
    let given = response("200 OK", &[("content-length", "3")]);
    let (text, ended) = send(&mut connection, &given, Size::Known(5), &["he", "llo", "x"]);
    assert_eq!(text, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhel");
    assert_eq!((ended, connection.keep()), (Ok(()), Keep::Alive));
    assert_eq!((connection.sent_body(), connection.excess()), (3, 3));
}

#[test]
fn a_short_body_cuts_the_connection() {
    let mut connection = after(GET);
    let given = response("200 OK", &[("Content-Length", "6")]);
    let (_, ended) = send(&mut connection, &given, Size::Unknown, &["hello"]);
    assert_eq!(ended, Err(Kind::ShortBody));
    assert_eq!(Error::from(Kind::ShortBody).blame(), Blame::App);
    assert_eq!((connection.keep(), connection.is_done()), (Keep::Close, false));
    assert!(connection.next_cycle().is_err());
    assert!(!connection.refuse(500, "late", &STAMP, &mut Vec::new()));
}

#[test]
fn date_and_server_are_added_unless_given() {
    let mut out = Vec::new();
    let size = Size::Known(0);
    after(GET).send_head(&response("200 OK", &[]), size, &STAMP, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("\r\nServer: serve\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"));
    let given = response("200 OK", &[("DATE", "today"), ("server", "mine")]);
    let (text, _) = send(&mut after(GET), &given, size, &[]);
    let fields = "DATE: today\r\nserver: mine\r\nContent-Length: 0";
    assert_eq!(text, format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"));
    let mut out = Vec::new();
    let stamp = Stamp { server: b"", ..STAMP };
    after(GET).send_head(&response("200 OK", &[]), size, &stamp, &mut out).unwrap();
    assert!(!String::from_utf8(out).unwrap().contains("Server"));
}

#[test]
fn a_status_without_a_reason_keeps_its_space() {
    let (text, _) = send(&mut after(GET), &response("299", &[]), Size::Known(0), &[]);
    assert!(text.starts_with("HTTP/1.1 299 \r\n"), "{text}");
}

#[test]
fn the_server_can_close_after_the_next_response() {
    let mut connection = after(GET);
    connection.close_after();
    let (text, _) = send(&mut connection, &response("200 OK", &[]), Size::Known(0), &[]);
    assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
    assert_eq!(connection.keep(), Keep::Close);
    let mut idle = Connection::new(Arc::default());
    idle.close_after();
    receive(&mut idle, GET);
    let (text, _) = send(&mut idle, &response("200 OK", &[]), Size::Known(0), &[]);
    assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
}

#[test]
fn after_the_response_head_it_is_too_late_to_announce_a_close() {
    let mut connection = after(GET);
    let mut out = Vec::new();
    connection.send_head(&response("200 OK", &[]), Size::Known(0), &STAMP, &mut out).unwrap();
    connection.close_after();
    connection.send_end(&mut out).unwrap();
    assert_eq!(connection.keep(), Keep::Alive);
}

#[test]
fn a_response_before_the_end_of_the_request_closes() {
    let mut connection = after(POST);
    let (text, _) = send(&mut connection, &response("401 No", &[]), Size::Known(0), &[]);
    assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
    assert_eq!(receive(&mut connection, "abcGET"), 3);
    assert_eq!((connection.keep(), connection.is_done()), (Keep::Close, true));
    assert!(connection.next_cycle().is_err());
}

#[test]
fn a_response_before_the_empty_end_of_the_request_does_not_close() {
    let mut connection = Connection::new(Arc::default());
    assert_eq!(connection.receive(GET.as_bytes()), Ok((GET.len(), Event::Head)));
    let (text, _) = send(&mut connection, &response("200 OK", &[]), Size::Known(0), &[]);
    assert!(!text.contains("Connection"), "{text}");
    assert!(!connection.is_done());
    assert_eq!(connection.receive(b""), Ok((0, Event::End)));
    connection.next_cycle().unwrap();
}

#[test]
fn continue_is_sent_once_and_before_the_response() {
    let mut connection = after(POST);
    let mut out = Vec::new();
    connection.send_continue(&mut out);
    assert_eq!(out, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.send_continue(&mut out);
    assert_eq!(out.len(), 25);
    assert_eq!((connection.status(), connection.response_started()), (0, false));
    receive(&mut connection, "abc");
    answer(&mut connection);
    connection.send_continue(&mut out);
    assert_eq!((out.len(), connection.keep()), (25, Keep::Alive));
    for mut connection in [Connection::new(Arc::default()), after(GET_10)] {
        connection.send_continue(&mut out);
        assert_eq!(out.len(), 25);
    }
}

#[test]
fn refuse_is_a_whole_response_that_closes() {
    let mut connection = Connection::new(Arc::default());
    let error = connection.receive(b"GET /\n").unwrap_err();
    let mut out = Vec::new();
    assert!(connection.refuse(error.status(), "no", &STAMP, &mut out));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Server: serve\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         Content-Length: 3\r\nConnection: close\r\n\r\nno\n"
    );
    assert_eq!((connection.status(), connection.sent_body()), (400, 3));
    assert_eq!(connection.keep(), Keep::Close);
    assert_eq!(connection.head().request_line(), b"GET /");
}

#[test]
fn who_is_refused_for_want_of_room_may_come_again() {
    let mut out = Vec::new();
    assert!(after(GET).refuse(503, "busy", &STAMP, &mut out));
    assert!(String::from_utf8(out).unwrap().contains("\r\nRetry-After: 1\r\n"));
}

#[test]
fn refuse_works_until_a_head_was_sent() {
    let mut out = Vec::new();
    assert!(Connection::new(Arc::default()).refuse(408, "late", &STAMP, &mut out));
    let mut connection = after(POST);
    connection.send_continue(&mut out);
    assert!(connection.refuse(413, "big", &STAMP, &mut out));
    let len = out.len();
    assert!(!connection.refuse(413, "big", &STAMP, &mut out));
    assert_eq!(out.len(), len);
    let mut connection = after(GET);
    let mut out = Vec::new();
    connection.send_head(&response("200 OK", &[]), Size::Unknown, &STAMP, &mut out).unwrap();
    let len = out.len();
    assert!(!connection.refuse(500, "late", &STAMP, &mut out));
    assert_eq!(out.len(), len);
}

#[test]
fn refuse_has_no_body_for_head() {
    for request in [HEAD, "HEAD / HTTP/1.1\r\nbad\r\n"] {
        let mut connection = Connection::new(Arc::default());
        drop(connection.receive(request.as_bytes()));
        let mut out = Vec::new();
        assert!(connection.refuse(503, "busy", &STAMP, &mut out));
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("\r\nContent-Length: 5\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        assert_eq!(connection.sent_body(), 0);
    }
}

#[test]
fn an_idle_connection_has_forgotten_the_request_before() {
    let mut connection = after(HEAD);
    answer(&mut connection);
    connection.next_cycle().unwrap();
    let mut out = Vec::new();
    assert!(connection.refuse(408, "late", &STAMP, &mut out));
    assert!(out.ends_with(b"\r\n\r\nlate\n"));
}

#[test]
fn a_late_request_after_a_refusal_changes_nothing() {
    let mut connection = Connection::new(Arc::default());
    assert!(connection.refuse(408, "late", &STAMP, &mut Vec::new()));
    assert_eq!(receive(&mut connection, GET), GET.len());
    connection.check_invariants();
    assert_eq!((connection.keep(), connection.status()), (Keep::Close, 408));
    let late =
        connection.send_head(&response("200 OK", &[]), Size::Unknown, &STAMP, &mut Vec::new());
    assert_eq!(late.unwrap_err().kind(), Kind::OutOfOrder);
}

#[test]
fn calls_out_of_order_are_refused() {
    let out_of_order = |result: Result<(), Error>| {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.blame()), (Kind::OutOfOrder, Blame::App));
    };
    let out = &mut Vec::new();
    let ok = response("200 OK", &[]);
    let mut connection = Connection::new(Arc::default());
    out_of_order(connection.send_head(&ok, Size::Unknown, &STAMP, out));
    out_of_order(connection.send_data(1, out).map(drop));
    out_of_order(connection.send_end(out));
    out_of_order(connection.next_cycle());
    receive(&mut connection, GET);
    out_of_order(connection.send_data(1, out).map(drop));
    out_of_order(connection.send_head(&Response::new(), Size::Unknown, &STAMP, out));
    connection.send_head(&ok, Size::Unknown, &STAMP, out).unwrap();
    out_of_order(connection.send_head(&ok, Size::Unknown, &STAMP, out));
    out_of_order(connection.next_cycle());
    connection.send_end(out).unwrap();
    out_of_order(connection.send_data(1, out).map(drop));
    out_of_order(connection.send_end(out));
    connection.next_cycle().unwrap();
    out_of_order(connection.next_cycle());
}

#[test]
fn a_pipelined_request_waits_for_the_next_cycle() {
    let mut connection = Connection::new(Arc::default());
    let two = GET.repeat(2);
    assert_eq!(receive(&mut connection, &two), GET.len());
    assert_eq!(connection.receive(GET.as_bytes()), Ok((0, Event::Incomplete)));
    answer(&mut connection);
    assert_eq!(connection.receive(GET.as_bytes()), Ok((0, Event::Incomplete)));
    connection.next_cycle().unwrap();
    assert_eq!((connection.status(), connection.started()), (0, false));
    assert_eq!(receive(&mut connection, &two[GET.len()..]), GET.len());
}

#[test]
fn started_tells_a_half_sent_head_from_an_idle_connection() {
    let mut connection = Connection::new(Arc::default());
    for (bytes, started) in [("", false), ("\r", true), ("\n", false), ("G", true), ("ET /", true)]
    {
        receive(&mut connection, bytes);
        assert_eq!(connection.started(), started, "{bytes:?}");
    }
    assert_eq!(connection.head().request_line(), b"GET /");
    assert_eq!(connection.take_head().request_line(), b"");
    assert_eq!(receive(&mut connection, " HTTP/1.0\r\n\r\n"), 13);
    assert_eq!(connection.head().target(), b"/");
}

#[test]
fn a_head_goes_out_and_comes_back_with_its_buffers() {
    let mut connection = after(GET);
    let head = connection.take_head();
    let buffer = head.request_line().as_ptr();
    answer(&mut connection);
    connection.restore_head(head);
    assert_eq!(connection.head().target(), b"/");
    connection.next_cycle().unwrap();
    assert_eq!((connection.started(), connection.head().request_line()), (false, &b""[..]));
    receive(&mut connection, GET);
    assert_eq!(connection.head().request_line().as_ptr(), buffer);
}

#[test]
fn a_head_that_comes_back_late_harms_nothing() {
    let mut connection = after(GET);
    let head = connection.take_head();
    answer(&mut connection);
    connection.next_cycle().unwrap();
    connection.restore_head(head);
    connection.check_invariants();
    receive(&mut connection, "GET /2 HT");
    connection.restore_head(after(HEAD).take_head());
    receive(&mut connection, "TP/1.0\r\n\r\n");
    assert_eq!(connection.head().target(), b"/2");
}

#[test]
fn no_more_is_buffered_than_the_limits_allow() {
    let mut connection = Connection::new(Arc::default());
    let error = connection.receive(&[b'a'; 100_000]).unwrap_err();
    assert_eq!(error.status(), 414);
    assert_eq!(connection.head().request_line().len(), 4096);
}

#[test]
fn a_giant_head_does_not_stay() {
    let limits = Limits { field_size: 0, ..Limits::default() };
    let mut connection = Connection::new(Arc::new(limits));
    let giant = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(60_000));
    receive(&mut connection, &giant);
    answer(&mut connection);
    connection.next_cycle().unwrap();
    assert!(connection.head().capacity() <= 16 * 1024);
}

#[test]
fn fields_are_found_by_their_name_in_whatever_case_and_length() {
    let (long, longer) = ("L".repeat(70), "l".repeat(80));
    let fields = format!("X-A: 1\r\n{long}: 2\r\nx-a: 3\r\nX-B:\r\n{longer}: 4\r\n");
    let head = after(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).take_head();
    let values = |name: &str| {
        let values = head.values(name.as_bytes());
        values.map(|value| String::from_utf8_lossy(value).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(values("X-a"), ["1", "3"]);
    assert_eq!(values("x-b"), [""]);
    assert_eq!((values(&long), values(&longer)), (vec!["2".into()], vec!["4".into()]));
    assert_eq!((values("X"), values("X-AB"), values(&"L".repeat(90))), (vec![], vec![], vec![]));
    assert_eq!(head.field(b"x-A"), Some(b"1".as_slice()));
}
