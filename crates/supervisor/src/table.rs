//! Supervision as a pure state machine: `step(now, Event) -> Vec<Action>`.
//!
//! It decides who is forked, retired, killed and given up. It makes no system call, reads no clock
//! and writes no log: the rim (`master`) performs the actions in order and turns what happens into
//! events. Between two steps nothing changes by itself; `deadline` says when to send `Event::Tick`
//! at the latest.
//!
//! Rules: a reload is a candidate generation beside the current one. `wanted` is the candidate once
//! its first worker is ready, else the current one; everything is one rule from there (`balance`).
//! The current generation is given up by nothing but a candidate that has all of its workers.
//! Before the first worker was ever ready a failure ends the server; afterwards nothing does but a
//! signal.

mod balance;
mod children;
mod leaving;
mod news;
mod recycle;
mod signals;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod upgrade;

use std::collections::BTreeMap;
use std::mem;

use log::Level;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use self::upgrade::Upgrade;
use crate::death::{Ending, Remains, Span};
use crate::link::News;
use crate::mold::{Backoff, Generation, Mold, Phase, Settings};
use crate::worker::{Ms, State, Worker, WorkerId};

/// A mold that was told to leave has this long to run its exit handlers.
const MOLD_GRACE: Ms = 5_000;
/// After INT or QUIT everything has this long to run its exit handlers.
const QUICK_GRACE: Ms = 5_000;
/// Or this long, if that is asked for once more. Not less: who is between a terminal and the server
/// may pass on an INT that the server had from the terminal, too.
const ONCE_MORE: Ms = 1_000;
/// After SIGABRT a worker has this long to write its stacks.
const ABORT_GRACE: Ms = 1_000;
/// A worker that dies this soon after it was ready is part of a crash loop.
const QUICK_DEATH: Ms = 1_000;
/// Orders a mold may have unanswered: they wait in its socket, whose buffer must never make the
/// master wait.
const UNANSWERED: usize = 32;

/// Why a generation cannot be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The exit code of the server if this is its first start.
    pub code: i32,
    /// One sentence for the operator.
    pub message: String,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    MoldForked {
        generation: u32,
        pid: Pid,
    },
    MoldNotForked {
        generation: u32,
        message: String,
    },
    Planned {
        generation: u32,
        settings: Settings,
    },
    Refused {
        generation: u32,
        refusal: Refusal,
    },
    MoldReady {
        generation: u32,
    },
    HungUp {
        generation: u32,
    },
    Forked {
        worker: WorkerId,
        pid: Pid,
    },
    NotForked {
        worker: WorkerId,
        message: String,
    },
    Ready {
        worker: WorkerId,
    },
    Exited {
        pid: Pid,
        ending: Ending,
        remains: Remains,
    },
    /// A worker is to be replaced: it asks for that itself, or it is too heavy.
    Tired {
        worker: WorkerId,
        reason: String,
    },
    Stuck {
        worker: WorkerId,
        silent: Ms,
        request: String,
    },
    Signal {
        signal: Signal,
        from: Option<Pid>,
    },
    Upgraded {
        pid: Pid,
    },
    NotUpgraded {
        message: String,
    },
    /// The new master has said so.
    NewMasterServes,
    /// The master woke long after it should have: it was stopped or suspended, and perhaps all
    /// others with it.
    Overslept,
    Tick,
}

#[cfg(test)]
impl Event {
    fn exited(pid: Pid, ending: Ending) -> Self {
        Self::Exited { pid, ending, remains: Remains::default() }
    }
}

/// What is to be done, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    ForkMold {
        generation: u32,
    },
    /// Tell the mold to fork this worker.
    Order {
        worker: WorkerId,
        generation: u32,
    },
    /// `pid` is a child that has not been reaped.
    Signal {
        pid: Pid,
        signal: Signal,
    },
    /// No worker is ordered any more: the listeners for them are not needed.
    Unlisten {
        generation: u32,
    },
    /// Drop the link: the mold reads EOF and leaves.
    CloseMold {
        generation: u32,
    },
    ReopenLogs,
    ReopenMold {
        generation: u32,
    },
    /// Tell the mold, which wants to know.
    News {
        generation: u32,
        news: News,
    },
    Settled {
        generation: u32,
    },
    Abandoned {
        generation: u32,
    },
    Serving,
    /// Start a new master.
    Upgrade,
    /// The new master is no more.
    UpgradeOver,
    /// A generation is on its way to replace the one that serves.
    Reloading,
    /// No reload is on its way any more; this generation serves, with so many workers.
    Steady {
        generation: u32,
        workers: u16,
    },
    /// TERM was heard; the workers go on until the drain delay is over.
    Draining,
    /// A signal ends the server from now on.
    Stopping,
    /// The worker is no more; its number may be given to another.
    Forget {
        worker: WorkerId,
    },
    Log {
        level: Level,
        text: String,
    },
    Exit(i32),
}

/// Where the server is going.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Course {
    Serve,
    /// As before, until a load balancer has noticed; then the stop begins.
    Drain {
        until: Ms,
    },
    /// Ends with this exit code when all children are reaped; `quick` is since when nothing waits
    /// for requests.
    Stop {
        code: i32,
        quick: Option<Ms>,
    },
}

