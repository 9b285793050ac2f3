//! Responses on their way out: whole, in order, at the client's pace, and
//! without the application waiting longer than it must.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;

use serve_http::Size;
use serve_net::{Exchange, ExchangeId, Options, Reactor, Sent};
use socket2::SockRef;

use crate::rig::*;

#[test]
fn a_response_beyond_the_socket_buffer_arrives_whole_at_a_slow_reader() {
    let body = noise(3_000_000);
    let mine = body.clone();
    let mut rig = Rig::over(options(), vec![narrow_tcp()], move |reactor, exchange| {
        ok(reactor, exchange.id, &mine)
    });
    let mut client = rig.connect_narrow();
    for _ in 0..2 {
        client.send(get("/"));
        let mut answer = None;
        rig.until("everything is read", |_| {
            client.take(10_000);
            answer = client.answer();
            answer.is_some()
        });
        assert!(answer.unwrap().body == body);
    }
    assert_eq!(rig.log.requests(), ["\"GET / HTTP/1.1\" 200 3000000"; 2]);
}

#[test]
fn a_producer_is_told_to_wait_and_when_to_go_on() {
    let (held, act) = hold();
    let options = Options { high_water: 100_000, ..options() };
    let mut rig = Rig::over(options, vec![narrow_tcp()], act);
    let mut client = rig.connect_narrow();
    client.send(get("/"));
    rig.until("it runs", |_| held.borrow().len() == 1);
    let id = held.borrow()[0].id;
    let piece = noise(40_000);
    assert_eq!(rig.reactor().begin(id, &response(), Size::Unknown, &piece), Ok(Sent::Taken));
    let mut sent = 1;
    while rig.reactor().send(id, &piece) == Ok(Sent::Taken) {
        sent += 1;
        assert!(sent < 10_000, "there is no end to what is taken");
    }
    // The piece that filled it was taken as well.
    sent += 1;
    rig.turn();
    assert_eq!(rig.reactor().room(id), Sent::Full);
    rig.until("there is room", |rig| {
        client.take(20_000);
        rig.reactor().room(id) == Sent::Taken
    });
    rig.reactor().finish(id).unwrap();
    assert_eq!(rig.reactor().room(id), Sent::Gone, "the exchange is over");
    assert!(rig.answer(&mut client).body == piece.repeat(sent));
}

#[test]
fn a_file_is_sent_whole_or_in_part() {
    let content = noise(2_000_000);
    let file = RefCell::new(tempfile::tempfile().unwrap());
    file.borrow_mut().write_all(&content).unwrap();
    let mut rig = Rig::over(options(), vec![narrow_tcp()], move |reactor, exchange| {
        let (id, file) = (exchange.id, file.borrow().try_clone().unwrap());
        let target = reactor.head(id).unwrap().target().to_vec();
        let (offset, len, size) = match target.as_slice() {
            b"/all" => (0, 2_000_000, Size::Known(2_000_000)),
            b"/part" => (999, 12_345, Size::Known(12_345)),
            _ => (5, 1_000_000, Size::Unknown),
        };
        assert!(reactor.begin(id, &response(), size, b"").is_ok());
        reactor.send_file(id, file, offset, len).unwrap();
        reactor.finish(id).unwrap();
    });
    let mut client = rig.connect_narrow();
    for (path, want) in [
        ("/all", &content[..]),
        ("/part", &content[999..][..12_345]),
        ("/chunked", &content[5..][..1_000_000]),
        ("/all", &content[..]),
    ] {
        client.send(get(path));
        assert!(rig.answer(&mut client).body == want, "{path}");
    }
}

/// Larger than anybody's share of a turn, and a socket that takes it all.
#[test]
fn a_large_file_is_sent_in_several_turns() {
    let content = noise(6_000_000);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    let listener = tcp();
    SockRef::from(&listener).set_send_buffer_size(4_000_000).unwrap();
    let mut rig = Rig::over(options(), vec![listener], move |reactor, exchange| {
        let (id, file) = (exchange.id, file.try_clone().unwrap());
        assert!(reactor.begin(id, &response(), Size::Known(6_000_000), b"").is_ok());
        reactor.send_file(id, file, 0, 6_000_000).unwrap();
        reactor.finish(id).unwrap();
    });
    let mut client = rig.connect();
    client.send([get("/"), get("/")].concat());
    for _ in 0..2 {
        assert!(rig.answer(&mut client).body == content);
    }
}

