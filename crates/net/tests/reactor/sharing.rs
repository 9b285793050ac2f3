//! Several reactors that share connections, as the workers of a server do.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use serve_net::{Address, Company, Heirs, Listener, Options};

use crate::rig::*;

const GRACE: Duration = Duration::from_millis(300);

fn one_slot() -> Options {
    Options { slots: 1, ..options() }
}

/// A worker whose application holds what it gets, and one that echoes.
fn busy_and_idle() -> (Rig, Held, Rig) {
    let pair = Pair::new();
    let (held, act) = hold();
    let busy = Rig::new(one_slot(), act);
    let idle = Rig::new(one_slot(), echo);
    pair.share(&busy);
    pair.share(&idle);
    (busy, held, idle)
}

/// A kept-alive connection of `busy`, which then becomes busy by another one.
fn kept_by_busy(busy: &mut Rig, held: &Held) -> (Client, Client) {
    let (mut kept, mut running) = (busy.connect(), busy.connect());
    kept.send(get("/first"));
    busy.until("it runs", |_| held.borrow().len() == 1);
    let id = held.borrow_mut().pop_front().unwrap().id;
    ok(&mut busy.reactor(), id, b"");
    assert_eq!(busy.answer(&mut kept).status, 200);
    running.send(get("/running"));
    busy.until("the other runs", |_| held.borrow().len() == 1);
    (kept, running)
}

/// What the thread does that moves bytes while the application runs.
fn relay(rig: &Rig) {
    rig.reactor().wait(Some(Duration::from_millis(2))).unwrap();
    rig.reactor().settle();
}

/// The answer of `idle` to a request that `busy` gets.
fn answered_elsewhere(busy: &Rig, idle: &mut Rig, client: &mut Client) -> Answer {
    let mut answer = None;
    idle.until("the idle one answers", |_| {
        relay(busy);
        client.step();
        answer = client.answer();
        answer.is_some()
    });
    answer.unwrap()
}

#[test]
fn a_request_that_would_wait_is_answered_by_an_idle_worker() {
    let (mut busy, held, mut idle) = busy_and_idle();
    let (mut kept, mut running) = kept_by_busy(&mut busy, &held);
    kept.send(get("/moved"));
    let answer = answered_elsewhere(&busy, &mut idle, &mut kept);
    assert_eq!(answer.text(), format!("GET /moved {}", digest(b"")));
    assert!(!answer.closes());
    // It is the idle one's from now on.
    kept.send(get("/again"));
    assert_eq!(idle.answer(&mut kept).text(), format!("GET /again {}", digest(b"")));
    assert_eq!((busy.reactor().connections(), idle.reactor().connections()), (1, 1));
    assert_eq!(busy.reactor().counters().handed_over, 1);
    assert_eq!(idle.reactor().counters().taken, 1);
    let id = held.borrow_mut().pop_front().unwrap().id;
    ok(&mut busy.reactor(), id, b"");
    assert_eq!(busy.answer(&mut running).status, 200);
    // The taker logs; the one that put does not.
    busy.turn();
    idle.turn();
    assert_eq!(idle.log.requests().len(), 2);
    assert_eq!(busy.log.requests().len(), 2);
}

#[test]
fn a_body_moves_and_so_do_pipelined_requests() {
    let (mut busy, held, mut idle) = busy_and_idle();
    let (mut kept, _running) = kept_by_busy(&mut busy, &held);
    let body = noise(20_000);
    let chunked = "POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: t\r\n\r\n";
    let empty = "POST /empty HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let texts = [
        format!("POST /whole {}", digest(&body)),
        format!("POST /chunks {}", digest(b"abcdefg")),
        format!("POST /empty {}", digest(b"")),
        format!("GET /last {}", digest(b"")),
    ];
    for pipelined in [true, false] {
        let requests =
            [post("/whole", &body), chunked.into(), empty.into(), get("/last").into_bytes()];
        if pipelined {
            kept.send(requests.concat());
        }
        for (request, text) in requests.iter().zip(&texts) {
            if !pipelined {
                kept = kept_again(&mut busy, &held);
                kept.send(request);
            }
            assert_eq!(answered_elsewhere(&busy, &mut idle, &mut kept).text(), text);
        }
    }
}

/// One more kept-alive connection of a worker that is busy.
fn kept_again(busy: &mut Rig, held: &Held) -> Client {
    let id = held.borrow_mut().pop_front().unwrap().id;
    ok(&mut busy.reactor(), id, b"");
    kept_by_busy(busy, held).0
}

