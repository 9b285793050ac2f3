//! The table against a small world with a virtual clock: random molds, workers, deaths and signals.
//!
//! Invariants, after every step: an order never makes more workers than the target and its surge;
//! the master never retires a ready worker when fewer than the target would stay; every signal is
//! for a child that exists and is not reaped; nothing is due that was not done. At the end of every
//! run TERM or INT comes, and `Exit` follows with every child reaped. `SERVE_SEED=n` replays one
//! schedule.

use std::collections::BTreeMap;

use super::*;

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How a generation's code behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Code {
    Good,
    MoldDies,
    Refused,
    MoldHangs,
    WorkersDie,
    WorkersHang,
    Flaky,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Mold(u32),
    Worker(WorkerId),
    NewMaster,
}

/// What the world will do at some moment.
#[derive(Debug)]
enum Plot {
    Event(Event),
    /// The mold reads the order.
    Fork {
        worker: WorkerId,
        generation: u32,
    },
    /// If `pid` still lives.
    Ready {
        worker: WorkerId,
        pid: Pid,
    },
    Die {
        pid: Pid,
        ending: Ending,
    },
    MoldSays {
        pid: Pid,
        event: Event,
    },
    Signal(Signal),
    /// Everything stands still for this long, the master and its children.
    Suspend(Ms),
}