/// Which child a pid is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Child {
    Worker(WorkerId),
    Mold(u32),
    NewMaster,
}

pub(crate) struct Table {
    /// For the first generation, until its plan says otherwise. The later ones inherit the current
    /// one's.
    boot_timeout: Ms,
    /// Oldest first.
    generations: Vec<Generation>,
    last: u32,
    /// `None` until the first worker was ever ready.
    current: Option<u32>,
    candidate: Option<u32>,
    workers: BTreeMap<WorkerId, Worker>,
    /// To be recycled, the first to ask first.
    tired: Vec<WorkerId>,
    /// Being recycled, until it is gone.
    recycling: Option<WorkerId>,
    /// A new generation is asked for, not before this moment.
    reload: Option<Ms>,
    /// Spaces out the generations that replace a dead mold.
    remold: Backoff,
    course: Course,
    upgrade: Upgrade,
    /// No child is found too slow before this moment.
    patience: Ms,
    actions: Vec<Action>,
    deadline: Option<Ms>,
}

impl Table {
    /// An empty table; the first step asks for the first mold.
    pub(crate) fn new(boot_timeout: Ms) -> Self {
        Self {
            boot_timeout,
            generations: Vec::new(),
            last: 0,
            current: None,
            candidate: None,
            workers: BTreeMap::new(),
            tired: Vec::new(),
            recycling: None,
            reload: Some(0),
            remold: Backoff::default(),
            course: Course::Serve,
            upgrade: Upgrade::default(),
            patience: 0,
            actions: Vec::new(),
            deadline: None,
        }
    }

    pub(crate) fn step(&mut self, now: Ms, event: Event) -> Vec<Action> {
        self.accept(now, event);
        self.expire(now);
        if !self.is_stopping() {
            self.balance(now);
            self.settle(now);
            self.start_generation(now);
        } else if self.workers.values().all(|worker| worker.pid.is_none()) {
            // An order that is still open is answered by the mold's end.
            self.leave_all(now, None);
        }
        self.dismiss_waiting(now);
        self.sweep();
        self.deadline = self.next_deadline(now);
        mem::take(&mut self.actions)
    }

    /// When to step with `Tick` if nothing happens before.
    pub(crate) fn deadline(&self) -> Option<Ms> {
        self.deadline
    }

    pub(crate) fn child(&self, pid: Pid) -> Option<Child> {
        let worker = self.workers.values().find(|worker| worker.pid == Some(pid));
        let mold = || self.generations.iter().find(|generation| generation.mold.pid() == Some(pid));
        worker
            .map(|worker| Child::Worker(worker.id))
            .or_else(|| mold().map(|generation| Child::Mold(generation.id)))
            .or_else(|| self.new_master().filter(|it| *it == pid).map(|_| Child::NewMaster))
    }

    /// Whether the master itself is why this child dies by SIGKILL.
    pub(crate) fn was_killed(&self, pid: Pid) -> bool {
        let killed = State::Killed { deadline: None };
        let worker = |worker: &Worker| worker.pid == Some(pid) && worker.state == killed;
        let mold = |generation: &Generation| {
            generation.mold.pid() == Some(pid)
                && (generation.killed.is_some() || generation.phase == Phase::Leaving)
        };
        self.workers.values().any(worker) || self.generations.iter().any(mold)
    }

    /// The workers whose heartbeat is to be watched, and after how long without one they are stuck.
    pub(crate) fn watched(&self) -> impl Iterator<Item = (WorkerId, Ms)> {
        self.workers.values().filter_map(|worker| match worker.state {
            State::Ready { .. } | State::Retiring { .. } => {
                let settings = self.generation(worker.generation)?.settings;
                Some((worker.id, settings.timeout? + settings.kill_grace))
            }
            State::Starting { .. } | State::Killed { .. } => None,
        })
    }

    /// No worker is stuck before this moment.
    pub(crate) fn patience(&self) -> Ms {
        self.patience
    }

    fn accept(&mut self, now: Ms, event: Event) {
        match event {
            Event::MoldForked { generation, pid } => self.mold_forked(generation, pid),
            Event::MoldNotForked { generation, message } => {
                self.mold_not_forked(now, generation, &message)
            }
            Event::Planned { generation, settings } => self.planned(now, generation, settings),
            Event::Refused { generation, refusal } => {
                self.fail(now, generation, refusal.code, &refusal.message)
            }
            Event::MoldReady { generation } => self.mold_ready(now, generation),
            Event::HungUp { generation } => self.mold_hung_up(now, generation),
            Event::Forked { worker, pid } => self.worker_forked(worker, pid),
            Event::NotForked { worker, message } => self.worker_not_forked(now, worker, &message),
            Event::Ready { worker } => self.worker_ready(now, worker),
            Event::Exited { pid, ending, remains } => match self.child(pid) {
                Some(Child::Worker(worker)) => self.worker_exited(now, worker, ending, &remains),
                Some(Child::Mold(generation)) => {
                    self.mold_exited(now, generation, ending, &remains)
                }
                Some(Child::NewMaster) => self.new_master_exited(now, pid, ending, &remains),
                None => self.log(Level::Debug, format!("reaped pid={pid}, an orphan: {ending}")),
            },
            Event::Tired { worker, reason } => self.worker_tired(worker, &reason),
            Event::Stuck { worker, silent, request } => {
                self.worker_stuck(now, worker, silent, &request)
            }
            Event::Signal { signal, from } => self.signal(now, signal, from),
            Event::Upgraded { pid } => self.upgraded(pid),
            Event::NotUpgraded { message } => self.not_upgraded(&message),
            Event::NewMasterServes => self.new_master_serves(),
            Event::Overslept => self.be_patient(now),
            Event::Tick => {}
        }
    }

