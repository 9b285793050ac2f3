//! One test per rule of the table, each a short script with a clock that only the script moves.

use super::*;
use crate::cgroup::OutOfMemory;
use crate::link::News;
use crate::worker::RETIRE;

/// A table, its clock, and what it asked for.
struct Script {
    table: Table,
    now: Ms,
    done: Vec<Action>,
    pids: i32,
}

const BOOT: Ms = 10_000;
const GRACEFUL: Ms = 30_000;

fn settings(workers: u16) -> Settings {
    Settings {
        workers,
        timeout: Some(25_000),
        kill_grace: 5_000,
        graceful: GRACEFUL,
        boot: BOOT,
        surge: 1,
        ..Settings::default()
    }
}

impl Script {
    /// Just started: the first mold was asked for.
    fn new() -> Self {
        let mut script =
            Self { table: Table::new(BOOT), now: 1_000_000, done: Vec::new(), pids: 100 };
        script.tick();
        assert_eq!(script.done, [Action::ForkMold { generation: 1 }]);
        script
    }

    /// The first generation serves with this many workers.
    fn serving(workers: u16) -> Self {
        let mut script = Self::new();
        script.mold(1, workers);
        script.all_ready();
        assert_eq!(script.ready(1).len(), usize::from(workers));
        script.done.clear();
        script
    }

    fn step(&mut self, event: Event) -> &[Action] {
        let start = self.done.len();
        let actions = self.table.step(self.now, event);
        self.done.extend(actions);
        &self.done[start..]
    }

    fn tick(&mut self) {
        self.step(Event::Tick);
    }

    fn wait(&mut self, span: Ms) -> &[Action] {
        self.now += span;
        self.step(Event::Tick)
    }

    fn signal(&mut self, signal: Signal) -> &[Action] {
        self.step(Event::Signal { signal, from: Some(Pid::from_raw(9)) })
    }

    fn pid(&mut self) -> Pid {
        self.pids += 1;
        Pid::from_raw(self.pids)
    }

    /// A mold comes up without a hitch.
    fn mold(&mut self, generation: u32, workers: u16) -> Pid {
        let pid = self.pid();
        self.step(Event::MoldForked { generation, pid });
        self.step(Event::Planned { generation, settings: settings(workers) });
        self.step(Event::MoldReady { generation });
        pid
    }

    fn ids(&self, what: impl Fn(&Worker) -> bool) -> Vec<WorkerId> {
        self.table.workers.values().filter(|worker| what(worker)).map(|worker| worker.id).collect()
    }

    fn ready(&self, generation: u32) -> Vec<WorkerId> {
        self.ids(|worker| worker.is_ready() && worker.generation == generation)
    }

    fn starting(&self) -> Vec<WorkerId> {
        self.ids(Worker::is_starting)
    }

    fn pid_of(&self, worker: WorkerId) -> Pid {
        self.table.workers[&worker].pid.unwrap()
    }

    fn fork(&mut self, worker: WorkerId) -> Pid {
        let pid = self.pid();
        self.step(Event::Forked { worker, pid });
        pid
    }

    fn make_ready(&mut self, worker: WorkerId) {
        if self.table.workers[&worker].pid.is_none() {
            self.fork(worker);
        }
        self.step(Event::Ready { worker });
    }

    /// Whatever boots becomes ready, and whatever retires leaves, until nothing moves.
    fn all_ready(&mut self) {
        loop {
            if let Some(worker) = self.starting().first().copied() {
                self.make_ready(worker);
            } else if let Some(worker) = self.ids(|worker| !worker.is_alive()).first().copied() {
                if self.table.workers[&worker].pid.is_none() {
                    self.fork(worker);
                }
                self.exit(worker, Ending::Code(0));
            } else {
                return;
            }
        }
    }

    fn exit(&mut self, worker: WorkerId, ending: Ending) -> &[Action] {
        let pid = self.pid_of(worker);
        self.step(Event::exited(pid, ending))
    }

    fn sent(&self, pid: Pid) -> Vec<Signal> {
        let to_pid = self.done.iter().filter_map(|action| match action {
            Action::Signal { pid: to, signal } if *to == pid => Some(*signal),
            _ => None,
        });
        to_pid.collect()
    }

    fn did(&self, action: &Action) -> bool {
        self.done.contains(action)
    }

    fn orders(&self) -> usize {
        self.done.iter().filter(|action| matches!(action, Action::Order { .. })).count()
    }

