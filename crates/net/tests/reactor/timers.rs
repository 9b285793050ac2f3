//! Every deadline of a connection: it comes, it comes to the right one, and
//! never to a client that was in time.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serve_http::{Limits, Size};
use serve_net::{Address, Listener, Options, Sent};

use crate::rig::*;

const SHORT: Duration = Duration::from_millis(150);

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// A byte now and then, until there is an answer.
fn drip(rig: &mut Rig, client: &mut Client) {
    let mut last = Instant::now();
    rig.until("it is refused", |_| {
        if last.elapsed() > SHORT / 15 {
            last = Instant::now();
            client.send("a");
        }
        client.take(1000) > 0
    });
}

#[test]
fn a_head_that_does_not_come_is_408_however_busily_it_drips() {
    let mut rig = Rig::new(Options { header_timeout: SHORT, ..options() }, echo);
    let mut client = rig.connect();
    let start = Instant::now();
    client.send("GET / HTTP/1.1\r\n");
    drip(&mut rig, &mut client);
    assert!(start.elapsed() >= SHORT);
    let answer = rig.answer(&mut client);
    assert_eq!((answer.status, answer.closes()), (408, true));
    assert_eq!(rig.log.requests(), [format!("\"GET / HTTP/1.1\" 408 {}", answer.body.len())]);
    drop(client);
    rig.empty();
}

#[test]
fn a_body_that_is_too_slow_is_408() {
    let options =
        Options { body_grace: SHORT, body_rate: 1_000_000, header_timeout: SHORT, ..options() };
    let mut rig = Rig::new(options, echo);
    let mut client = rig.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n");
    drip(&mut rig, &mut client);
    assert_eq!(rig.answer(&mut client).status, 408);
    drop(client);
    rig.empty();
}

#[test]
fn a_body_may_take_long_if_it_keeps_its_rate() {
    let options = Options { body_grace: SHORT, body_rate: 1, ..options() };
    let mut rig = Rig::new(options, echo);
    let mut client = rig.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n");
    client.send([b'a'; 60]);
    let start = Instant::now();
    rig.until("the grace is over", |_| start.elapsed() > SHORT * 3);
    client.step();
    assert_eq!((client.text(), client.end), (String::new(), None));
}

#[test]
fn a_body_that_stops_coming_is_408_however_quickly_it_came() {
    for framing in ["Content-Length: 2000000", "Transfer-Encoding: chunked"] {
        let options = Options { body_pause: SHORT, body_memory: 1000, ..options() };
        let mut rig = Rig::new(Options { body_pool: 2_000_000, ..options }, echo);
        let mut client = rig.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        let piece = [b"3fff\r\n", vec![b'a'; 0x3fff].as_slice(), b"\r\n"].concat();
        let start = Instant::now();
        while start.elapsed() < SHORT * 2 {
            client.send(&piece);
            rig.until("it is sent", |_| {
                client.write();
                client.unsent() == 0
            });
            assert_eq!((client.take(1000), client.end), (0, None), "{}", client.text());
            spin(SHORT / 20);
        }
        assert_eq!(rig.answer(&mut client).status, 408, "{framing}");
        drop(client);
        rig.empty();
    }
}

#[test]
fn an_idle_connection_is_closed_and_nothing_is_said() {
    let options = Options { keep_alive: SHORT, header_timeout: SHORT, ..options() };
    let mut rig = Rig::new(options, echo);
    let mut silent = rig.connect();
    let mut served = rig.connect();
    served.send(get("/"));
    assert_eq!(rig.answer(&mut served).status, 200);
    let start = Instant::now();
    assert_eq!(rig.end(&mut served), End::Closed);
    assert!(start.elapsed() >= SHORT / 2);
    assert_eq!(rig.end(&mut silent), End::Closed);
    assert_eq!(silent.text(), "");
    rig.empty();
    assert_eq!(rig.log.requests().len(), 1);
}

