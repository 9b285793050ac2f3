//! Pieces of a stream that wait for the next ones, and answers that wait for others:
//! together, and never too long.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serve_http::Size;
use serve_net::{Exchange, Reactor, Sent};

use crate::rig::*;

/// No test takes so long, nor waits for it to be over.
const LONG: Duration = Duration::from_secs(600);

fn rig(limit: Duration, act: impl FnMut(&mut Reactor, Exchange) + 'static) -> Rig {
    let rig = Rig::new(options(), act);
    rig.reactor().defer(limit, Duration::ZERO);
    rig
}

/// A client and its request, which the application has.
fn running(limit: Duration) -> (Rig, Client, Exchange) {
    let (held, act) = hold();
    let mut rig = rig(limit, act);
    let mut client = rig.connect();
    client.send(get("/"));
    rig.until("it runs", |_| held.borrow().len() == 1);
    let exchange = held.borrow_mut().pop_front().unwrap();
    (rig, client, exchange)
}

/// Begins a stream and sends `pieces` more.
fn stream(reactor: &mut Reactor, exchange: &Exchange, pieces: usize) {
    let begun = reactor.begin(exchange.id, &response(), Size::Unknown, b"first");
    assert_eq!(begun, Ok(Sent::Taken));
    for _ in 0..pieces {
        assert_eq!(reactor.send(exchange.id, b" more"), Ok(Sent::Taken));
    }
}

#[test]
fn a_stream_is_not_held_back_before_its_second_piece() {
    let (mut rig, mut client, exchange) = running(LONG);
    stream(&mut rig.reactor(), &exchange, 3);
    client.step();
    assert!(client.input.ends_with(b"first\r\n"), "{}", client.text());
    // Whoever turns the loop while the application is away sends the rest.
    rig.reactor().settle();
    client.step();
    assert_eq!(client.text().matches(" more").count(), 3);
    rig.reactor().finish(exchange.id).unwrap();
    assert_eq!(rig.answer(&mut client).body, b"first more more more");
}

#[test]
fn what_waited_long_enough_goes_with_the_next_piece() {
    let (rig, mut client, exchange) = running(Duration::from_nanos(1));
    stream(&mut rig.reactor(), &exchange, 3);
    client.step();
    assert_eq!(client.text().matches(" more").count(), 3, "{}", client.text());
}

#[test]
fn a_thread_of_its_own_hears_when_something_is_late() {
    let (mut rig, mut client, exchange) = running(Duration::from_secs(1));
    let late = rig.reactor().defer_by_thread().unwrap();
    stream(&mut rig.reactor(), &exchange, 3);
    assert!(!rig.reactor().send_late(), "so soon");
    client.step();
    assert_eq!(client.text().matches(" more").count(), 0, "{}", client.text());
    while !late.wait(LONG).unwrap() {}
    assert!(rig.reactor().send_late());
    client.step();
    assert_eq!(client.text().matches(" more").count(), 3);
    assert!(!rig.reactor().send_late(), "nothing waits any more");
    late.wake().unwrap();
    assert!(!late.wait(LONG).unwrap(), "it was only woken");
    rig.reactor().finish(exchange.id).unwrap();
    assert_eq!(rig.answer(&mut client).body, b"first more more more");
}

#[test]
fn much_for_one_client_waits_for_nothing() {
    let (rig, mut client, exchange) = running(LONG);
    stream(&mut rig.reactor(), &exchange, 0);
    for _ in 0..20 {
        assert_eq!(rig.reactor().send(exchange.id, &noise(4000)), Ok(Sent::Taken));
    }
    client.step();
    assert!(client.input.len() > 32_000, "only {} bytes", client.input.len());
}

#[test]
fn the_end_of_a_stream_waits_for_nobody() {
    let mut rig = rig(LONG, |reactor, exchange| {
        stream(reactor, &exchange, 3);
        reactor.finish(exchange.id).unwrap();
    });
    let mut clients: Vec<_> = (0..8).map(|_| rig.connect()).collect();
    for client in &mut clients {
        client.send(get("/").repeat(2));
    }
    for client in &mut clients {
        for _ in 0..2 {
            assert_eq!(rig.answer(client).body, b"first more more more");
        }
    }
}

/// Nothing follows the last piece of a body that ends with its connection.
#[test]
fn the_log_counts_all_pieces_of_a_stream_that_is_over() {
    let mut rig = rig(LONG, |reactor, exchange| {
        stream(reactor, &exchange, 3);
        reactor.finish(exchange.id).unwrap();
    });
    let mut client = rig.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    rig.end(&mut client);
    assert!(client.input.ends_with(b"first more more more"), "{}", client.text());
    assert_eq!(rig.log.requests(), ["\"GET / HTTP/1.0\" 200 20"]);
}

#[test]
fn what_was_sent_before_the_application_failed_reaches_client_and_log() {
    let mut rig = rig(LONG, |reactor, exchange| {
        if reactor.head(exchange.id).unwrap().path() == b"/raises" {
            stream(reactor, &exchange, 3);
            return reactor.fail(exchange.id, 500, "");
        }
        // The second is ended although a byte is missing.
        let begun = reactor.begin(exchange.id, &response(), Size::Known(21), b"first");
        assert_eq!(begun, Ok(Sent::Taken));
        for _ in 0..3 {
            assert_eq!(reactor.send(exchange.id, b" more"), Ok(Sent::Taken));
        }
        assert!(reactor.finish(exchange.id).is_err());
    });
    for path in ["/raises", "/short"] {
        let mut client = rig.connect();
        client.send(get(path));
        rig.end(&mut client);
        assert_eq!(client.text().matches(" more").count(), 3, "{}", client.text());
        assert_eq!(rig.log.requests(), [format!("\"GET {path} HTTP/1.1\" 200 20")]);
        rig.log.forget();
    }
}

