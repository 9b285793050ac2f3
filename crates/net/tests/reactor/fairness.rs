//! Nobody can keep the others waiting: not by pipelining, not by uploading, not
//! by connecting, and the loop sleeps when there is nothing to do.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serve_net::Options;

use crate::rig::*;

/// A client that always has one more request buffered, against one that has a
/// single one, a new one that connects, and a watched descriptor.
#[test]
fn endless_pipelining_starves_nobody() {
    let endless = Rc::new(RefCell::new(None::<Client>));
    let (mine, mut served) = (endless.clone(), 0);
    let mut rig = Rig::new(Options { slots: 1, ..options() }, move |reactor, exchange| {
        let more = reactor.head(exchange.id).unwrap().target() == b"/endless";
        echo(reactor, exchange);
        if more && let Some(client) = &mut *mine.borrow_mut() {
            served += 1;
            assert!(served < 5000, "nobody else had a turn");
            client.step();
            client.input.clear();
        }
    });
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    rig.reactor().watch(ours.as_fd()).unwrap();
    let mut other = rig.connect();
    other.send(get("/"));
    assert_eq!(rig.answer(&mut other).status, 200);
    let mut client = rig.connect();
    // More than one read takes, so that each read finds that there is more.
    client.send(get("/endless").repeat(40_000));
    *endless.borrow_mut() = Some(client);
    rig.turn();
    drop(theirs);
    other.send(get("/"));
    let mut new = rig.connect();
    new.send(get("/"));
    assert_eq!(rig.answer(&mut other).status, 200);
    assert_eq!(rig.answer(&mut new).status, 200);
    rig.until("the watched one is noticed", |rig| rig.reactor().take_watched());
}

/// Both have everything in the kernel when the loop looks; the large one is
/// looked at first.
#[test]
fn a_large_upload_does_not_go_before_a_small_request() {
    let order = Rc::new(RefCell::new(Vec::new()));
    let mine = order.clone();
    let listener = tcp();
    socket2::SockRef::from(&listener).set_recv_buffer_size(4_000_000).unwrap();
    let mut rig = Rig::over(options(), vec![listener], move |reactor, exchange| {
        mine.borrow_mut().push(reactor.head(exchange.id).unwrap().target().to_vec());
        echo(reactor, exchange);
    });
    let mut large = rig.connect();
    let mut small = rig.connect();
    for client in [&mut large, &mut small] {
        client.send(get("/"));
        assert_eq!(rig.answer(client).status, 200);
    }
    order.borrow_mut().clear();
    small.send(get("/small"));
    large.send(post("/large", &noise(1_500_000)));
    assert_eq!(large.unsent(), 0, "the kernel holds all of it");
    assert_eq!(rig.answer(&mut large).status, 200);
    assert_eq!(*order.borrow(), [b"/small".to_vec(), b"/large".to_vec()]);
}

#[test]
fn two_listeners_are_served_in_turn() {
    let order = Rc::new(RefCell::new(Vec::new()));
    let mine = order.clone();
    let mut rig = Rig::over(
        Options { slots: 1, ..options() },
        vec![tcp(), tcp()],
        move |reactor, exchange| {
            mine.borrow_mut().push(exchange.listener);
            echo(reactor, exchange);
        },
    );
    let mut clients: Vec<_> = (0..40).map(|i| rig.connect_to(usize::from(i >= 20))).collect();
    for client in &mut clients {
        client.send(get("/"));
    }
    rig.until("all are served", |_| order.borrow().len() == 40);
    let first: usize = order.borrow()[..20].iter().sum();
    assert_eq!(first, 10, "{:?}", order.borrow());
}

/// What does not fit stays in the kernel's queue, where another worker finds it.
#[test]
fn a_connection_is_accepted_only_while_a_slot_is_free() {
    let (held, act) = hold();
    let mut rig = Rig::new(Options { slots: 1, ..options() }, act);
    let mut clients = [rig.connect(), rig.connect()];
    for client in &mut clients {
        client.send(get("/"));
    }
    for client in &mut clients {
        rig.until("one runs", |_| held.borrow().len() == 1);
        rig.calm();
        assert_eq!((rig.reactor().connections(), held.borrow().len()), (1, 1));
        let id = held.borrow_mut().pop_front().unwrap().id;
        ok(&mut rig.reactor(), id, b"");
        rig.until("it is answered", |_| {
            client.step();
            client.answer().is_some()
        });
        client.half_close();
        rig.until("it has gone", |rig| {
            rig.reactor().connections() == 0 || !held.borrow().is_empty()
        });
    }
}

/// A sync driver waits for room in the middle of a call. Requests that are
/// complete cannot be run then, so they are no reason to stay awake.
#[test]
fn the_loop_sleeps_while_the_only_slot_is_taken() {
    let (held, act) = hold();
    let mut rig = Rig::new(Options { slots: 1, ..options() }, act);
    let mut clients = [rig.connect(), rig.connect()];
    for client in &mut clients {
        client.send("GET / HT");
    }
    rig.until("both are there", |rig| rig.reactor().connections() == 2);
    for client in &mut clients {
        client.send("TP/1.1\r\nHost: a\r\n\r\n");
    }
    rig.until("one runs", |_| held.borrow().len() == 1);
    rig.reactor().settle();
    let (start, wait) = (Instant::now(), Duration::from_millis(100));
    let mut waits = 0;
    while start.elapsed() < wait {
        waits += 1;
        rig.reactor().wait(Some(wait)).unwrap();
        rig.reactor().settle();
    }
    assert!(waits < 10, "{waits} waits in 100 ms");
    let id = held.borrow_mut().pop_front().unwrap().id;
    ok(&mut rig.reactor(), id, b"");
    rig.until("the other runs", |_| held.borrow().len() == 1);
}