    fn logged(&self, part: &str) -> bool {
        self.done
            .iter()
            .any(|action| matches!(action, Action::Log { text, .. } if text.contains(part)))
    }
}

#[test]
fn one_canary_goes_first_and_the_rest_at_once() {
    let mut script = Script::new();
    script.mold(1, 4);
    assert_eq!(script.orders(), 1);
    let canary = script.starting()[0];
    script.make_ready(canary);
    assert_eq!(script.orders(), 4);
    let settled =
        script.done.iter().position(|action| *action == Action::Settled { generation: 1 });
    let serving = script.done.iter().position(|action| *action == Action::Serving);
    assert!(settled.unwrap() < serving.unwrap());
}

#[test]
fn a_first_start_that_fails_ends_with_its_code_when_all_is_reaped() {
    for (ending, code) in [
        (Ending::Code(3), 3),
        (Ending::Code(4), 4),
        (Ending::Code(1), 3),
        (Ending::Code(0), 3),
        (Ending::Signal(11), 3),
    ] {
        let mut script = Script::new();
        let mold = script.mold(1, 4);
        let canary = script.starting()[0];
        script.fork(canary);
        script.exit(canary, ending);
        assert_eq!(script.orders(), 1, "one broken import is one traceback");
        assert!(
            script.did(&Action::CloseMold { generation: 1 })
                && script.did(&Action::Abandoned { generation: 1 })
        );
        assert_eq!(script.sent(mold), [Signal::SIGKILL]);
        assert!(!script.did(&Action::Exit(code)));
        script.step(Event::exited(mold, Ending::Signal(9)));
        assert_eq!(script.done.last(), Some(&Action::Exit(code)));
    }
}

#[test]
fn a_first_configuration_that_is_refused_ends_with_its_code() {
    let mut script = Script::new();
    let pid = script.pid();
    script.step(Event::MoldForked { generation: 1, pid });
    let refusal = Refusal { code: 2, message: "workers = many".into() };
    script.step(Event::Refused { generation: 1, refusal });
    assert!(script.logged("gen=1 cannot start: workers = many"));
    script.step(Event::exited(pid, Ending::Code(0)));
    assert_eq!(script.done.last(), Some(&Action::Exit(2)));
}

#[test]
fn a_first_start_that_hangs_is_killed_at_the_boot_timeout() {
    // While evaluating, while loading, and with a canary that is never ready.
    for stage in 0..3 {
        let mut script = Script::new();
        let mold = script.pid();
        script.step(Event::MoldForked { generation: 1, pid: mold });
        if stage > 0 {
            script.step(Event::Planned { generation: 1, settings: settings(2) });
        }
        if stage > 1 {
            script.step(Event::MoldReady { generation: 1 });
            let canary = script.starting()[0];
            script.fork(canary);
        }
        assert_eq!(script.table.deadline(), Some(script.now + BOOT));
        script.wait(BOOT - 1);
        assert!(!script.logged("boot-timeout"));
        script.wait(1);
        assert!(script.logged("boot-timeout"), "{:?}", script.done);
        assert!(script.sent(mold).contains(&Signal::SIGKILL));
        for worker in script.ids(|_| true) {
            assert_eq!(script.sent(script.pid_of(worker)), [Signal::SIGKILL]);
            script.exit(worker, Ending::Signal(9));
        }
        script.step(Event::exited(mold, Ending::Signal(9)));
        assert_eq!(script.done.last(), Some(&Action::Exit(3)));
    }
}

#[test]
fn a_mold_that_cannot_be_forked_at_the_first_start_ends_with_1() {
    let mut script = Script::new();
    script.step(Event::MoldNotForked { generation: 1, message: "no memory".into() });
    assert_eq!(script.done.last(), Some(&Action::Exit(1)));
}

#[test]
fn a_reload_rolls_one_by_one_and_then_settles() {
    let mut script = Script::serving(3);
    let old_mold = script.table.generations[0].mold.pid().unwrap();
    assert!(script.signal(Signal::SIGHUP).contains(&Action::ForkMold { generation: 2 }));
    script.mold(2, 3);
    assert_eq!(script.orders(), 1, "the canary");
    for round in 1..=3 {
        assert_eq!(script.starting().len(), 1);
        let worker = script.starting()[0];
        script.make_ready(worker);
        assert_eq!((script.ready(2).len(), script.ready(1).len()), (round, 3 - round));
        assert_eq!(script.did(&Action::Settled { generation: 2 }), round == 3);
    }
    assert!(script.did(&Action::CloseMold { generation: 1 }));
    assert_eq!(script.orders(), 3);
    script.all_ready();
    script.step(Event::exited(old_mold, Ending::Code(0)));
    assert_eq!(script.table.generations.len(), 1);
    assert!(!script.did(&Action::Abandoned { generation: 2 }));
}