#[test]
fn a_file_that_is_too_short_shows_at_the_client() {
    let mut rig = Rig::new(options(), |reactor, exchange| {
        assert!(reactor.begin(exchange.id, &response(), Size::Known(10), b"").is_ok());
        reactor.send_file(exchange.id, tempfile::tempfile().unwrap(), 0, 10).unwrap();
        reactor.finish(exchange.id).unwrap();
    });
    let mut client = rig.connect();
    client.send(get("/"));
    rig.end(&mut client);
    assert!(client.answer().is_none());
    rig.empty();
    assert_eq!(rig.log.requests().len(), 1);
    // Its slot is free: the next one is served.
    let mut client = rig.connect();
    client.send(get("/"));
    rig.end(&mut client);
}

#[test]
fn a_client_that_asks_for_the_end_of_the_connection_gets_it() {
    let mut rig = Rig::new(options(), echo);
    for request in
        ["GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"]
    {
        let mut client = rig.connect();
        client.send(request);
        let answer = rig.answer(&mut client);
        assert_eq!((answer.status, answer.closes()), (200, true));
        assert_eq!(rig.end(&mut client), End::Closed);
        rig.empty();
    }
}

#[test]
fn an_old_client_can_keep_its_connection_if_it_asks() {
    let mut rig = Rig::new(options(), echo);
    let mut client = rig.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert!(rig.answer(&mut client).head.contains("connection: keep-alive"));
    }
}

/// A body whose end is the connection's end: complete, it ends in order; cut
/// short, in a reset, since nothing else could tell the client.
#[test]
fn an_old_client_sees_whether_a_body_of_unknown_length_is_complete() {
    for (complete, want) in [(true, End::Closed), (false, End::Reset)] {
        let mut rig = Rig::new(options(), move |reactor, exchange| {
            let id = exchange.id;
            assert!(reactor.begin(id, &response(), Size::Unknown, b"some").is_ok());
            match complete {
                true => reactor.finish(id).unwrap(),
                false => reactor.fail(id, 500, "broken"),
            }
        });
        let mut client = rig.connect();
        client.send("GET / HTTP/1.0\r\n\r\n");
        assert_eq!(rig.end(&mut client), want);
    }
}

#[test]
fn an_application_that_fails_is_answered_for() {
    let mut rig = Rig::new(options(), |reactor, exchange| {
        let id = exchange.id;
        match reactor.head(id).unwrap().target() {
            b"/before" => reactor.fail(id, 500, "it failed"),
            b"/within" => {
                assert!(reactor.begin(id, &response(), Size::Known(10), b"some").is_ok());
                reactor.fail(id, 500, "it failed");
            }
            b"/short" => {
                assert!(reactor.begin(id, &response(), Size::Known(10), b"some").is_ok());
                assert!(reactor.finish(id).is_err());
            }
            _ => assert!(reactor.respond(id, &serve_http::Response::new(), b"").is_err()),
        }
    });
    for (path, status) in
        [("/before", Some(500)), ("/within", None), ("/short", None), ("/none", Some(500))]
    {
        let mut client = rig.connect();
        client.send(get(path));
        assert_eq!(rig.end(&mut client), End::Closed);
        assert_eq!(client.answer().map(|answer| answer.status), status, "{path}");
        assert_eq!(client.input.is_empty(), status.is_some());
        drop(client);
        rig.empty();
    }
    assert_eq!(
        rig.log.requests(),
        [
            "\"GET /before HTTP/1.1\" 500 10",
            "\"GET /within HTTP/1.1\" 200 4",
            "\"GET /short HTTP/1.1\" 200 4",
            "\"GET /none HTTP/1.1\" 500 41",
        ]
    );
}

#[test]
fn head_and_empty_bodies_keep_the_connection_in_step() {
    let mut rig = Rig::new(options(), |reactor, exchange| {
        assert!(reactor.begin(exchange.id, &response(), Size::Unknown, b"body").is_ok());
        assert!(reactor.send(exchange.id, b"").is_ok());
        assert!(reactor.send(exchange.id, b" and more").is_ok());
        reactor.finish(exchange.id).unwrap();
    });
    let mut client = rig.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.until("there is a head", |_| {
        client.step();
        client.input.ends_with(b"\r\n\r\n")
    });
    client.input.clear();
    client.send(get("/"));
    assert_eq!(rig.answer(&mut client).text(), "body and more");
}

// ---- clients that leave

