//! TERM, INT, the drain delay, and what outlasts them.

use super::*;

#[test]
fn term_stops_gracefully_and_kills_what_stays() {
    let mut script = Script::serving(2);
    let mold = script.table.generations[0].mold.pid().unwrap();
    let workers = script.ready(1);
    let pids = [script.pid_of(workers[0]), script.pid_of(workers[1])];
    script.signal(Signal::SIGTERM);
    assert_eq!(script.sent(pids[0]), [Signal::SIGTERM]);
    assert!(script.did(&Action::CloseMold { generation: 1 }));
    script.exit(workers[0], Ending::Code(0));
    assert_eq!(script.orders(), 0, "nobody is replaced any more");
    script.step(Event::exited(mold, Ending::Code(0)));
    script.wait(GRACEFUL);
    assert_eq!(script.sent(pids[1]), [Signal::SIGTERM, Signal::SIGKILL]);
    script.exit(workers[1], Ending::Signal(9));
    assert!(script.logged("was killed by the master, not gone in time after SIGTERM"));
    assert_eq!(script.done.last(), Some(&Action::Exit(0)));
}

#[test]
fn a_mold_that_is_kept_is_there_until_the_end_unless_it_is_to_come_at_once() {
    for quickly in [false, true] {
        let mut script = Script::serving(2);
        script.table.generations[0].settings.keep_mold = true;
        let mold = script.table.generations[0].mold.pid().unwrap();
        let workers = script.ready(1);
        script.signal(Signal::SIGTERM);
        script.exit(workers[0], Ending::Code(0));
        assert!(!script.did(&Action::CloseMold { generation: 1 }));
        if quickly {
            script.signal(Signal::SIGINT);
            assert!(script.did(&Action::CloseMold { generation: 1 }));
        }
        script.exit(workers[1], Ending::Code(0));
        assert!(script.did(&Action::CloseMold { generation: 1 }));
        script.step(Event::exited(mold, Ending::Code(0)));
        assert_eq!(script.done.last(), Some(&Action::Exit(0)));
    }
}

/// One worker, and a drain delay of ten seconds that TERM has begun.
fn draining() -> (Script, WorkerId) {
    let mut script = Script::serving(1);
    script.table.generations[0].settings.drain = 10_000;
    let worker = script.ready(1)[0];
    script.signal(Signal::SIGTERM);
    assert!(script.did(&Action::Draining) && !script.did(&Action::Stopping));
    (script, worker)
}

#[test]
fn a_drain_delay_keeps_serving_and_then_stops() {
    let (mut script, worker) = draining();
    script.signal(Signal::SIGHUP);
    script.signal(Signal::SIGTTIN);
    script.wait(9_000);
    assert_eq!(script.orders(), 0, "no new generation, no other number of workers");
    script.exit(worker, Ending::Signal(11));
    script.all_ready();
    let worker = script.ready(1)[0];
    let pid = script.pid_of(worker);
    assert_eq!(script.table.deadline(), Some(script.now + 1_000));
    assert_eq!(script.sent(pid), []);
    script.wait(1_000);
    assert_eq!(script.sent(pid), [Signal::SIGTERM]);
    assert_eq!(script.done.iter().filter(|action| **action == Action::Stopping).count(), 1);
}

#[test]
fn another_signal_ends_the_drain_delay() {
    for (signal, sent) in [
        (Signal::SIGTERM, Signal::SIGTERM),
        (Signal::SIGINT, Signal::SIGQUIT),
        (Signal::SIGQUIT, Signal::SIGQUIT),
    ] {
        let (mut script, worker) = draining();
        let pid = script.pid_of(worker);
        script.signal(signal);
        assert_eq!(script.sent(pid), [sent]);
        script.signal(Signal::SIGINT);
        assert_eq!(script.done.iter().filter(|action| **action == Action::Stopping).count(), 1);
    }
}

#[test]
fn int_stops_quickly_also_during_a_graceful_stop() {
    let mut script = Script::serving(1);
    let worker = script.ready(1)[0];
    let pid = script.pid_of(worker);
    script.signal(Signal::SIGTERM);
    script.signal(Signal::SIGINT);
    assert_eq!(script.sent(pid), [Signal::SIGTERM, Signal::SIGQUIT]);
    script.wait(QUICK_GRACE - 1);
    assert_eq!(script.sent(pid), [Signal::SIGTERM, Signal::SIGQUIT]);
    script.wait(1);
    assert_eq!(script.sent(pid), [Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGKILL]);
}