#[test]
fn a_surge_of_more_rolls_as_many_at_once() {
    let mut script = Script::serving(4);
    script.signal(Signal::SIGHUP);
    let pid = script.pid();
    script.step(Event::MoldForked { generation: 2, pid });
    let settings = Settings { surge: 3, ..settings(4) };
    script.step(Event::Planned { generation: 2, settings });
    script.step(Event::MoldReady { generation: 2 });
    assert_eq!(script.starting().len(), 1, "the canary is alone, whatever the surge");
    script.make_ready(script.starting()[0]);
    assert_eq!((script.ready(1).len(), script.starting().len()), (3, 3));
    let three = script.starting();
    for (worker, left) in three.into_iter().zip([2, 1, 0]) {
        script.make_ready(worker);
        assert_eq!(script.ready(1).len(), left, "one leaves for each that is ready");
    }
    assert!(script.did(&Action::Settled { generation: 2 }));
}

#[test]
fn a_reload_to_other_numbers_ends_with_the_new_one() {
    for (old, new) in [(1, 5), (5, 1), (2, 2)] {
        let mut script = Script::serving(old);
        script.signal(Signal::SIGHUP);
        script.mold(2, new);
        script.all_ready();
        assert_eq!((script.ready(1).len(), script.ready(2).len()), (0, usize::from(new)));
        assert!(script.did(&Action::Settled { generation: 2 }));
    }
}

#[test]
fn a_candidate_that_fails_leaves_the_old_generation_alone() {
    let mut script = Script::serving(2);
    script.signal(Signal::SIGHUP);
    script.mold(2, 2);
    let canary = script.starting()[0];
    script.fork(canary);
    script.exit(canary, Ending::Code(3));
    assert!(script.logged(
        "gen=2 abandoned: worker=3 pid=105 gen=2 died before it was ready: exit code 3; gen=1 keeps"
    ));
    assert!(script.did(&Action::Abandoned { generation: 2 }));
    assert!(script.did(&Action::Reloading));
    assert!(script.did(&Action::Steady { generation: 1, workers: 2 }));
    assert_eq!(script.ready(1).len(), 2);
    assert!(
        script.signal(Signal::SIGHUP).contains(&Action::ForkMold { generation: 3 }),
        "the next HUP works"
    );
}

#[test]
fn a_candidate_that_fails_halfway_is_rolled_back_without_a_gap() {
    let mut script = Script::serving(3);
    script.signal(Signal::SIGHUP);
    script.mold(2, 3);
    for _ in 0..2 {
        let worker = script.starting()[0];
        script.make_ready(worker);
    }
    assert_eq!((script.ready(1).len(), script.ready(2).len()), (1, 2));
    let third = script.starting()[0];
    script.fork(third);
    script.exit(third, Ending::Code(3));
    assert!(script.logged("gen=2 abandoned"));
    assert_eq!(
        (script.ready(1).len(), script.ready(2).len()),
        (1, 2),
        "nobody leaves before a successor is ready"
    );
    for left in [1, 0] {
        let worker = script.starting()[0];
        script.make_ready(worker);
        assert_eq!(script.ready(2).len(), left);
    }
    assert_eq!(script.ready(1).len(), 3);
}

#[test]
fn a_candidate_whose_worker_dies_at_once_is_abandoned_too() {
    let mut script = Script::serving(3);
    script.signal(Signal::SIGHUP);
    script.mold(2, 3);
    let canary = script.starting()[0];
    script.make_ready(canary);
    script.exit(canary, Ending::Signal(11));
    assert!(script.logged(
        "gen=2 abandoned: worker=4 pid=106 gen=2 died as soon as it was ready: signal 11 (SIGSEGV)"
    ));
    script.all_ready();
    assert_eq!(script.ready(1).len(), 3);
}

#[test]
fn a_reload_during_a_reload_is_remembered_once() {
    let mut script = Script::serving(1);
    script.signal(Signal::SIGHUP);
    script.signal(Signal::SIGHUP);
    script.signal(Signal::SIGHUP);
    assert!(!script.did(&Action::ForkMold { generation: 3 }));
    script.mold(2, 1);
    script.all_ready();
    assert!(script.did(&Action::ForkMold { generation: 3 }));
    script.mold(3, 1);
    script.all_ready();
    assert!(!script.did(&Action::ForkMold { generation: 4 }));
}