#[test]
fn what_is_too_large_to_move_stays_and_is_answered() {
    let (mut busy, held, mut idle) = busy_and_idle();
    let (mut kept, mut running) = kept_by_busy(&mut busy, &held);
    let body = noise(40_000);
    kept.send(post("/large", &body));
    for _ in 0..5 {
        relay(&busy);
        kept.write();
    }
    idle.calm();
    assert_eq!((busy.reactor().connections(), idle.reactor().connections()), (2, 0));
    for client in [&mut running, &mut kept] {
        busy.until("it runs", |_| held.borrow().len() == 1);
        let exchange = held.borrow_mut().pop_front().unwrap();
        echo(&mut busy.reactor(), exchange);
        assert_eq!(busy.answer(client).status, 200);
    }
}

#[test]
fn a_full_pair_keeps_requests_where_they_are() {
    let pair = Pair::new();
    let (held, act) = hold();
    let mut busy = Rig::new(one_slot(), act);
    pair.share(&busy);
    let mut clients: Vec<_> = (0..30).map(|_| busy.connect()).collect();
    for client in &mut clients {
        client.send("POST /");
    }
    busy.until("all are there", |rig| rig.reactor().connections() == 30);
    let mut running = busy.connect();
    running.send(get("/running"));
    busy.until("one runs", |_| held.borrow().len() == 1);
    let body = noise(30_000);
    for client in &mut clients {
        client.send(&post("/", &body)[6..]);
    }
    for _ in 0..20 {
        relay(&busy);
    }
    let put = busy.reactor().counters().handed_over;
    assert!(put > 0 && put < 30, "{put} of 30 found room");
    // Nobody else is there: the busy one takes them itself, and answers all.
    for number in 0..31 {
        busy.until("the next runs", |_| held.borrow().len() == 1);
        let exchange = held.borrow_mut().pop_front().unwrap();
        assert_eq!(contents(&exchange.body).is_empty(), number == 0);
        echo(&mut busy.reactor(), exchange);
    }
    for client in &mut clients {
        assert_eq!(busy.answer(client).text(), format!("POST / {}", digest(&body)));
    }
}

#[test]
fn idle_connections_are_left_to_the_heirs() {
    let pair = Pair::new();
    let mut retiring = Rig::new(options(), echo);
    let mut heir = Rig::new(options(), echo);
    pair.share(&retiring);
    pair.share(&heir);
    // More than the pair has room for.
    let mut clients: Vec<_> = (0..400).map(|_| retiring.connect()).collect();
    for client in &mut clients {
        client.send(get("/before"));
    }
    for client in &mut clients {
        assert_eq!(retiring.answer(client).status, 200);
    }
    retiring.reactor().drain(Duration::from_secs(60), Heirs::Some);
    retiring.until("the heir has them", |retiring| {
        heir.turn();
        retiring.reactor().is_drained()
    });
    drop(retiring);
    for client in &mut clients {
        client.send(get("/after"));
    }
    for client in &mut clients {
        let answer = heir.answer(client);
        assert_eq!((answer.status, answer.closes()), (200, false));
    }
    assert_eq!(heir.reactor().counters().taken, 400);
}

#[test]
fn a_connection_that_becomes_idle_while_its_worker_retires_is_left_to_the_heirs() {
    let (mut busy, held, mut idle) = busy_and_idle();
    let mut client = busy.connect();
    client.send(get("/"));
    busy.until("it runs", |_| held.borrow().len() == 1);
    busy.reactor().drain(Duration::from_secs(60), Heirs::Some);
    let id = held.borrow_mut().pop_front().unwrap().id;
    ok(&mut busy.reactor(), id, b"");
    let answer = busy.answer(&mut client);
    assert!(!answer.closes());
    busy.until("it has retired", |rig| rig.reactor().is_drained());
    client.send(get("/heir"));
    assert_eq!(idle.answer(&mut client).text(), format!("GET /heir {}", digest(b"")));
}

#[test]
fn without_heirs_idle_connections_are_closed() {
    let (_busy, _held, mut idle) = busy_and_idle();
    let mut client = idle.connect();
    client.send(get("/"));
    assert_eq!(idle.answer(&mut client).status, 200);
    idle.reactor().drain(GRACE, Heirs::None);
    assert_eq!(idle.end(&mut client), End::Closed);
    assert_eq!(idle.reactor().counters().handed_over, 0);
    idle.until("it is drained", |rig| rig.reactor().is_drained());
}

/// A client that always has a next request would keep its worker for ever.
#[test]
fn a_worker_that_retires_begins_no_request_that_an_heir_can_have() {
    let pair = Pair::new();
    let mut retiring = Rig::new(options(), echo);
    let mut heir = Rig::new(options(), echo);
    pair.share(&retiring);
    pair.share(&heir);
    let mut client = retiring.connect();
    client.send(get("/"));
    assert_eq!(retiring.answer(&mut client).status, 200);
    client.send(get("/next"));
    retiring.reactor().drain(Duration::from_secs(60), Heirs::Some);
    retiring.until("it has retired", |rig| rig.reactor().is_drained());
    assert_eq!(heir.answer(&mut client).text(), format!("GET /next {}", digest(b"")));
    assert_eq!(retiring.reactor().counters().finished, 1);
}

