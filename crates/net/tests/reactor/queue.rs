//! Requests that wait for a slot: who is refused, and who is not run at all.

use std::time::Duration;

use serve_net::{Options, hand_off};

use crate::rig::*;

fn one_slot() -> Options {
    Options { slots: 1, ..options() }
}

/// `count` connections with half a request each, and one whose request runs.
fn waiting(rig: &mut Rig, held: &Held, count: usize) -> Vec<Client> {
    let mut clients: Vec<_> = (0..count).map(|_| rig.connect()).collect();
    for client in &mut clients {
        client.send("GET /");
    }
    rig.until("all are there", |rig| rig.reactor().connections() == count);
    let mut running = rig.connect();
    running.send(get("/running"));
    rig.until("one runs", |_| held.borrow().len() == 1);
    clients.push(running);
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

/// Whoever can be served elsewhere is not refused.
#[test]
fn what_others_can_take_does_not_count() {
    let (held, act) = hold();
    let mut rig = Rig::new(Options { queue_limit: Some(0), ..one_slot() }, act);
    let (put, take) = hand_off().unwrap();
    rig.reactor().share(put, take).unwrap();
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