    /// What was due while the master was away is not held against anybody: they may have been
    /// stopped, too, and what they said in time may not be read yet.
    fn be_patient(&mut self, now: Ms) {
        let grace = self.generations.iter().map(|generation| generation.settings.kill_grace).max();
        self.patience = now + grace.unwrap_or(0).max(QUICK_GRACE);
        let text = format!(
            "the master was stopped or suspended: for {} nobody is found too slow",
            Span(self.patience - now)
        );
        self.log(Level::Warn, text);
        self.workers.values_mut().for_each(|worker| worker.spare(self.patience));
        self.generations.iter_mut().for_each(|generation| generation.spare(self.patience));
    }

    /// A generation cannot be. Who is asked for next depends on whether there is another one.
    fn fail(&mut self, now: Ms, id: u32, code: i32, reason: &str) {
        if self.is_stopping() || self.candidate != Some(id) {
            return self.log(Level::Info, format!("gen={id}: {reason}"));
        }
        match self.current {
            None => {
                self.log(Level::Error, format!("gen={id} cannot start: {reason}"));
                self.abandon(now, id);
                self.kill_all(code);
            }
            Some(current) => {
                self.log(
                    Level::Error,
                    format!("gen={id} abandoned: {reason}; gen={current} keeps serving"),
                );
                self.abandon(now, id);
                self.steady(current);
                if self.generation(current).is_some_and(|current| current.mold == Mold::Gone) {
                    self.ask_for_generation_at(self.remold.until().max(now));
                }
            }
        }
    }

    /// The candidate is none any more. Its workers go when others are there to serve (`balance`).
    fn abandon(&mut self, now: Ms, id: u32) {
        self.candidate = None;
        self.remold.fail(now);
        self.push(Action::Abandoned { generation: id });
        self.leave(now, id);
    }

    /// Forgets what is gone, and ends when all is.
    fn sweep(&mut self) {
        let workers = &self.workers;
        self.generations.retain(|generation| {
            generation.phase != Phase::Leaving
                || generation.mold != Mold::Gone
                || workers.values().any(|worker| worker.generation == generation.id)
        });
        if let Course::Stop { code, .. } = self.course
            && self.generations.is_empty()
        {
            self.push(Action::Exit(code));
        }
    }

    /// Does what is due. Each is looked at when its turn comes: the one before may have changed it.
    fn expire(&mut self, now: Ms) {
        let is_due = |deadline: Option<Ms>| deadline.is_some_and(|deadline| deadline <= now);
        for id in self.workers.keys().copied().collect::<Vec<_>>() {
            if self.workers.get(&id).is_some_and(|worker| is_due(worker.deadline())) {
                self.worker_due(now, id);
            }
        }
        for id in self.generations.iter().map(|generation| generation.id).collect::<Vec<_>>() {
            if self.generation(id).is_some_and(|generation| is_due(generation.deadline)) {
                self.generation_due(now, id);
            }
        }
        if matches!(self.course, Course::Drain { until } if until <= now) {
            self.stop(now, "the drain delay is over");
        }
    }

    fn next_deadline(&self, now: Ms) -> Option<Ms> {
        let workers = self.workers.values().filter_map(Worker::deadline);
        let generations = self.generations.iter().filter_map(|generation| generation.deadline);
        let reload = self.reload.filter(|_| self.may_start_generation());
        let drain = match self.course {
            Course::Drain { until } => Some(until),
            Course::Serve | Course::Stop { .. } => None,
        };
        let retries = self
            .generations
            .iter()
            .map(|generation| generation.retry.until())
            .filter(|until| *until > now);
        workers.chain(generations).chain(reload).chain(drain).chain(retries).min()
    }

    /// A later request does not delay an earlier one.
    fn ask_for_generation_at(&mut self, at: Ms) {
        self.reload = Some(self.reload.map_or(at, |earlier| earlier.min(at)));
    }

    fn is_stopping(&self) -> bool {
        matches!(self.course, Course::Stop { .. })
    }

    fn generation(&self, id: u32) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.id == id)
    }

    fn generation_mut(&mut self, id: u32) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|generation| generation.id == id)
    }

    fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn log(&mut self, level: Level, text: String) {
        self.push(Action::Log { level, text });
    }
}