/// The others may have left already: nobody would take it.
#[test]
fn without_heirs_a_busy_worker_keeps_what_it_has() {
    let (mut busy, held, _idle) = busy_and_idle();
    let (mut kept, _running) = kept_by_busy(&mut busy, &held);
    busy.reactor().drain(Duration::from_secs(60), Heirs::None);
    kept.send(get("/"));
    let running = held.borrow_mut().pop_front().unwrap();
    for _ in 0..20 {
        relay(&busy);
    }
    assert_eq!(busy.reactor().counters().handed_over, 0);
    echo(&mut busy.reactor(), running);
    busy.until("the other runs", |_| held.borrow().len() == 1);
}

/// It would take what it has put; but there may be heirs.
#[test]
fn a_worker_without_company_keeps_its_requests_until_it_retires() {
    let pair = Pair::new();
    let (held, act) = hold();
    let mut alone = Rig::new(one_slot(), act);
    pair.share_with(&alone, Company::None);
    let (mut kept, mut running) = kept_by_busy(&mut alone, &held);
    kept.send(get("/next"));
    for _ in 0..20 {
        relay(&alone);
    }
    assert_eq!(alone.reactor().counters().handed_over, 0);
    let mut heir = Rig::new(one_slot(), echo);
    pair.share_with(&heir, Company::None);
    alone.reactor().drain(Duration::from_secs(60), Heirs::Some);
    assert_eq!(answered_elsewhere(&alone, &mut heir, &mut kept).status, 200);
    let id = held.borrow_mut().pop_front().unwrap().id;
    ok(&mut alone.reactor(), id, b"");
    assert!(!alone.answer(&mut running).closes());
    alone.until("it has retired", |rig| rig.reactor().is_drained());
    running.send(get("/heir"));
    assert_eq!(heir.answer(&mut running).status, 200);
}

#[test]
fn without_a_pair_there_are_no_heirs() {
    let mut rig = Rig::new(options(), echo);
    let mut client = rig.connect();
    client.send(get("/"));
    assert_eq!(rig.answer(&mut client).status, 200);
    rig.reactor().drain(Duration::from_secs(60), Heirs::Some);
    client.send(get("/"));
    assert!(rig.answer(&mut client).closes());
}

/// A server that stops: what one worker has put, another one or it itself still
/// answers before it leaves.
#[test]
fn a_stop_leaves_nothing_in_the_pair() {
    let (mut busy, held, mut idle) = busy_and_idle();
    let (mut kept, _running) = kept_by_busy(&mut busy, &held);
    idle.reactor().drain(GRACE, Heirs::None);
    idle.until("one worker has left", |rig| rig.reactor().is_drained());
    drop(idle);
    kept.send(get("/late"));
    busy.until("it is put", |busy| {
        relay(busy);
        busy.reactor().counters().handed_over == 1
    });
    busy.reactor().drain(GRACE, Heirs::None);
    let id = held.borrow_mut().pop_front().unwrap().id;
    ok(&mut busy.reactor(), id, b"");
    busy.until("the request is back", |_| held.borrow().len() == 1);
    assert!(!busy.reactor().is_drained());
    let exchange = held.borrow_mut().pop_front().unwrap();
    echo(&mut busy.reactor(), exchange);
    let answer = busy.answer(&mut kept);
    assert_eq!(answer.text(), format!("GET /late {}", digest(b"")));
    assert!(answer.closes());
    busy.until("it is drained", |rig| rig.reactor().is_drained());
}

#[test]
fn a_worker_that_retires_takes_nothing_until_the_server_stops() {
    let (busy, held, mut idle) = busy_and_idle();
    let mut busy = busy;
    let (mut kept, _running) = kept_by_busy(&mut busy, &held);
    idle.reactor().drain(GRACE, Heirs::Some);
    kept.send(get("/"));
    busy.until("it is put", |busy| {
        relay(busy);
        idle.turn();
        busy.reactor().counters().handed_over == 1
    });
    idle.until("it has retired", |rig| rig.reactor().is_drained());
    assert_eq!(idle.reactor().counters().taken, 0);
    idle.reactor().drain(GRACE, Heirs::None);
    assert_eq!(idle.answer(&mut kept).status, 200);
}

