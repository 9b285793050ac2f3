//! Requests that wait for a slot: who is refused, and who is not run at all.

use std::time::{Duration, Instant};

use serve_net::{Heirs, Options};

use crate::rig::*;

fn one_slot() -> Options {
    Options { slots: 1, ..options() }
}

/// `count` connections with half a request each, and one whose request runs.
fn waiting(rig: &mut Rig, held: &Held, count: usize) -> Vec<Client> {
    let mut clients = accepted(rig, count);
    let mut running = rig.connect();
    running.send(get("/running"));
    rig.until("one runs", |_| held.borrow().len() == 1);
    clients.push(running);
    clients
}

/// So many clients, with half a request each.
fn accepted(rig: &mut Rig, count: usize) -> Vec<Client> {
    let mut clients: Vec<_> = (0..count).map(|_| rig.connect()).collect();
    for client in &mut clients {
        client.send("GET /");
    }
    rig.until("all are there", |rig| rig.reactor().connections() == count);
    clients
}

fn rest(client: &mut Client, number: usize) {
    client.send(format!("{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
}

#[test]
fn beyond_the_limit_the_last_to_come_is_told_to_try_again() {
    let (held, act) = hold();
    let mut rig = Rig::new(Options { queue_limit: Some(2), ..one_slot() }, act);
    let mut clients = waiting(&mut rig, &held, 3);
    for (number, client) in clients.iter_mut().take(3).enumerate() {
        rest(client, number);
        rig.calm();
    }
    let answer = rig.answer(&mut clients[2]);
    assert_eq!((answer.status, answer.closes()), (503, true));
    assert!(answer.head.contains("\r\nretry-after: 1\r\n"), "{}", answer.head);
    assert_eq!(rig.reactor().counters().shed, 1);
    for client in [3, 0, 1] {
        rig.until("it runs", |_| held.borrow().len() == 1);
        let exchange = held.borrow_mut().pop_front().unwrap();
        echo(&mut rig.reactor(), exchange);
        assert_eq!(rig.answer(&mut clients[client]).status, 200);
    }
    assert_eq!(rig.reactor().counters().finished, 3);
    assert!(rig.log.requests().contains(&format!("\"GET /2 HTTP/1.1\" 503 {}", answer.body.len())));
}

/// Whoever can be served elsewhere is not refused: as many wait in the pair as
/// wait here.
#[test]
fn what_others_can_take_does_not_count() {
    let (held, act) = hold();
    let mut rig = Rig::new(Options { queue_limit: Some(3), ..one_slot() }, act);
    Pair::new().share(&rig);
    let mut clients = waiting(&mut rig, &held, 3);
    for (number, client) in clients.iter_mut().take(3).enumerate() {
        rest(client, number);
    }
    rig.until("all are put", |rig| rig.reactor().counters().handed_over == 3);
    assert_eq!(rig.reactor().counters().shed, 0);
}

#[test]
fn who_has_waited_too_long_is_told_so_while_the_application_still_runs() {
    let (held, act) = hold();
    let queue_timeout = Some(Duration::from_millis(500));
    let mut rig = Rig::new(Options { queue_timeout, queue_limit: Some(1), ..one_slot() }, act);
    let mut clients = waiting(&mut rig, &held, 2);
    rest(&mut clients[0], 0);
    let answer = rig.answer(&mut clients[0]);
    assert_eq!((answer.status, rig.reactor().counters().shed), (503, 1));
    // It has left the queue: there is room for another one.
    rest(&mut clients[1], 1);
    rig.calm();
    // The one that runs has left the queue in time, and may take longer.
    for client in [2, 1] {
        let exchange = held.borrow_mut().pop_front().unwrap();
        echo(&mut rig.reactor(), exchange);
        assert_eq!(rig.answer(&mut clients[client]).status, 200);
        rig.calm();
    }
    assert_eq!(rig.reactor().counters().shed, 1);
    rig.calm();
    assert!(held.borrow().is_empty(), "a shed request is not run");
}

#[test]
fn a_request_whose_client_has_given_up_is_not_run() {
    let (held, act) = hold();
    let patience = Duration::ZERO;
    let mut rig = Rig::new(Options { patience, ..one_slot() }, act);
    let mut clients = waiting(&mut rig, &held, 4);
    for (number, client) in clients.iter_mut().take(4).enumerate() {
        rest(client, number);
        if number == 2 {
            // This one has more to ask, so it has not given up.
            client.send(get("/more"));
            client.half_close();
        }
        rig.calm();
    }
    let running = clients.pop().unwrap();
    let mut stays = clients.pop().unwrap();
    let mut pipelines = clients.pop().unwrap();
    clients.pop().unwrap().reset();
    drop(clients);
    let exchange = held.borrow_mut().pop_front().unwrap();
    echo(&mut rig.reactor(), exchange);
    let mut seen = Vec::new();
    for client in [&mut pipelines, &mut stays] {
        rig.until("the next runs", |_| held.borrow().len() == 1);
        let exchange = held.borrow_mut().pop_front().unwrap();
        let id = exchange.id;
        seen.push(rig.reactor().head(id).unwrap().target().to_vec());
        echo(&mut rig.reactor(), exchange);
        assert_eq!(rig.answer(client).status, 200);
    }
    assert_eq!(seen, [b"/2", b"/3"]);
    assert_eq!(rig.reactor().counters().abandoned, 2);
    rig.calm();
    let gone = |line: &String| line.ends_with("HTTP/1.1\" 499 0");
    let lines = rig.log.requests().into_iter().filter(gone).count();
    assert_eq!(lines as u64, rig.reactor().counters().abandoned);
    drop(running);
}

/// A client that shuts its writing side and reads on is a client, as long as
/// nobody has had to wait.
#[test]
fn a_half_closed_client_is_answered_if_it_is_its_turn() {
    let mut rig = Rig::new(one_slot(), echo);
    let mut client = rig.connect();
    client.send(get("/"));
    client.half_close();
    assert_eq!(rig.answer(&mut client).status, 200);
}

/// Long enough that a test can see what happens before, and short enough to wait
/// for.
const TIMEOUT: Duration = Duration::from_millis(500);

fn after(begun: Instant, time: Duration) {
    while let Some(left) = time.checked_sub(begun.elapsed()) {
        std::thread::park_timeout(left.max(Duration::from_millis(1)));
    }
}

fn hurried(slots: usize) -> Options {
    Options { slots, queue_timeout: Some(TIMEOUT), ..options() }
}

/// A busy worker, with `count` clients whose requests it has put.
fn all_put(pair: &Pair, options: Options, count: usize) -> (Rig, Held, Vec<Client>) {
    let (held, act) = hold();
    let mut busy = Rig::new(options, act);
    pair.share(&busy);
    let mut clients = waiting(&mut busy, &held, count);
    put(&mut busy, &mut clients[..count]);
    (busy, held, clients)
}

fn put(busy: &mut Rig, clients: &mut [Client]) {
    for (number, client) in clients.iter_mut().enumerate() {
        rest(client, number);
    }
    let all = u64::try_from(clients.len()).unwrap();
    busy.until("all are put", |rig| rig.reactor().counters().handed_over == all);
}

#[test]
fn the_time_on_the_way_to_another_worker_counts() {
    let pair = Pair::new();
    let (_busy, _held, mut clients) = all_put(&pair, hurried(1), 1);
    // It has waited since before now.
    after(Instant::now(), TIMEOUT);
    let mut idle = Rig::new(hurried(1), echo);
    pair.share(&idle);
    let answer = idle.answer(&mut clients[0]);
    assert_eq!((answer.status, answer.closes()), (503, true));
    let counters = idle.reactor().counters();
    assert_eq!((counters.taken, counters.shed, counters.finished), (1, 1, 0));
}

/// A worker, and its client between two requests.
fn idle_client() -> (Rig, Client) {
    let mut rig = Rig::new(options(), echo);
    let mut client = rig.connect();
    client.send(get("/before"));
    assert_eq!(rig.answer(&mut client).status, 200);
    (rig, client)
}

#[test]
fn who_has_waited_too_long_in_the_pair_is_told_so_while_every_worker_is_busy() {
    let pair = Pair::new();
    let (held, act) = hold();
    let mut busy = Rig::new(hurried(1), act);
    pair.share(&busy);
    let mut clients = waiting(&mut busy, &held, 3);
    let (mut retiring, mut idle) = idle_client();
    pair.share(&retiring);
    retiring.reactor().drain(Duration::from_secs(60), Heirs::Some);
    retiring.until("it has retired", |rig| rig.reactor().is_drained());
    let begun = Instant::now();
    // A connection without a request does not hide what is behind it.
    put(&mut busy, &mut clients[..3]);
    for client in &mut clients[..3] {
        assert_eq!(busy.answer(client).status, 503);
    }
    assert!(begun.elapsed() >= TIMEOUT);
    assert_eq!(busy.reactor().counters().shed, 3);
    // Nobody else was harmed.
    let exchange = held.borrow_mut().pop_front().unwrap();
    echo(&mut busy.reactor(), exchange);
    assert_eq!(busy.answer(&mut clients[3]).status, 200);
    idle.send(get("/after"));
    busy.until("it runs", |_| held.borrow().len() == 1);
    let exchange = held.borrow_mut().pop_front().unwrap();
    echo(&mut busy.reactor(), exchange);
    assert_eq!(busy.answer(&mut idle).status, 200);
}

#[test]
fn a_request_whose_client_has_given_up_in_the_pair_is_not_run() {
    let pair = Pair::new();
    let (_busy, _held, mut clients) = all_put(&pair, one_slot(), 3);
    let (mut stays, _running) = (clients.remove(2), clients.pop());
    clients.pop().unwrap().reset();
    drop(clients);
    let mut idle = Rig::new(Options { patience: Duration::ZERO, ..one_slot() }, echo);
    pair.share(&idle);
    assert_eq!(idle.answer(&mut stays).text(), format!("GET /2 {}", digest(b"")));
    let counters = idle.reactor().counters();
    assert_eq!((counters.taken, counters.abandoned, counters.finished), (3, 2, 1));
}

#[test]
fn no_more_than_the_limit_wait_in_the_pair_and_none_there_is_forgotten() {
    let pair = Pair::new();
    let limited = || Options { queue_limit: Some(2), ..one_slot() };
    let (held, act) = hold();
    let mut busy = Rig::new(limited(), act);
    pair.share(&busy);
    let mut clients = waiting(&mut busy, &held, 5);
    for (number, client) in clients.iter_mut().take(5).enumerate() {
        rest(client, number);
    }
    // Two in the pair, two here, and one too many.
    let mut answered = Vec::new();
    busy.until("one is refused", |_| {
        clients.iter_mut().for_each(Client::step);
        answered.extend(clients.iter_mut().filter_map(Client::answer).map(|it| it.status));
        answered == [503]
    });
    let counters = busy.reactor().counters();
    assert_eq!((counters.handed_over, counters.shed), (2, 1));
    // No event will tell that there is room in the pair again.
    let due = busy.reactor().deadline().unwrap();
    assert!(due < Instant::now() + Duration::from_secs(1));
    let mut idle = Rig::new(limited(), echo);
    pair.share(&idle);
    idle.until("the idle one has answered all", |_| {
        busy.reactor().wait(Some(Duration::from_millis(2))).unwrap();
        busy.reactor().settle();
        clients.iter_mut().for_each(Client::step);
        answered.extend(clients.iter_mut().filter_map(Client::answer).map(|it| it.status));
        answered.len() == 5
    });
    assert_eq!(answered[1..], [200; 4]);
}

/// Connections in a listener's queue, of clients with a whole request.
fn queued(rig: &Rig, count: usize) -> Vec<Client> {
    let mut clients: Vec<_> = (0..count).map(|_| rig.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(get(&format!("/{number}")));
    }
    clients
}

#[test]
fn a_request_whose_client_has_given_up_before_it_was_accepted_is_not_run() {
    let patience = Duration::from_millis(100);
    let mut rig = Rig::new(Options { patience, ..one_slot() }, echo);
    let mut clients = queued(&rig, 3);
    let begun = Instant::now();
    let mut stays = clients.pop().unwrap();
    drop(clients);
    // The kernel counts in steps of up to ten milliseconds.
    after(begun, 2 * patience);
    assert_eq!(rig.answer(&mut stays).status, 200);
    let counters = rig.reactor().counters();
    assert_eq!((counters.accepted, counters.abandoned, counters.finished), (3, 2, 1));
}

#[test]
fn the_time_before_a_connection_is_accepted_counts() {
    let mut rig = Rig::new(hurried(8), echo);
    let mut late = queued(&rig, 1).remove(0);
    after(Instant::now(), 2 * TIMEOUT);
    assert_eq!(rig.answer(&mut late).status, 503);
    assert_eq!(rig.reactor().counters().shed, 1);
}

/// Who came first has sent its request last: that it has not waited says nothing of
/// the others.
#[test]
fn the_time_in_the_queue_is_known_of_each() {
    let mut rig = Rig::new(hurried(8), echo);
    let mut first = rig.connect();
    let mut others = queued(&rig, 3);
    after(Instant::now(), 2 * TIMEOUT);
    first.send(get("/first"));
    assert_eq!(rig.answer(&mut first).status, 200);
    for other in &mut others {
        assert_eq!(rig.answer(other).status, 503);
    }
    // And those that come now have not waited.
    for mut prompt in queued(&rig, 3) {
        assert_eq!(rig.answer(&mut prompt).status, 200);
    }
    assert_eq!(rig.reactor().counters().shed, 3);
}