struct World {
    random: Random,
    table: Table,
    now: Ms,
    plots: BTreeMap<(Ms, u64), Plot>,
    count: u64,
    pids: i32,
    /// Forked and not reaped; a dying one's ending.
    children: BTreeMap<Pid, (Who, Option<Ending>)>,
    /// Open links.
    molds: BTreeMap<u32, (Pid, Code)>,
    /// Ordered and not forgotten; pid once forked.
    seats: BTreeMap<WorkerId, (u32, Option<Pid>)>,
    exit: Option<i32>,
    served: u32,
    trace: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            table: Table::new(5_000),
            now: 1_000_000,
            plots: BTreeMap::new(),
            count: 0,
            pids: 100,
            children: BTreeMap::new(),
            molds: BTreeMap::new(),
            seats: BTreeMap::new(),
            exit: None,
            served: 0,
            trace: Vec::new(),
        }
    }

    fn plot(&mut self, delay: Ms, plot: Plot) {
        self.count += 1;
        self.plots.insert((self.now + delay, self.count), plot);
    }

    fn plot_within(&mut self, delay: Ms, plot: Plot) {
        let delay = self.random.below(delay + 1);
        self.plot(delay, plot);
    }

    fn new_child(&mut self, who: Who) -> Pid {
        self.pids += 1;
        let pid = Pid::from_raw(self.pids);
        self.children.insert(pid, (who, None));
        pid
    }

    /// Until the server exits; `false` if the world ran out of steam before.
    fn run(&mut self) -> bool {
        self.step(Event::Tick);
        while self.exit.is_none() {
            let plot = self.plots.keys().next().map(|(at, _)| *at);
            let Some(next) = plot.into_iter().chain(self.table.deadline()).min() else {
                return false;
            };
            self.now = self.now.max(next);
            match self.plots.first_entry() {
                Some(entry) if entry.key().0 <= self.now => {
                    let plot = entry.remove();
                    self.happen(plot);
                }
                _ => self.step(Event::Tick),
            }
        }
        true
    }

    fn happen(&mut self, plot: Plot) {
        match plot {
            Plot::Event(event) => self.step(event),
            Plot::Fork { worker, generation } => self.fork(worker, generation),
            Plot::Ready { worker, pid } => {
                if self.lives(pid) {
                    self.step(Event::Ready { worker });
                }
            }
            Plot::Die { pid, ending } => self.die(pid, ending),
            Plot::MoldSays { pid, event } => {
                if self.lives(pid) && self.molds.values().any(|(mold, _)| *mold == pid) {
                    self.step(event);
                }
            }
            Plot::Signal(signal) => self.step(Event::Signal { signal, from: None }),
            Plot::Suspend(span) => self.suspend(span),
        }
    }

    fn suspend(&mut self, span: Ms) {
        self.now += span;
        let later = std::mem::take(&mut self.plots).into_iter();
        self.plots = later.map(|((at, count), plot)| ((at + span, count), plot)).collect();
        let late = self.table.deadline().is_some_and(|deadline| deadline + 1_000 < self.now);
        self.step(if late { Event::Overslept } else { Event::Tick });
    }

    fn lives(&self, pid: Pid) -> bool {
        matches!(self.children.get(&pid), Some((_, None)))
    }

    fn die(&mut self, pid: Pid, ending: Ending) {
        if let Some((who, dying @ None)) = self.children.get_mut(&pid) {
            *dying = Some(ending);
            let who = *who;
            if let Who::Mold(generation) = who {
                self.mold_gone(generation);
            }
            self.plot_within(3, Plot::Event(Event::exited(pid, ending)));
        }
    }

    /// Orders that it did not read are answered by the EOF of their pipes.
    fn mold_gone(&mut self, generation: u32) {
        let unread: Vec<(Ms, u64)> = self
            .plots
            .iter()
            .filter(
                |(_, plot)| matches!(plot, Plot::Fork { generation: of, .. } if *of == generation),
            )
            .map(|(key, _)| *key)
            .collect();
        for key in unread {
            if let Some(Plot::Fork { worker, .. }) = self.plots.remove(&key) {
                self.plot(1, Plot::Event(Event::NotForked { worker, message: "eof".into() }));
            }
        }
        // An order that its hanging mold had not even scheduled.
        let silent = self.seats.iter().filter(|(_, (of, pid))| *of == generation && pid.is_none());
        for worker in silent.map(|(worker, _)| *worker).collect::<Vec<_>>() {
            let answered = |plot: &Plot| match plot {
                Plot::Event(Event::NotForked { worker: of, .. }) => *of == worker,
                _ => false,
            };
            if !self.plots.values().any(answered) {
                self.plot(1, Plot::Event(Event::NotForked { worker, message: "eof".into() }));
            }
        }
    }

    fn fork(&mut self, worker: WorkerId, generation: u32) {
        if self.random.chance(3) {
            return self.step(Event::NotForked { worker, message: "no memory".into() });
        }
        let code = self.molds.get(&generation).map_or(Code::Good, |(_, code)| *code);
        let pid = self.new_child(Who::Worker(worker));
        self.seats.insert(worker, (generation, Some(pid)));
        self.step(Event::Forked { worker, pid });
        let hang = code == Code::WorkersHang || (code == Code::Flaky && self.random.chance(10));
        if code == Code::WorkersDie || (code == Code::Flaky && self.random.chance(20)) {
            let code = i32::try_from(self.random.below(5)).unwrap();
            self.plot_within(2_000, Plot::Die { pid, ending: Ending::Code(code) });
        } else if !hang {
            self.plot_within(2_000, Plot::Ready { worker, pid });
        }
        if self.random.chance(if code == Code::Flaky { 50 } else { 5 }) {
            self.plot_within(20_000, Plot::Die { pid, ending: Ending::Signal(11) });
        }
    }

    fn step(&mut self, event: Event) {
        self.trace.push(format!("{} {event:?}", self.now));
        let deaths = matches!(event, Event::Exited { .. } | Event::Stuck { .. });
        if let Event::Exited { pid, .. } = event {
            self.children.remove(&pid);
        }
        let before = self.ready();
        let overslept = matches!(event, Event::Overslept);
        let actions = self.table.step(self.now, event);
        if overslept {
            let hurts = |action: &Action| {
                matches!(action, Action::Signal { signal: Signal::SIGKILL | Signal::SIGABRT, .. })
            };
            assert!(!actions.iter().any(hurts), "nobody dies because the master slept");
        }
        self.check(&actions, before, deaths);
        for action in actions {
            self.trace.push(format!("    {action:?}"));
            self.perform(action);
        }
    }

    fn ready(&self) -> usize {
        self.table.workers.values().filter(|worker| worker.is_ready()).count()
    }

    fn check(&mut self, actions: &[Action], before: usize, deaths: bool) {
        let alive = self.table.workers.values().filter(|worker| worker.is_alive()).count();
        let wanted = self
            .table
            .wanted()
            .or_else(|| self.table.candidate.and_then(|id| self.table.generation(id)));
        let (target, surge) =
            wanted.map_or((0, 1), |of| (usize::from(of.target), usize::from(of.settings.surge)));
        if actions.iter().any(|action| matches!(action, Action::Order { .. })) {
            assert!(alive <= target + surge, "{alive} alive, {target} wanted");
        }
        if !self.table.is_stopping() && !deaths {
            assert!(
                self.ready() >= before.min(target),
                "{before} were ready, {} are, {target} wanted",
                self.ready()
            );
        }
        if !self.table.is_stopping() && self.table.current.is_some() {
            assert!(!actions.iter().any(|action| matches!(action, Action::Exit(_))));
        }
        let surplus = self.table.recycling.is_some_and(|id| !self.table.workers.contains_key(&id));
        assert!(!surplus || self.table.is_stopping(), "a worker that is gone is being recycled");
        if let Some(deadline) = self.table.deadline() {
            assert!(deadline >= self.now, "due {deadline} and not done");
        }
        for worker in self.table.workers.values().filter(|worker| worker.pid.is_some()) {
            assert!(worker.pending.is_empty(), "{worker} misses a signal");
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::ForkMold { generation } => self.fork_mold(generation),
            Action::Order { worker, generation } => {
                assert!(
                    self.seats.insert(worker, (generation, None)).is_none(),
                    "worker={worker} exists"
                );
                let (mold, code) =
                    *self.molds.get(&generation).expect("an order goes to an open link");
                if !self.lives(mold) {
                    self.plot(1, Plot::Event(Event::NotForked { worker, message: "eof".into() }));
                } else if code != Code::Flaky || !self.random.chance(2) {
                    self.plot_within(50, Plot::Fork { worker, generation });
                }
            }
            Action::Signal { pid, signal } => self.deliver(pid, signal),
            Action::CloseMold { generation } => {
                if let Some((pid, _)) = self.molds.remove(&generation)
                    && !self.random.chance(10)
                {
                    // It reads its orders first.
                    self.plot(60, Plot::Die { pid, ending: Ending::Code(0) });
                }
            }
            Action::Forget { worker } => {
                let (_, pid) =
                    self.seats.remove(&worker).expect("only a worker that exists is forgotten");
                assert!(
                    pid.is_none_or(|pid| !self.children.contains_key(&pid)),
                    "worker={worker} is not reaped"
                );
            }
            Action::News { generation, .. } => {
                assert!(self.molds.contains_key(&generation), "news on a closed link");
            }
            Action::Serving => self.served += 1,
            Action::Upgrade => self.upgrade(),
            Action::Exit(code) => {
                assert!(self.exit.replace(code).is_none());
                let mut left = self.children.values();
                assert!(left.all(|(who, _)| *who == Who::NewMaster), "left: {:?}", self.children);
                assert!(self.seats.is_empty(), "unanswered: {:?}", self.seats);
            }
            Action::Unlisten { .. } => {}
            Action::ReopenMold { generation } => assert!(self.molds.contains_key(&generation)),
            Action::ReopenLogs
            | Action::Settled { .. }
            | Action::Abandoned { .. }
            | Action::Reloading
            | Action::UpgradeOver
            | Action::Steady { .. }
            | Action::Draining
            | Action::Stopping
            | Action::Log { .. } => {}
        }
    }

    fn fork_mold(&mut self, generation: u32) {
        if self.random.chance(3) {
            let message = "no memory".to_owned();
            return self.plot(0, Plot::Event(Event::MoldNotForked { generation, message }));
        }
        let code = match self.random.below(20) {
            0 => Code::MoldDies,
            1 => Code::Refused,
            2 => Code::MoldHangs,
            3 => Code::WorkersDie,
            4 => Code::WorkersHang,
            5..8 => Code::Flaky,
            _ => Code::Good,
        };
        let pid = self.new_child(Who::Mold(generation));
        self.molds.insert(generation, (pid, code));
        self.plot(0, Plot::Event(Event::MoldForked { generation, pid }));
        let workers = u16::try_from(1 + self.random.below(8)).unwrap();
        let surge = u16::try_from(1 + self.random.below(3)).unwrap();
        let graceful = self.random.below(10_000);
        let max_age = self.random.chance(30).then(|| 1 + self.random.below(20_000));
        let drain = if self.random.chance(30) { self.random.below(3_000) } else { 0 };
        let (news, keep_mold) = (self.random.chance(50), self.random.chance(50));
        let settings = Settings {
            workers,
            timeout: Some(30_000),
            kill_grace: 5_000,
            max_age,
            max_rss: None,
            memory: None,
            graceful,
            boot: 5_000,
            drain,
            surge,
            keep_mold,
            news,
        };
        let refusal = Refusal { code: 2, message: "refused".into() };
        match code {
            Code::MoldHangs => {}
            Code::Refused => {
                self.plot(1, Plot::MoldSays { pid, event: Event::Refused { generation, refusal } })
            }
            _ => {
                let delay = self.random.below(1_000);
                self.plot(
                    1 + delay,
                    Plot::MoldSays { pid, event: Event::Planned { generation, settings } },
                );
                self.plot(
                    2 + delay * 2,
                    Plot::MoldSays { pid, event: Event::MoldReady { generation } },
                );
            }
        }
        if code == Code::MoldDies || self.random.chance(5) {
            let limit = if code == Code::MoldDies { 2_000 } else { 60_000 };
            self.plot_within(limit, Plot::Die { pid, ending: Ending::Signal(11) });
        }
    }

    fn upgrade(&mut self) {
        let new = self.children.values().filter(|(who, _)| *who == Who::NewMaster).count();
        assert_eq!(new, 0, "one new master at a time");
        if self.random.chance(20) {
            let message = "no memory".to_owned();
            return self.plot(0, Plot::Event(Event::NotUpgraded { message }));
        }
        let pid = self.new_child(Who::NewMaster);
        self.plot(0, Plot::Event(Event::Upgraded { pid }));
        if self.random.chance(50) {
            self.plot_within(500, Plot::Event(Event::NewMasterServes));
        }
        if self.random.chance(70) {
            self.plot(1, Plot::Die { pid, ending: Ending::Code(1) });
        }
    }

    fn deliver(&mut self, pid: Pid, signal: Signal) {
        let (who, _) =
            *self.children.get(&pid).expect("a signal goes to a child that is not reaped");
        match signal {
            Signal::SIGKILL => self.plot_within(5, Plot::Die { pid, ending: Ending::Signal(9) }),
            Signal::SIGUSR1 => {}
            _ => {
                assert!(matches!(who, Who::Worker(_)), "a mold hears no {signal}");
                if !self.random.chance(15) {
                    self.plot_within(4_000, Plot::Die { pid, ending: Ending::Code(0) });
                }
            }
        }
    }

    /// Signals and accidents for half a minute or so, and a stop at the end.
    fn script(&mut self) {
        let length = 1 + self.random.below(60_000);
        for _ in 0..self.random.below(12) {
            let signal = match self.random.below(10) {
                0..4 => Signal::SIGHUP,
                4 => Signal::SIGTTIN,
                5 | 6 => Signal::SIGTTOU,
                7 => Signal::SIGUSR1,
                8 => Signal::SIGUSR2,
                _ => Signal::SIGWINCH,
            };
            self.plot_within(length, Plot::Signal(signal));
        }
        for _ in 0..self.random.below(4) {
            let worker =
                WorkerId::all().nth(usize::try_from(self.random.below(6)).unwrap()).unwrap();
            let reason = "tired".to_owned();
            self.plot_within(length, Plot::Event(Event::Tired { worker, reason }));
            let event = Event::Stuck { worker, silent: 30_000, request: String::new() };
            self.plot_within(length, Plot::Event(event));
        }
        if self.random.chance(20) {
            let span = self.random.below(100_000);
            self.plot_within(length, Plot::Suspend(span));
        }
        let stop = if self.random.chance(70) { Signal::SIGTERM } else { Signal::SIGINT };
        self.plot(length, Plot::Signal(stop));
    }
}

fn simulate(seed: u64) -> u32 {
    let mut world = World::new(seed);
    let run = std::panic::AssertUnwindSafe(|| {
        world.script();
        assert!(world.run(), "the server neither ends nor waits for anything");
        world.served
    });
    match std::panic::catch_unwind(run) {
        Ok(served) => served,
        Err(panic) => {
            let last = world.trace.len().saturating_sub(60);
            let trace = world.trace[last..].join("\n");
            panic!("SERVE_SEED={seed}\n{trace}\n{}", text(&*panic));
        }
    }
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[test]
fn any_schedule_keeps_the_invariants_and_ends() {
    if let Ok(seed) = std::env::var("SERVE_SEED") {
        simulate(seed.parse().expect("SERVE_SEED is a number"));
        return;
    }
    let served: u32 = (0..3_000).map(simulate).sum();
    assert!(served > 1_000, "most schedules must get as far as serving, not {served}");
}