#[test]
fn a_client_that_left_before_its_answer_costs_nothing_but_the_answer() {
    let (held, act) = hold();
    let mut rig = Rig::new(Options { slots: 1, ..options() }, act);
    let mut client = rig.connect();
    client.send(get("/"));
    rig.until("it runs", |_| held.borrow().len() == 1);
    client.reset();
    rig.calm();
    let id = held.borrow_mut().pop_front().unwrap().id;
    // The kernel knows that nobody is there; the first write tells.
    let sent = rig.reactor().begin(id, &response(), Size::Unknown, b"x");
    assert_eq!(sent, Ok(Sent::Gone));
    assert_eq!(rig.reactor().send(id, b"y"), Ok(Sent::Gone));
    assert_eq!(rig.reactor().room(id), Sent::Gone);
    assert!(rig.reactor().head(id).is_none());
    rig.reactor().finish(id).unwrap();
    rig.calm();
    rig.empty();
    assert_eq!(rig.log.requests(), ["\"GET / HTTP/1.1\" 200 1"]);
    next_is_served(&mut rig, &held);
}

#[test]
fn a_client_that_leaves_while_it_is_written_to_frees_its_place() {
    let (held, act) = hold();
    let mut rig = Rig::over(Options { slots: 1, ..options() }, vec![narrow_tcp()], act);
    let mut client = rig.connect_narrow();
    client.send(get("/"));
    rig.until("it runs", |_| held.borrow().len() == 1);
    let id = held.borrow_mut().pop_front().unwrap().id;
    let sent = rig.reactor().begin(id, &response(), Size::Unknown, &noise(1_000_000));
    assert_eq!(sent, Ok(Sent::Taken));
    rig.calm();
    client.reset();
    rig.until("it is noticed", |rig| rig.reactor().room(id) == Sent::Gone);
    rig.empty();
    rig.reactor().finish(id).unwrap();
    assert_eq!(rig.log.requests(), ["\"GET / HTTP/1.1\" 200 1000000"]);
    next_is_served(&mut rig, &held);
}

#[test]
fn a_client_that_leaves_while_it_waits_for_its_turn_frees_its_place() {
    let (held, act) = hold();
    let mut rig = Rig::new(Options { slots: 1, ..options() }, act);
    let mut first = rig.connect();
    let mut second = rig.connect();
    for client in [&mut first, &mut second] {
        client.send("GET / HT");
        rig.calm();
    }
    assert_eq!(rig.reactor().connections(), 2);
    first.send("TP/1.1\r\nHost: a\r\n\r\n");
    rig.until("it runs", |_| held.borrow().len() == 1);
    second.send("TP/1.1\r\nHost: a\r\n\r\n");
    rig.calm();
    assert_eq!(held.borrow().len(), 1, "there is one slot");
    second.reset();
    let id = held.borrow_mut().pop_front().unwrap().id;
    ok(&mut rig.reactor(), id, b"");
    assert_eq!(rig.answer(&mut first).status, 200);
    rig.until("the second one's turn comes", |_| held.borrow().len() == 1);
    let id = held.borrow_mut().pop_front().unwrap().id;
    rig.reactor().fail(id, 500, "");
    drop(first);
    rig.empty();
    next_is_served(&mut rig, &held);
}

fn next_is_served(rig: &mut Rig, held: &Held) {
    let mut client = rig.connect();
    client.send(get("/next"));
    rig.until("the next one runs", |_| held.borrow().len() == 1);
    let id = held.borrow_mut().pop_front().unwrap().id;
    ok(&mut rig.reactor(), id, b"hello");
    assert_eq!(rig.answer(&mut client).text(), "hello");
}

/// An exchange may be ended long after its connection, whose place another one
/// has taken: that one must not notice.
#[test]
fn an_exchange_that_ends_late_touches_nobody_else() {
    let (held, act) = hold();
    let mut rig = Rig::new(options(), act);
    let mut client = rig.connect();
    client.send(get("/old"));
    rig.until("it runs", |_| held.borrow().len() == 1);
    let old = held.borrow_mut().pop_front().unwrap().id;
    client.reset();
    rig.calm();
    assert_eq!(rig.reactor().begin(old, &response(), Size::Unknown, b"x"), Ok(Sent::Gone));
    rig.empty();
    let mut client = rig.connect();
    client.send(get("/new"));
    rig.until("it runs", |_| held.borrow().len() == 1);
    let new = held.borrow_mut().pop_front().unwrap().id;
    assert_eq!(rig.reactor().send(old, b"wrong"), Ok(Sent::Gone));
    rig.reactor().fail(old, 500, "wrong");
    ok(&mut rig.reactor(), new, b"right");
    assert_eq!(rig.answer(&mut client).text(), "right");
}