#[test]
fn a_reload_before_the_first_worker_is_remembered() {
    let mut script = Script::new();
    script.signal(Signal::SIGHUP);
    assert!(!script.did(&Action::ForkMold { generation: 2 }));
    script.mold(1, 1);
    let canary = script.starting()[0];
    script.make_ready(canary);
    assert!(script.did(&Action::ForkMold { generation: 2 }));
}

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

fn tire(script: &mut Script, worker: WorkerId) {
    script.step(Event::Tired { worker, reason: "it has served its requests".into() });
}

#[test]
fn a_tired_worker_goes_when_its_successor_is_ready() {
    let mut script = Script::serving(2);
    let worker = script.ready(1)[0];
    let pid = script.pid_of(worker);
    tire(&mut script, worker);
    tire(&mut script, worker);
    assert!(script.logged("worker=1 pid=102 gen=1 is to be replaced: it has served its requests"));
    assert_eq!((script.orders(), script.sent(pid)), (1, vec![]));
    let successor = script.starting()[0];
    script.make_ready(successor);
    assert_eq!(script.sent(pid), [RETIRE]);
    script.exit(worker, Ending::Code(0));
    script.wait(60_000);
    assert_eq!((script.orders(), script.ready(1).len()), (1, 2));
}

#[test]
fn one_worker_is_recycled_at_a_time_in_the_order_they_asked() {
    let mut script = Script::serving(3);
    let tired = [script.ready(1)[2], script.ready(1)[0], script.ready(1)[1]];
    tired.iter().for_each(|worker| tire(&mut script, *worker));
    for (done, worker) in tired.iter().enumerate() {
        assert_eq!(script.orders(), done + 1, "the next waits until the one before is gone");
        let successor = script.starting()[0];
        script.make_ready(successor);
        script.wait(1_000);
        assert_eq!(script.ids(|worker| !worker.is_alive()), [*worker]);
        assert_eq!(script.orders(), done + 1);
        script.exit(*worker, Ending::Code(0));
    }
    assert_eq!((script.orders(), script.ready(1).len()), (3, 3));
}

#[test]
fn a_successor_that_fails_costs_nothing_and_is_tried_again() {
    let mut script = Script::serving(1);
    let worker = script.ready(1)[0];
    tire(&mut script, worker);
    let successor = script.starting()[0];
    script.fork(successor);
    script.exit(successor, Ending::Code(3));
    assert_eq!(script.ready(1), [worker]);
    script.wait(500);
    assert_eq!(script.orders(), 2);
    script.all_ready();
    assert_eq!(script.ready(1).len(), 1);
    assert!(script.ready(1) != [worker] || script.table.tired.is_empty());
}

#[test]
fn a_tired_worker_that_dies_is_replaced_once() {
    let mut script = Script::serving(2);
    script.now += 60_000;
    let worker = script.ready(1)[0];
    tire(&mut script, worker);
    script.exit(worker, Ending::Signal(11));
    script.all_ready();
    assert_eq!((script.orders(), script.ready(1).len()), (1, 2));
}

#[test]
fn recycling_waits_for_a_reload_which_does_it_anyway() {
    let mut script = Script::serving(2);
    let worker = script.ready(1)[1];
    tire(&mut script, worker);
    let early = script.starting()[0];
    script.signal(Signal::SIGHUP);
    script.tick();
    assert!(!script.table.workers[&early].is_alive(), "its successor will be another one");
    script.mold(2, 2);
    script.make_ready(script.starting()[0]);
    let gone = script.ids(|worker| !worker.is_alive() && worker.id != early);
    assert_eq!(gone, [worker], "the tired one goes first");
    script.all_ready();
    assert_eq!(script.ready(2).len(), 2);
    assert!(script.table.is_at_rest());
}

#[test]
fn recycling_goes_on_after_a_reload_that_failed() {
    let mut script = Script::serving(2);
    script.signal(Signal::SIGHUP);
    let worker = script.ready(1)[0];
    tire(&mut script, worker);
    assert_eq!(script.orders(), 0);
    script.step(Event::MoldNotForked { generation: 2, message: "no memory".into() });
    assert_eq!(script.orders(), 1);
    let successor = script.starting()[0];
    script.make_ready(successor);
    assert_eq!(script.sent(script.pid_of(worker)), [RETIRE]);
}

