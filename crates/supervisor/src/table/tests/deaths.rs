//! Workers that die, hang or cannot be forked.

use super::*;

#[test]
fn a_dead_worker_is_replaced_at_once_and_the_culprit_named() {
    let mut script = Script::serving(2);
    script.now += 5_000;
    let worker = script.ready(1)[0];
    let actions = script.exit(worker, Ending::Signal(9)).to_vec();
    assert!(actions.contains(&Action::Order { worker, generation: 1 }), "{actions:?}");
    assert!(script.logged("died: signal 9 (SIGKILL), not sent by the master"));
    script.all_ready();
    let worker = script.ready(1)[1];
    assert!(
        script.exit(worker, Ending::Code(0)).contains(&Action::Order { worker, generation: 1 })
    );
}

#[test]
fn a_death_is_told_with_age_memory_and_request() {
    let mut script = Script::serving(1);
    script.now += 90_500;
    let worker = script.ready(1)[0];
    let remains = Remains {
        out_of_memory: OutOfMemory::Yes,
        peak: 512 << 20,
        requests: 7,
        running: Some(("request=\"GET /export\"".into(), 3_000)),
    };
    let pid = script.pid_of(worker);
    script.step(Event::Exited { pid, ending: Ending::Signal(9), remains });
    assert!(script.logged(
        "worker=1 pid=102 gen=1 died: signal 9 (SIGKILL), sent by the kernel: memory ran out (the \
         cgroup's oom_kill counter rose); age=90.5s peak_rss=512MiB requests=7 \
         request=\"GET /export\" for=3s"
    ));
}

#[test]
fn a_crash_loop_backs_off() {
    let mut script = Script::serving(1);
    let worker = script.ready(1)[0];
    script.exit(worker, Ending::Signal(11));
    for delay in [500, 1000, 2000, 4000] {
        assert_eq!(script.table.deadline(), Some(script.now + delay));
        script.wait(delay - 1);
        assert_eq!(script.starting(), []);
        script.wait(1);
        let worker = script.starting()[0];
        script.fork(worker);
        script.exit(worker, Ending::Code(1));
    }
    assert!(!script.did(&Action::Exit(3)), "after a good start the server never gives up");
}

#[test]
fn a_fork_that_fails_is_tried_again_later() {
    let mut script = Script::new();
    script.mold(1, 1);
    let worker = script.starting()[0];
    script.step(Event::NotForked { worker, message: "Resource temporarily unavailable".into() });
    assert_eq!(script.orders(), 1);
    script.wait(500);
    assert_eq!(script.orders(), 2);
    script.all_ready();
    assert!(script.did(&Action::Serving));
}

#[test]
fn forks_that_fail_together_are_one_line_and_one_delay() {
    let mut script = Script::serving(1);
    for _ in 0..3 {
        script.signal(Signal::SIGTTIN);
    }
    for (round, pause) in ["0.5s", "1s", "2s"].iter().enumerate() {
        for worker in script.starting() {
            script.step(Event::NotForked { worker, message: "no memory".into() });
        }
        assert!(script.logged(&format!("was not forked: no memory; trying again in {pause}")));
        let is_error = |action: &&Action| matches!(action, Action::Log { level: Level::Error, .. });
        assert_eq!(script.done.iter().filter(is_error).count(), round + 1);
        assert_eq!(script.starting(), [], "no order before the pause is over");
        script.now = script.table.deadline().unwrap();
        script.tick();
        assert_eq!(script.starting().len(), 3);
    }
    script.all_ready();
    assert_eq!(script.ready(1).len(), 4);
}

#[test]
fn a_stuck_worker_is_aborted_then_killed_then_replaced() {
    let mut script = Script::serving(1);
    script.now += 60_000;
    let worker = script.ready(1)[0];
    let pid = script.pid_of(worker);
    assert_eq!(script.table.watched().collect::<Vec<_>>(), [(worker, 30_000)]);
    script.step(Event::Stuck { worker, silent: 30_200, request: "request=\"GET /slow\"".into() });
    assert!(
        script.logged("worker=1 pid=102 gen=1 stuck for=30.2s request=\"GET /slow\": aborting it")
    );
    assert_eq!(script.sent(pid), [Signal::SIGABRT]);
    assert_eq!(script.table.watched().count(), 0);
    assert_eq!(script.orders(), 1, "a successor is ordered at once");
    script.wait(ABORT_GRACE);
    assert_eq!(script.sent(pid), [Signal::SIGABRT, Signal::SIGKILL]);
    script.exit(worker, Ending::Signal(9));
    assert!(script.logged(
        "was killed by the master, no sign of life for 30.2s (timeout): signal 9 (SIGKILL)"
    ));
}

#[test]
fn a_suspended_master_kills_nobody_for_what_it_slept_through() {
    let mut script = Script::serving(3);
    script.signal(Signal::SIGTTOU);
    let retiring = script.ids(|worker| !worker.is_alive())[0];
    script.signal(Signal::SIGHUP);
    let mold = script.pid();
    script.step(Event::MoldForked { generation: 2, pid: mold });
    script.step(Event::Planned { generation: 2, settings: settings(2) });
    let retiring = script.pid_of(retiring);
    script.now += 3_600_000;
    script.step(Event::Overslept);
    let workers = script.ready(1);
    for worker in &workers {
        script.step(Event::Stuck { worker: *worker, silent: 3_600_000, request: String::new() });
    }
    script.wait(4_999);
    assert_eq!((script.sent(retiring), script.sent(mold)), (vec![RETIRE], vec![]));
    assert_eq!(script.ready(1), workers);
    script.wait(1);
    assert_eq!(script.sent(retiring), [RETIRE, Signal::SIGKILL]);
    assert_eq!(script.sent(mold), [Signal::SIGKILL]);
    script.step(Event::Stuck { worker: workers[0], silent: 3_605_000, request: String::new() });
    assert_eq!(script.sent(script.pid_of(workers[0])), [Signal::SIGABRT]);
}

#[test]
fn a_retiring_worker_can_be_stuck_too() {
    let mut script = Script::serving(2);
    script.signal(Signal::SIGTTOU);
    let worker = script.ids(|worker| !worker.is_alive())[0];
    assert!(script.table.watched().any(|(watched, _)| watched == worker));
    script.step(Event::Stuck { worker, silent: 30_000, request: String::new() });
    assert_eq!(script.sent(script.pid_of(worker)), [RETIRE, Signal::SIGABRT]);
}

#[test]
fn an_orphan_is_reaped_without_ado() {
    let mut script = Script::serving(1);
    let actions = script.step(Event::exited(Pid::from_raw(99_999), Ending::Code(0))).to_vec();
    assert!(matches!(actions.as_slice(), [Action::Log { level: Level::Debug, .. }]), "{actions:?}");
}