#[test]
fn who_asks_for_a_quick_stop_once_more_does_not_want_to_wait() {
    let mut script = Script::serving(1);
    let mold = script.table.generations[0].mold.pid().unwrap();
    let worker = script.ready(1)[0];
    let pid = script.pid_of(worker);
    script.signal(Signal::SIGINT);
    script.signal(Signal::SIGINT);
    assert!(script.logged("SIGINT from pid=9: once more, whatever does not end is killed"));
    script.wait(ONCE_MORE - 1);
    assert!(!script.sent(pid).contains(&Signal::SIGKILL), "it may be the same INT");
    script.wait(1);
    assert!(script.sent(pid).contains(&Signal::SIGKILL));
    assert!(script.sent(mold).contains(&Signal::SIGKILL));
}

#[test]
fn a_quick_stop_that_takes_long_ends_as_soon_as_it_is_asked_for_once_more() {
    let mut script = Script::serving(1);
    let worker = script.ready(1)[0];
    let pid = script.pid_of(worker);
    script.signal(Signal::SIGINT);
    script.wait(ONCE_MORE);
    assert!(!script.sent(pid).contains(&Signal::SIGKILL));
    script.signal(Signal::SIGQUIT);
    assert!(script.sent(pid).contains(&Signal::SIGKILL));
}

#[test]
fn who_is_starting_is_not_waited_for_like_one_with_requests() {
    let mut script = Script::new();
    script.mold(1, 1);
    let canary = script.starting()[0];
    let pid = script.fork(canary);
    script.signal(Signal::SIGTERM);
    script.wait(QUICK_GRACE - 1);
    assert_eq!(script.sent(pid), [Signal::SIGTERM]);
    script.wait(1);
    assert_eq!(script.sent(pid), [Signal::SIGTERM, Signal::SIGKILL]);
}

#[test]
fn who_was_ready_just_before_it_was_told_to_end_has_the_whole_time() {
    for (signal, grace) in [(Signal::SIGTERM, GRACEFUL), (Signal::SIGINT, QUICK_GRACE)] {
        let mut script = Script::new();
        script.mold(1, 1);
        let canary = script.starting()[0];
        let pid = script.fork(canary);
        script.signal(signal);
        script.step(Event::Ready { worker: canary });
        script.wait(grace - 1);
        assert!(!script.sent(pid).contains(&Signal::SIGKILL));
        script.wait(1);
        assert!(script.sent(pid).contains(&Signal::SIGKILL));
    }
}

#[test]
fn term_reaches_a_worker_that_has_no_pid_yet() {
    let mut script = Script::new();
    let mold = script.mold(1, 2);
    let canary = script.starting()[0];
    script.signal(Signal::SIGTERM);
    script.step(Event::exited(mold, Ending::Code(0)));
    assert!(!script.did(&Action::Exit(0)), "the order is not answered yet");
    let pid = script.fork(canary);
    assert_eq!(script.sent(pid), [Signal::SIGTERM]);
    script.exit(canary, Ending::Signal(15));
    assert_eq!(script.done.last(), Some(&Action::Exit(0)));
}

#[test]
fn term_ends_a_mold_that_is_still_busy() {
    let mut script = Script::new();
    script.signal(Signal::SIGTERM);
    let pid = script.pid();
    script.step(Event::MoldForked { generation: 1, pid });
    assert_eq!(script.sent(pid), [Signal::SIGKILL]);
    script.step(Event::exited(pid, Ending::Signal(9)));
    assert_eq!(script.done.last(), Some(&Action::Exit(0)));
}

#[test]
fn term_does_not_wait_for_an_import() {
    let mut script = Script::new();
    let pid = script.pid();
    script.step(Event::MoldForked { generation: 1, pid });
    script.step(Event::Planned { generation: 1, settings: settings(1) });
    script.signal(Signal::SIGTERM);
    assert_eq!(script.sent(pid), [Signal::SIGKILL]);
}

#[test]
fn a_worker_s_grace_is_not_prolonged() {
    let mut script = Script::serving(2);
    script.signal(Signal::SIGTTOU);
    let worker = script.ids(|worker| !worker.is_alive())[0];
    let pid = script.pid_of(worker);
    script.wait(GRACEFUL - 1);
    script.signal(Signal::SIGTERM);
    assert_eq!(script.sent(pid), [RETIRE, Signal::SIGTERM]);
    script.wait(1);
    assert_eq!(script.sent(pid).last(), Some(&Signal::SIGKILL));
}
