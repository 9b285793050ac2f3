//! A drain: nobody who got in loses an answer, and it comes to an end.

use std::time::{Duration, Instant};

use serve_net::{Heirs, Options};

use crate::rig::*;

const GRACE: Duration = Duration::from_millis(150);

#[test]
fn what_is_queued_is_answered_and_what_is_idle_is_closed() {
    let (held, act) = hold();
    let mut rig = Rig::new(Options { slots: 1, ..options() }, act);
    let answer = |rig: &mut Rig, client: &mut Client| {
        rig.until("it runs", |_| held.borrow().len() == 1);
        let id = held.borrow_mut().pop_front().unwrap().id;
        ok(&mut rig.reactor(), id, b"");
        rig.answer(client)
    };
    let mut idle = rig.connect();
    idle.send(get("/"));
    assert!(!answer(&mut rig, &mut idle).closes());
    let mut running = rig.connect();
    running.send(get("/"));
    rig.until("it runs", |_| held.borrow().len() == 1);
    let mut queued: Vec<_> = (0..3).map(|_| rig.connect()).collect();
    for client in &mut queued {
        client.send(get("/"));
    }
    assert!(!rig.reactor().is_drained());
    let start = Instant::now();
    rig.reactor().drain(GRACE, Heirs::None);
    assert!(answer(&mut rig, &mut running).closes());
    assert_eq!(rig.end(&mut running), End::Closed);
    for client in &mut queued {
        assert!(answer(&mut rig, client).closes());
        assert_eq!(rig.end(client), End::Closed);
    }
    assert_eq!(rig.end(&mut idle), End::Closed);
    assert!(start.elapsed() >= GRACE);
    assert_eq!(idle.text(), "");
    drop((running, queued));
    rig.until("it is drained", |rig| rig.reactor().is_drained());
}

#[test]
fn an_idle_connection_may_bring_one_more_request() {
    let mut rig = Rig::new(options(), echo);
    let mut client = rig.connect();
    client.send(get("/"));
    assert!(!rig.answer(&mut client).closes());
    rig.reactor().drain(Duration::from_secs(60), Heirs::None);
    rig.calm();
    assert!(!rig.reactor().is_drained());
    client.send(get("/"));
    assert!(rig.answer(&mut client).closes());
    assert_eq!(rig.end(&mut client), End::Closed);
    rig.until("it is drained", |rig| rig.reactor().is_drained());
}

#[test]
fn nobody_is_accepted_after_the_queue_was_empty() {
    let mut rig = Rig::new(options(), echo);
    rig.reactor().drain(Duration::from_secs(60), Heirs::None);
    rig.turn();
    assert!(rig.reactor().is_drained());
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rig.connect())).is_err());
}

/// The server ends the connection, while the client has the next request
/// already written: closing over it would be a reset, and could take the answer
/// with it.
#[test]
fn an_answer_is_not_lost_to_a_request_that_was_written_behind_it() {
    let (held, act) = hold();
    let mut rig = Rig::new(options(), act);
    let mut client = rig.connect();
    client.send(get("/first"));
    rig.until("it runs", |_| held.borrow().len() == 1);
    rig.reactor().drain(GRACE, Heirs::None);
    client.send(get("/second"));
    let id = held.borrow_mut().pop_front().unwrap().id;
    ok(&mut rig.reactor(), id, b"first");
    assert_eq!(rig.end(&mut client), End::Closed);
    let answer = client.answer().unwrap();
    assert_eq!((answer.text(), answer.closes()), ("first", true));
    drop(client);
    rig.until("it is drained", |rig| rig.reactor().is_drained());
}

#[test]
fn a_response_that_is_being_written_is_written_to_its_end() {
    let body = noise(2_000_000);
    let mine = body.clone();
    let mut rig = Rig::over(options(), vec![narrow_tcp()], move |reactor, exchange| {
        ok(reactor, exchange.id, &mine);
    });
    let mut client = rig.connect_narrow();
    client.send(get("/"));
    rig.until("it is being answered", |rig| rig.log.requests().len() == 1);
    rig.reactor().drain(Duration::ZERO, Heirs::None);
    rig.calm();
    assert!(!rig.reactor().is_drained());
    assert!(rig.answer(&mut client).body == body);
    // It was promised before the drain that the connection would be kept.
    assert_eq!(rig.end(&mut client), End::Closed);
    rig.until("it is drained", |rig| rig.reactor().is_drained());
}
