//! The other signals, and a new master.

use super::*;

#[test]
fn usr2_starts_one_new_master_and_serves_on() {
    let mut script = Script::new();
    script.signal(Signal::SIGUSR2);
    assert!(script.logged("ignored, nothing serves yet") && !script.did(&Action::Upgrade));
    let mut script = Script::serving(1);
    let pid = Pid::from_raw(4_000);
    for ending in [Ending::Code(0), Ending::Code(3)] {
        script.done.clear();
        assert!(script.signal(Signal::SIGUSR2).contains(&Action::Upgrade));
        script.step(Event::Upgraded { pid });
        script.signal(Signal::SIGUSR2);
        assert!(script.logged("ignored, the new master pid=4000 is there already"));
        assert_eq!(script.done.iter().filter(|action| **action == Action::Upgrade).count(), 1);
        script.step(Event::exited(pid, ending));
        assert!(script.logged(&format!("new master pid=4000 has gone: {ending}; this one serves")));
        assert!(script.did(&Action::UpgradeOver));
    }
    assert_eq!(script.ready(1).len(), 1);
}

#[test]
fn idle_connections_are_left_to_a_new_master_that_serves() {
    let pid = Pid::from_raw(4_000);
    for (serves, farewell) in [(true, RETIRE), (false, Signal::SIGTERM)] {
        let mut script = Script::serving(2);
        let workers: Vec<Pid> = script.ready(1).into_iter().map(|it| script.pid_of(it)).collect();
        script.signal(Signal::SIGUSR2);
        script.step(Event::Upgraded { pid });
        if serves {
            script.step(Event::NewMasterServes);
            assert!(script.logged("new master pid=4000 serves"));
        }
        script.signal(Signal::SIGTERM);
        // If it dies all the same, nobody takes what was left to it.
        script.step(Event::exited(pid, Ending::Signal(9)));
        assert!(script.logged("; this one stops as well"));
        for worker in workers {
            let mut told = vec![farewell, Signal::SIGTERM];
            told.dedup();
            assert_eq!(script.sent(worker), told);
        }
    }
}

#[test]
fn a_server_that_stops_does_not_wait_for_the_new_master() {
    let mut script = Script::serving(1);
    let mold = script.table.generations[0].mold.pid().unwrap();
    script.signal(Signal::SIGUSR2);
    let pid = Pid::from_raw(4_000);
    script.step(Event::Upgraded { pid });
    script.signal(Signal::SIGTERM);
    script.all_ready();
    script.step(Event::exited(mold, Ending::Code(0)));
    assert_eq!(script.done.last(), Some(&Action::Exit(0)));
    assert_eq!(script.sent(pid), []);
}

#[test]
fn usr1_reaches_everybody() {
    let mut script = Script::serving(1);
    let worker = script.ready(1)[0];
    let pid = script.pid_of(worker);
    script.signal(Signal::SIGTTIN);
    let unborn = script.starting()[0];
    script.signal(Signal::SIGUSR1);
    assert!(script.did(&Action::ReopenLogs) && script.did(&Action::ReopenMold { generation: 1 }));
    assert_eq!(script.sent(pid), [Signal::SIGUSR1]);
    let pid = script.fork(unborn);
    assert_eq!(script.sent(pid), [Signal::SIGUSR1], "it may have inherited the old file");
}

#[test]
fn ttin_ttou_and_winch_move_the_target() {
    let mut script = Script::serving(1);
    script.signal(Signal::SIGTTIN);
    script.signal(Signal::SIGTTIN);
    script.all_ready();
    assert_eq!(script.ready(1).len(), 3);
    for left in [2, 1, 1] {
        script.signal(Signal::SIGTTOU);
        assert_eq!(script.ready(1).len(), left);
    }
    let last = script.pid_of(script.ready(1)[0]);
    script.signal(Signal::SIGWINCH);
    assert_eq!(script.sent(last), [Signal::SIGTERM], "nobody will take over from it");
    script.all_ready();
    assert_eq!(script.table.workers.len(), 0);
    assert!(!script.did(&Action::CloseMold { generation: 1 }));
    script.signal(Signal::SIGTTOU);
    assert_eq!(script.table.workers.len(), 0);
    script.signal(Signal::SIGTTIN);
    script.all_ready();
    assert_eq!(script.ready(1).len(), 1);
    script.signal(Signal::SIGWINCH);
    script.signal(Signal::SIGHUP);
    script.mold(2, 4);
    script.all_ready();
    assert_eq!(script.ready(2).len(), 4);
}

#[test]
fn a_booting_worker_is_the_first_to_go() {
    let mut script = Script::serving(2);
    script.signal(Signal::SIGTTIN);
    assert_eq!(script.starting().len(), 1);
    script.signal(Signal::SIGTTOU);
    assert_eq!((script.starting().len(), script.ready(1).len()), (0, 2));
}
