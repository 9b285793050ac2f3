//! Molds that die, hang or are busy.

use super::*;

#[test]
fn a_dead_mold_is_replaced_by_a_new_generation() {
    let mut script = Script::serving(2);
    script.now += 60_000;
    let mold = script.table.generations[0].mold.pid().unwrap();
    script.step(Event::exited(mold, Ending::Signal(11)));
    assert!(script.did(&Action::ForkMold { generation: 2 }));
    assert_eq!(script.ready(1).len(), 2, "its workers serve on");
    // The replacement fails: again, with a delay.
    script.step(Event::MoldNotForked { generation: 2, message: "no memory".into() });
    assert!(!script.did(&Action::ForkMold { generation: 3 }));
    let deadline = script.table.deadline().unwrap();
    assert_eq!(deadline, script.now + 500);
    script.wait(500);
    assert!(script.did(&Action::ForkMold { generation: 3 }));
    script.mold(3, 2);
    script.all_ready();
    assert_eq!((script.ready(1).len(), script.ready(3).len()), (0, 2));
}

#[test]
fn a_mold_that_does_not_fork_is_killed() {
    let mut script = Script::serving(1);
    let mold = script.table.generations[0].mold.pid().unwrap();
    script.signal(Signal::SIGTTIN);
    script.wait(BOOT);
    assert_eq!(script.sent(mold), [Signal::SIGKILL]);
    let worker = script.ids(|worker| !worker.is_alive())[0];
    script
        .step(Event::NotForked { worker, message: "it ended before it could say its pid".into() });
    assert!(script.table.was_killed(mold));
    script.step(Event::exited(mold, Ending::Signal(9)));
    assert!(script.logged("signal 9 (SIGKILL), sent by the master: it does not fork;"));
    assert!(script.table.reload.is_some() || script.did(&Action::ForkMold { generation: 2 }));
}

#[test]
fn a_mold_that_hangs_up_but_stays_is_killed() {
    let mut script = Script::serving(1);
    let mold = script.table.generations[0].mold.pid().unwrap();
    script.step(Event::HungUp { generation: 1 });
    script.signal(Signal::SIGTTIN);
    assert_eq!(script.orders(), 0, "it takes no orders");
    script.wait(QUICK_GRACE);
    assert_eq!(script.sent(mold), [Signal::SIGKILL]);
}

#[test]
fn a_thousand_orders_do_not_flood_a_mold() {
    let mut script = Script::new();
    script.mold(1, crate::worker::MAX_WORKERS);
    let canary = script.starting()[0];
    script.make_ready(canary);
    assert_eq!(script.orders(), 1 + UNANSWERED);
    script.all_ready();
    assert_eq!(script.ready(1).len(), 500);
    script.signal(Signal::SIGHUP);
    script.mold(2, crate::worker::MAX_WORKERS);
    script.all_ready();
    assert_eq!(script.ready(2).len(), 500);
}

#[test]
fn a_mold_that_dies_during_a_reload_asks_for_no_other() {
    let mut script = Script::serving(1);
    let mold = script.table.generations[0].mold.pid().unwrap();
    script.signal(Signal::SIGHUP);
    script.step(Event::exited(mold, Ending::Signal(11)));
    script.mold(2, 1);
    script.all_ready();
    script.wait(60_000);
    assert!(script.did(&Action::Settled { generation: 2 }));
    assert!(!script.did(&Action::ForkMold { generation: 3 }));
}

#[test]
fn a_mold_is_not_blamed_for_a_worker_that_is_not_wanted_any_more() {
    let mut script = Script::serving(1);
    script.table.generations[0].settings.graceful = 0;
    let mold = script.table.generations[0].mold.pid().unwrap();
    script.signal(Signal::SIGTTIN);
    let unborn = script.starting()[0];
    script.signal(Signal::SIGTTOU);
    script.tick();
    assert_eq!(script.sent(mold), []);
    let pid = script.fork(unborn);
    assert_eq!(script.sent(pid), [RETIRE, Signal::SIGKILL]);
}