#[test]
fn without_keep_alive_every_response_is_the_last() {
    let mut rig = Rig::new(Options { keep_alive: Duration::ZERO, ..options() }, echo);
    let mut client = rig.connect();
    client.send(get("/"));
    assert!(rig.answer(&mut client).closes());
    assert_eq!(rig.end(&mut client), End::Closed);
    rig.empty();
}

#[test]
fn a_reader_that_never_reads_is_cut_and_its_place_is_free() {
    let options = Options { write_timeout: SHORT, slots: 1, ..options() };
    let body = noise(1_000_000);
    let mut rig = Rig::over(options, vec![narrow_tcp()], move |reactor, exchange| {
        ok(reactor, exchange.id, &body);
    });
    let mut client = rig.connect_narrow();
    client.send(get("/"));
    rig.until("it is served", |rig| rig.log.requests().len() == 1);
    rig.empty();
    // What the kernel holds for it goes as well: it could never be complete.
    assert_eq!(rig.end(&mut client), End::Reset);
}

/// A socket of this kind takes an answer whole or not at all, so that it is full
/// either before the answer or before what invites the body.
#[test]
fn a_reader_that_never_reads_is_cut_although_it_was_full_before_the_body_came() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let address = Address::parse(&format!("unix:{}", path.display())).unwrap();
    let listener = Listener::bind(&address, 16, 0).unwrap();
    let options = Options { write_timeout: SHORT, keep_alive: SHORT, ..options() };
    let mut rig = Rig::over(options, vec![listener], echo);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    let mut clients = [0, 1].map(|before| {
        let mut client = Client::new(UnixStream::connect(&path).unwrap().into());
        client.send(get("/").repeat(before));
        client
    });
    for text in [head, "a"].into_iter().cycle().take(1000) {
        for client in &mut clients {
            client.send(text);
        }
        rig.glance();
    }
    rig.empty();
}

#[test]
fn a_producer_learns_that_its_reader_was_cut() {
    let (held, act) = hold();
    let options = Options { write_timeout: SHORT, high_water: 1000, slots: 1, ..options() };
    let mut rig = Rig::over(options, vec![narrow_tcp()], act);
    let mut client = rig.connect_narrow();
    client.send(get("/"));
    rig.until("it runs", |_| held.borrow().len() == 1);
    let id = held.borrow()[0].id;
    let sent = rig.reactor().begin(id, &response(), Size::Unknown, &noise(1_000_000));
    assert_eq!(sent, Ok(Sent::Full));
    rig.until("it is cut", |rig| rig.reactor().room(id) == Sent::Gone);
    rig.reactor().finish(id).unwrap();
    rig.empty();
    assert_eq!(rig.log.requests(), ["\"GET / HTTP/1.1\" 200 1000000"]);
}

/// The kernel calls a socket writable only when a good part of its buffer is
/// free: a slow but steady reader may need longer for that than the timeout.
#[test]
fn a_reader_that_takes_little_but_steadily_is_not_cut() {
    let options = Options { write_timeout: SHORT * 2, ..options() };
    let body = noise(16_000_000);
    let listener = tcp();
    socket2::SockRef::from(&listener).set_send_buffer_size(2_000_000).unwrap();
    let mut rig = Rig::over(options, vec![listener], move |reactor, exchange| {
        ok(reactor, exchange.id, &body);
    });
    let mut client = rig.connect_narrow();
    client.send(get("/"));
    let start = Instant::now();
    let mut last = start;
    rig.until("it is being answered", |rig| rig.reactor().connections() == 1);
    rig.until("several timeouts are over", |rig| {
        if last.elapsed() > SHORT / 5 {
            last = Instant::now();
            client.take(16_000);
        }
        rig.reactor().connections() == 0 || start.elapsed() > SHORT * 10
    });
    assert_eq!(rig.reactor().connections(), 1, "cut after {:?}", start.elapsed());
}

