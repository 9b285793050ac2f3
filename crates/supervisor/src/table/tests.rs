//! One test per rule of the table, each a short script with a clock that only the script moves.

mod deaths;
mod molds;
mod news;
mod recycling;
mod reloading;
mod signals;
mod starting;
mod stopping;

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
