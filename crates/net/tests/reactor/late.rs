//! An exchange that is answered while the application still runs, by another
//! thread than the application's.

use serve_http::Size;
use serve_net::{Options, Sent};

use crate::rig::*;

fn one_slot() -> Options {
    Options { slots: 1, ..options() }
}

#[test]
fn a_late_answer_reaches_the_client_at_once_and_the_slot_stays_taken() {
    let (held, act) = hold();
    let mut rig = Rig::new(one_slot(), act);
    let (mut slow, mut next) = (rig.connect(), rig.connect());
    slow.send(get("/slow"));
    rig.until("it runs", |_| held.borrow().len() == 1);
    let id = held.borrow_mut().pop_front().unwrap().id;
    assert_eq!(rig.reactor().answer_late(id, 504, "too late"), Sent::Taken);
    let answer = rig.answer(&mut slow);
    assert_eq!((answer.status, answer.closes()), (504, true));
    assert_eq!(rig.end(&mut slow), End::Closed);
    next.send(get("/next"));
    rig.calm();
    assert!(held.borrow().is_empty(), "the application still runs");

    // What the application does meanwhile reaches nobody, and hurts nobody.
    assert_eq!(rig.reactor().answer_late(id, 504, "too late"), Sent::Gone);
    assert!(rig.reactor().head(id).is_none());
    assert_eq!(rig.reactor().begin(id, &response(), Size::Unknown, b"x"), Ok(Sent::Gone));
    assert_eq!(rig.reactor().send(id, b"x"), Ok(Sent::Gone));
    rig.calm();
    assert!(held.borrow().is_empty(), "the application still runs");
    ok(&mut rig.reactor(), id, b"late");
    rig.until("the next one runs", |_| held.borrow().len() == 1);
    assert_eq!(rig.log.requests(), ["\"GET /slow HTTP/1.1\" 504 9"]);
}

/// A second end of the same exchange must not free the slot of another one.
#[test]
fn a_slot_is_released_exactly_once() {
    let (held, act) = hold();
    let mut rig = Rig::new(one_slot(), act);
    let mut clients = [rig.connect(), rig.connect(), rig.connect()];
    clients[0].send(get("/0"));
    rig.until("it runs", |_| held.borrow().len() == 1);
    let first = held.borrow_mut().pop_front().unwrap().id;
    ok(&mut rig.reactor(), first, b"");
    clients[1].send(get("/1"));
    rig.until("the second runs", |_| held.borrow().len() == 1);
    rig.reactor().finish(first).unwrap();
    rig.reactor().fail(first, 500, "again");
    clients[2].send(get("/2"));
    rig.calm();
    assert_eq!(held.borrow().len(), 1, "the third waits for the second");
    let second = held.borrow_mut().pop_front().unwrap().id;
    ok(&mut rig.reactor(), second, b"");
    rig.until("the third runs", |_| held.borrow().len() == 1);
}

#[test]
fn a_response_that_has_begun_is_cut() {
    let (held, act) = hold();
    let mut rig = Rig::new(one_slot(), act);
    let mut client = rig.connect();
    client.send(get("/"));
    rig.until("it runs", |_| held.borrow().len() == 1);
    let id = held.borrow_mut().pop_front().unwrap().id;
    assert_eq!(rig.reactor().begin(id, &response(), Size::Unknown, b"half"), Ok(Sent::Taken));
    assert_eq!(rig.reactor().answer_late(id, 504, "too late"), Sent::Taken);
    rig.end(&mut client);
    assert!(client.text().ends_with("4\\r\\nhalf\\r\\n"), "{}", client.text());
    assert_eq!(rig.reactor().send(id, b"rest"), Ok(Sent::Gone));
    rig.reactor().finish(id).unwrap();
}