/// The application may find out that a client has gone before the loop comes to
/// that event. By then the place is another client's.
#[test]
fn an_end_is_not_taken_for_that_of_who_came_later() {
    let streams: Rc<RefCell<Vec<ExchangeId>>> = Rc::default();
    let mine = streams.clone();
    // As many as are read before the first of them runs, and the stream.
    let options = Options { slots: 17, notice_gone: true, ..options() };
    let mut rig = Rig::new(options, move |reactor, exchange| {
        let id = exchange.id;
        if reactor.head(id).unwrap().target() == b"/stream" {
            mine.borrow_mut().push(id);
            reactor.begin(id, &response(), Size::Unknown, b"a").map(drop).unwrap();
            return;
        }
        echo(reactor, exchange);
        let gone = |id: &mut ExchangeId| reactor.send(*id, b"b") == Ok(Sent::Gone);
        for id in mine.borrow_mut().extract_if(.., gone).collect::<Vec<_>>() {
            reactor.finish(id).unwrap();
        }
    });
    let mut others: Vec<_> = (0..31).map(|_| rig.connect()).collect();
    let mut first = rig.connect();
    first.send(get("/stream"));
    rig.until("it runs", |_| streams.borrow().len() == 1);
    rig.calm();
    let mut ask = |from: usize, to: usize| {
        others[from..to].iter_mut().for_each(|client| client.send(get("/")));
    };
    ask(0, 16);
    let mut second = rig.connect();
    second.send(get("/stream"));
    ask(16, 31);
    first.reset();
    for client in &mut others {
        assert_eq!(rig.answer(client).status, 200);
    }
    let ids = streams.take();
    let ended = ids.iter().map(|id| rig.reactor().finish(*id));
    assert_eq!(ended.collect::<Vec<_>>(), [Ok(())]);
    assert_eq!(rig.answer(&mut second).text(), format!("a{}", "b".repeat(15)));
}

// ---- other threads, other descriptors, the log

#[test]
fn another_thread_ends_an_exchange_and_wakes_the_loop() {
    let (held, act) = hold();
    let mut rig = Rig::new(options(), act);
    let mut client = rig.connect();
    client.send(get("/"));
    rig.until("it runs", |_| held.borrow().len() == 1);
    rig.calm();
    let id = held.borrow()[0].id;
    let handle = rig.reactor().handle();
    let pool = std::thread::Builder::new().spawn(move || {
        handle.run(move |reactor: &mut Reactor| ok(reactor, id, b"from afar")).unwrap();
    });
    // Without a wake-up this would be a minute.
    rig.reactor().wait(Some(std::time::Duration::from_secs(60))).unwrap();
    assert!(rig.reactor().next().is_none());
    pool.unwrap().join().unwrap();
    assert_eq!(rig.answer(&mut client).text(), "from afar");
}

#[test]
fn a_watched_descriptor_wakes_the_loop_once_for_each_news() {
    let rig = Rig::new(options(), echo);
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut reactor = rig.reactor();
    reactor.watch(std::os::fd::AsFd::as_fd(&ours)).unwrap();
    for _ in 0..2 {
        assert!(!reactor.take_watched());
        theirs.write_all(b"x").unwrap();
        reactor.wait(Some(std::time::Duration::from_secs(60))).unwrap();
        assert!(reactor.next().is_none());
        assert!(reactor.take_watched());
    }
    drop(theirs);
    reactor.wait(Some(std::time::Duration::from_secs(60))).unwrap();
    assert!(reactor.next().is_none());
    assert!(reactor.take_watched(), "its end is news as well");
}

#[test]
fn the_log_has_one_line_for_each_answer_and_one_write_for_each_turn() {
    let seen = Rc::new(Cell::new(0));
    let count = seen.clone();
    let mut rig = Rig::new(options(), move |reactor: &mut Reactor, exchange: Exchange| {
        count.set(count.get() + 1);
        echo(reactor, exchange);
    });
    let mut client = rig.connect();
    client.send(get("/x").repeat(5));
    rig.until("all have run", |_| seen.get() == 5);
    assert_eq!((rig.log.requests().len(), rig.log.writes()), (5, 1));
    client.send("GET /\"\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.until("it is refused", |rig| rig.log.writes() == 2);
    let lines = rig.log.requests();
    assert!(lines[5].starts_with(r#""GET /\"\xc3\xa9 HTTP/1.1" 400 "#), "{lines:?}");
}