/// The environ needs to know by which address a request came.
#[test]
fn a_moved_connection_keeps_its_listener_and_its_peer() {
    let pair = Pair::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let unix = || Listener::bind(&Address::Unix(path.clone()), 16, 0o600).unwrap();
    let (first, unix) = (tcp(), unix());
    let (_, unix_fd) = (first.tcp(), unix.as_fd().try_clone_to_owned().unwrap());
    let tcp_fd = first.as_fd().try_clone_to_owned().unwrap();
    let (held, act) = hold();
    let mut busy = Rig::over(one_slot(), vec![first, unix], act);
    // As after a reload that put another one before them.
    let adopted = [unix_fd, tcp_fd].map(|fd| Listener::adopted(fd).unwrap());
    let listeners = [tcp()].into_iter().chain(adopted).collect();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let mine = seen.clone();
    let mut idle = Rig::over(one_slot(), listeners, move |reactor, exchange| {
        mine.borrow_mut().push((exchange.listener, exchange.peer.to_string()));
        echo(reactor, exchange);
    });
    pair.share(&busy);
    let mut clients = [
        busy.connect(),
        Client::new(std::os::unix::net::UnixStream::connect(&path).unwrap().into()),
    ];
    for client in &mut clients {
        client.send("GET /");
    }
    busy.until("both are there", |rig| rig.reactor().connections() == 2);
    let mut running = busy.connect();
    running.send(get("/running"));
    busy.until("one runs", |_| held.borrow().len() == 1);
    for client in &mut clients {
        client.send(&get("/")[5..]);
    }
    busy.until("both are put", |busy| {
        relay(busy);
        busy.reactor().counters().handed_over == 2
    });
    pair.share(&idle);
    for client in &mut clients {
        assert_eq!(idle.answer(client).status, 200);
    }
    let port = clients[0].local_port();
    let mut seen = seen.borrow().clone();
    seen.sort();
    assert_eq!(seen, [(1, "unix".to_owned()), (2, format!("127.0.0.1:{port}"))]);
}

/// Three workers whose applications finish whenever chance wants, one that
/// retires in the middle, and forty clients: each gets exactly its answers.
#[test]
fn nothing_is_lost_among_a_thousand_requests() {
    seeded(3, case);
}

fn case(seed: u64) {
    let mut rng = Rng::new(seed);
    let pair = Pair::new();
    let listener = tcp();
    let copy = || {
        let fd = listener.as_fd().try_clone_to_owned().unwrap();
        Listener::adopted(fd).unwrap()
    };
    let mut workers: Vec<(Rig, Held)> = (0..3)
        .map(|_| {
            let (held, act) = hold();
            let rig = Rig::over(one_slot(), vec![copy()], act);
            pair.share(&rig);
            (rig, held)
        })
        .collect();
    let mut clients: Vec<(Client, usize)> = (0..40).map(|_| (workers[0].0.connect(), 0)).collect();
    let target = |index: usize, number: usize| format!("/{index}/{number}");
    for (index, (client, _)) in clients.iter_mut().enumerate() {
        client.send(&get(&target(index, 0))[..5]);
    }
    while workers.iter().map(|(rig, _)| rig.reactor().connections()).sum::<usize>() < 40 {
        let count = workers.len();
        workers[rng.below(count)].0.turn();
    }
    for (index, (client, _)) in clients.iter_mut().enumerate() {
        client.send(&get(&target(index, 0))[5..]);
    }
    let mut steps = 0_u32;
    while clients.iter().any(|(_, answered)| *answered < 25) {
        steps += 1;
        assert!(steps < 1_000_000, "stuck: {:?}", clients.iter().map(|c| c.1).collect::<Vec<_>>());
        let count = workers.len();
        let (rig, held) = &mut workers[rng.below(count)];
        let running = !held.borrow().is_empty();
        match rng.below(3) {
            0 if running => {
                let exchange = held.borrow_mut().pop_front().unwrap();
                echo(&mut rig.reactor(), exchange);
            }
            // Whoever is idle must not wait: it is for chance to say who is next.
            _ if running => {
                rig.reactor().wait(Some(Duration::ZERO)).unwrap();
                rig.reactor().settle();
            }
            _ => rig.glance(),
        }
        if steps == 500 {
            workers[0].0.reactor().drain(Duration::from_secs(60), Heirs::Some);
        }
        if workers[0].0.reactor().is_drained() {
            workers.remove(0);
        }
        for (index, (client, answered)) in clients.iter_mut().enumerate() {
            client.write();
            client.take(1000);
            assert!(client.end.is_none(), "{:?} of client {index}", client.end);
            while let Some(answer) = client.answer() {
                let want = format!("GET {} {}", target(index, *answered), digest(b""));
                assert_eq!(answer.text(), want);
                *answered += 1;
                if *answered < 25 {
                    client.send(get(&target(index, *answered)));
                }
            }
        }
    }
    assert_eq!(workers.len(), 2, "one has retired");
    let taken: u64 = workers.iter().map(|(rig, _)| rig.reactor().counters().taken).sum();
    assert!(taken > 40, "{taken} have moved");
}