#[test]
fn workers_age_one_after_the_other() {
    let mut script = Script::new();
    let pid = script.pid();
    script.step(Event::MoldForked { generation: 1, pid });
    let settings = Settings { max_age: Some(3_600_000), ..settings(4) };
    script.step(Event::Planned { generation: 1, settings });
    script.step(Event::MoldReady { generation: 1 });
    script.all_ready();
    let first = script.ready(1);
    let mut ages: Vec<Ms> =
        script.table.workers.values().map(|worker| worker.expires.unwrap() - script.now).collect();
    assert!(ages.iter().all(|age| (3_600_000..=3_960_000).contains(age)), "{ages:?}");
    ages.sort_unstable();
    assert!(ages.windows(2).all(|pair| pair[1] - pair[0] > 10_000), "{ages:?}");
    for replaced in 1..=4 {
        script.now = script.table.deadline().unwrap();
        script.tick();
        assert_eq!(script.starting().len(), 1);
        script.all_ready();
        assert_eq!(script.ready(1).iter().filter(|id| !first.contains(id)).count().min(1), 1);
        let aged = |action: &&Action| matches!(action, Action::Log { text, .. } if text.contains("(max-worker-age)"));
        assert_eq!(script.done.iter().filter(aged).count(), replaced);
    }
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
fn an_orphan_is_reaped_without_ado() {
    let mut script = Script::serving(1);
    let actions = script.step(Event::exited(Pid::from_raw(99_999), Ending::Code(0))).to_vec();
    assert!(matches!(actions.as_slice(), [Action::Log { level: Level::Debug, .. }]), "{actions:?}");
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

/// The news that the mold of `generation` was told.
fn news(script: &Script, generation: u32) -> Vec<News> {
    let told = script.done.iter().filter_map(|action| match action {
        Action::News { generation: to, news } if *to == generation => Some(*news),
        _ => None,
    });
    told.collect()
}

/// A generation whose mold wants to know, with so many workers.
fn curious(script: &mut Script, generation: u32, workers: u16) {
    let pid = script.pid();
    script.step(Event::MoldForked { generation, pid });
    let settings = Settings { news: true, ..settings(workers) };
    script.step(Event::Planned { generation, settings });
    script.step(Event::MoldReady { generation });
    script.all_ready();
}

#[test]
fn a_mold_that_wants_to_know_hears_of_every_change() {
    let mut script = Script::new();
    curious(&mut script, 1, 2);
    assert_eq!(news(&script, 1), [News::Workers { now: 2, before: None }, News::Serving]);
    script.done.clear();
    let worker = script.ready(1)[0];
    let pid = Some(script.pid_of(worker).as_raw());
    script.exit(worker, Ending::Signal(9));
    assert_eq!(news(&script, 1), [News::Died { worker, pid }]);
    script.done.clear();
    script.signal(Signal::SIGTTIN);
    script.signal(Signal::SIGTTOU);
    let more = News::Workers { now: 3, before: Some(2) };
    assert_eq!(news(&script, 1), [more, News::Workers { now: 2, before: Some(3) }]);
}

#[test]
fn a_mold_that_wants_to_know_outlives_the_workers() {
    let mut script = Script::new();
    curious(&mut script, 1, 1);
    let worker = script.ready(1)[0];
    let pid = Some(script.pid_of(worker).as_raw());
    script.done.clear();
    script.signal(Signal::SIGTERM);
    assert_eq!(news(&script, 1), [News::Stopping]);
    assert!(!script.did(&Action::CloseMold { generation: 1 }));
    script.exit(worker, Ending::Code(0));
    assert_eq!(news(&script, 1), [News::Stopping, News::Died { worker, pid }]);
    assert!(script.did(&Action::CloseMold { generation: 1 }));
    assert!(!script.did(&Action::Exit(0)), "it may have something to clean up");
}

#[test]
fn the_mold_that_serves_hears_of_the_old_generations_deaths() {
    let mut script = Script::new();
    curious(&mut script, 1, 1);
    script.signal(Signal::SIGHUP);
    curious(&mut script, 2, 1);
    let died = |news: &News| matches!(news, News::Died { .. });
    assert_eq!(news(&script, 2).iter().filter(|news| died(news)).count(), 1);
    assert!(!news(&script, 2).contains(&News::Serving), "it is told once in a server's life");
}