/// The application runs on the loop's own thread and may take longer than any
/// timeout: whatever the client sent meanwhile was in time.
#[test]
fn a_client_is_not_blamed_for_the_time_the_loop_was_away() {
    let options = Options {
        keep_alive: SHORT,
        header_timeout: SHORT,
        body_grace: SHORT,
        body_rate: u64::MAX,
        slots: 1,
        ..options()
    };
    let mut rig = Rig::new(options, |reactor, exchange| {
        if reactor.head(exchange.id).unwrap().target() == b"/long" {
            spin(SHORT * 2);
        }
        echo(reactor, exchange);
    });
    let mut idle = rig.connect();
    idle.send(get("/"));
    assert_eq!(rig.answer(&mut idle).status, 200);
    let mut head = rig.connect();
    head.send("GET / HT");
    let mut body = rig.connect();
    body.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo");
    let mut long = rig.connect();
    long.send("GET /lo");
    rig.until("all are there", |rig| rig.reactor().connections() == 4);
    long.send("ng HTTP/1.1\r\nHost: a\r\n\r\n");
    // In one turn, so that nothing is read between: the long one runs first.
    let (mut act_idle, mut act_head, mut act_body) =
        (get("/in-time"), "TP/1.1\r\nHost: a\r\n\r\n", "dy");
    rig.until("the long one is answered", |_| {
        idle.send(std::mem::take(&mut act_idle));
        head.send(std::mem::take(&mut act_head));
        body.send(std::mem::take(&mut act_body));
        long.take(1000) > 0
    });
    for client in [&mut idle, &mut head, &mut body] {
        assert_eq!(rig.answer(client).status, 200);
    }
}

/// Deadlines count from when something happened, not from when the loop last
/// looked at the clock before a long call.
#[test]
fn a_kept_connection_has_its_whole_time_after_a_long_call() {
    let options = Options { keep_alive: SHORT * 2, slots: 1, ..options() };
    let mut rig = Rig::new(options, |reactor, exchange| {
        spin(SHORT * 3);
        echo(reactor, exchange);
    });
    let mut client = rig.connect();
    client.send(get("/"));
    assert_eq!(rig.answer(&mut client).status, 200);
    let start = Instant::now();
    assert_eq!(rig.end(&mut client), End::Closed);
    assert!(start.elapsed() > SHORT, "it was closed after {:?}", start.elapsed());
}

/// An application that streams for long on the loop's own thread: when at last
/// the client's buffer is full, its time begins.
#[test]
fn a_reader_has_its_whole_time_after_a_long_call() {
    let options = Options { write_timeout: SHORT * 2, slots: 1, ..options() };
    let body = noise(500_000);
    let mut rig = Rig::over(options, vec![narrow_tcp()], move |reactor, exchange| {
        spin(SHORT * 3);
        ok(reactor, exchange.id, &body);
    });
    let mut client = rig.connect_narrow();
    client.send(get("/"));
    rig.until("it is being answered", |rig| rig.log.requests().len() == 1);
    rig.turn();
    rig.turn();
    assert_eq!(rig.reactor().connections(), 1, "cut at once");
    assert_eq!(rig.answer(&mut client).body.len(), 500_000);
}

/// Longer than a refused client may pause: it is still writing, and will read
/// only then.
#[test]
fn a_refused_client_may_finish_a_slow_upload() {
    let limits = Limits { max_body: Some(10), ..Limits::default() };
    let mut rig = Rig::new(Options { limits, ..options() }, echo);
    let mut client = rig.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    let start = Instant::now();
    let mut last = start;
    rig.until("more than a pause has gone by", |_| {
        if last.elapsed() > SHORT {
            last = Instant::now();
            client.send("slowly");
        }
        start.elapsed() > Duration::from_millis(2500)
    });
    assert!(!client.cut_short);
    assert_eq!(rig.answer(&mut client).status, 413);
    assert_eq!(rig.end(&mut client), End::Closed);
}

#[test]
fn a_refused_client_that_says_nothing_more_is_closed_soon() {
    let mut rig = Rig::new(options(), echo);
    let mut client = rig.connect();
    client.send("BAD\r\n\r\n");
    assert_eq!(rig.answer(&mut client).status, 400);
    // It keeps its end open.
    rig.empty();
}