#[test]
fn of_the_answer_to_head_no_piece_waits() {
    let (held, act) = hold();
    let mut rig = rig(LONG, act);
    let mut client = rig.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.until("it runs", |_| held.borrow().len() == 1);
    let exchange = held.borrow_mut().pop_front().unwrap();
    stream(&mut rig.reactor(), &exchange, 3);
    assert!(rig.reactor().deadline().is_none_or(|at| at > Instant::now()), "nothing is to be sent");
    rig.reactor().finish(exchange.id).unwrap();
    assert_eq!(rig.answer(&mut client).status, 200);
}

#[test]
fn a_client_that_goes_while_pieces_wait_harms_nobody() {
    let mut rig = rig(LONG, |reactor, exchange| {
        let mut sent = reactor.begin(exchange.id, &response(), Size::Unknown, b"first");
        for _ in 0..300 {
            sent = sent.and_then(|_| reactor.send(exchange.id, b" more"));
        }
        assert!(matches!(sent, Ok(Sent::Taken | Sent::Gone)), "{sent:?}");
        reactor.finish(exchange.id).unwrap();
    });
    let mut clients: Vec<_> = (0..8).map(|_| rig.connect()).collect();
    for client in &mut clients {
        client.send(get("/").repeat(3));
    }
    clients.pop().unwrap().reset();
    for client in &mut clients {
        for _ in 0..3 {
            assert_eq!(rig.answer(client).body.len(), 5 + 300 * 5);
        }
    }
    clients.clear();
    rig.empty();
}

/// An application that works long enough for its answers to wait.
fn work(reactor: &mut Reactor, exchange: &Exchange) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(50) {}
    ok(reactor, exchange.id, b"done");
}

/// Requests that were quick, until the reactor relies on it.
fn calm(rig: &mut Rig) {
    let mut client = rig.connect();
    for _ in 0..40 {
        client.send(get("/calm"));
        assert_eq!(rig.answer(&mut client).body, b"done");
    }
}

/// Until there are so many connections; what they send then comes in one turn.
fn accepted(rig: &mut Rig, count: usize) {
    rig.until("they are accepted", |rig| rig.reactor().connections() == count);
}

#[test]
fn the_answers_of_a_turn_are_sent_together() {
    let first = Rc::new(RefCell::new(None::<Client>));
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (watched, noted) = (first.clone(), seen.clone());
    let mut rig = Rig::new(options(), move |reactor, exchange| {
        work(reactor, &exchange);
        if let Some(client) = &mut *watched.borrow_mut() {
            client.step();
            noted.borrow_mut().push(client.input.len());
        }
    });
    rig.reactor().defer(LONG, LONG);
    calm(&mut rig);
    *first.borrow_mut() = Some(rig.connect());
    let mut others: Vec<_> = (0..3).map(|_| rig.connect()).collect();
    accepted(&mut rig, 4);
    first.borrow_mut().as_mut().unwrap().send(get("/"));
    others.iter_mut().for_each(|client| client.send(get("/").repeat(2)));
    rig.until("all are answered", |rig| rig.log.requests().len() == 40 + 1 + 6);
    assert_eq!(seen.borrow()[..3], [0, 0, 0], "the first waits for the others");
    let mut client = first.borrow_mut().take().unwrap();
    assert_eq!(rig.answer(&mut client).body, b"done");
    for client in &mut others {
        assert_eq!(rig.answer(client).body, b"done");
        assert_eq!(rig.answer(client).body, b"done");
    }
    assert!(rig.log.requests().iter().all(|line| line.ends_with(" 200 4")));
}

#[test]
fn an_answer_waits_for_nobody_where_it_is_not_allowed() {
    let first = Rc::new(RefCell::new(None::<Client>));
    let watched = first.clone();
    let mut rig = Rig::new(options(), move |reactor, exchange| {
        work(reactor, &exchange);
        if let Some(client) = &mut *watched.borrow_mut() {
            client.step();
            assert!(!client.input.is_empty(), "it is there at once");
        }
    });
    rig.reactor().defer(LONG, Duration::ZERO);
    calm(&mut rig);
    *first.borrow_mut() = Some(rig.connect());
    let mut others: Vec<_> = (0..3).map(|_| rig.connect()).collect();
    accepted(&mut rig, 4);
    first.borrow_mut().as_mut().unwrap().send(get("/"));
    others.iter_mut().for_each(|client| client.send(get("/")));
    rig.until("all are answered", |rig| rig.log.requests().len() == 40 + 4);
}

#[test]
fn a_client_that_goes_while_its_answer_waits_has_its_line_in_the_log() {
    let leaving = Rc::new(RefCell::new(None::<Client>));
    let gone = leaving.clone();
    let mut rig = Rig::new(options(), move |reactor, exchange| {
        work(reactor, &exchange);
        if let Some(client) = gone.borrow_mut().take() {
            client.reset();
        }
    });
    rig.reactor().defer(LONG, LONG);
    calm(&mut rig);
    let mut first = rig.connect();
    let mut others: Vec<_> = (0..3).map(|_| rig.connect()).collect();
    accepted(&mut rig, 4);
    first.send(get("/gone"));
    others.iter_mut().for_each(|client| client.send(get("/")));
    *leaving.borrow_mut() = Some(first);
    for client in &mut others {
        assert_eq!(rig.answer(client).body, b"done");
    }
    let lines = rig.log.requests();
    assert_eq!(
        lines.iter().filter(|line| line.starts_with("\"GET /gone ")).count(),
        1,
        "{lines:?}"
    );
    assert_eq!(lines.len(), 40 + 4);
    others.clear();
    rig.empty();
}
