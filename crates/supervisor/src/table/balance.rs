//! The one rule of rolling: how many workers of which generation, and what to order or retire to
//! get there.
//!
//! A start, a respawn, a reload, a scale and an abandoned reload are all this rule with different
//! numbers. It never retires a ready worker while fewer than the target would stay.

use log::Level;
use nix::sys::signal::Signal;

use super::{Action, Course, QUICK_GRACE, Table, UNANSWERED};
use crate::link::News;
use crate::mold::{Generation, Mold, Phase};
use crate::worker::{Ms, RETIRE, State, Worker, WorkerId};

impl Table {
    /// Retires what is too much, then orders what is missing.
    pub(super) fn balance(&mut self, now: Ms) {
        self.recycle();
        self.retire_unwanted_starting(now);
        self.retire_excess(now);
        self.retire_replaced(now);
        self.retire_outgoing(now);
        self.order_missing(now);
    }

    /// The generation that should have `target` workers: the candidate once one of its workers was
    /// ready.
    pub(super) fn wanted(&self) -> Option<&Generation> {
        let candidate = self.candidate.and_then(|id| self.generation(id));
        candidate
            .filter(|candidate| candidate.phase == Phase::Rolling)
            .or_else(|| self.current.and_then(|id| self.generation(id)))
    }

    /// A worker that is still booting serves nobody yet: outside the wanted generation (and the
    /// canary) it goes now.
    fn retire_unwanted_starting(&mut self, now: Ms) {
        let wanted = self.wanted().map(|generation| generation.id);
        let keep = [wanted, self.candidate];
        let starting = self.workers.values().filter(|worker| worker.is_starting());
        let unwanted = starting.filter(|worker| !keep.contains(&Some(worker.generation)));
        for id in unwanted.map(|worker| worker.id).collect::<Vec<_>>() {
            self.retire(now, id);
        }
    }

    /// More workers of the wanted generation than its target (TTOU, WINCH): booting ones go first,
    /// then the newest.
    fn retire_excess(&mut self, now: Ms) {
        let Some((wanted, target)) =
            self.wanted().map(|generation| (generation.id, generation.target))
        else {
            return;
        };
        while self.count(|worker| worker.generation == wanted && worker.is_alive())
            > self.goal(target)
        {
            let alive = self
                .workers
                .values()
                .filter(|worker| worker.generation == wanted && worker.is_alive());
            let victim =
                alive.max_by_key(|worker| (worker.is_starting(), worker.ordered, worker.id));
            let Some(id) = victim.map(|worker| worker.id) else { return };
            self.retire(now, id);
        }
    }

    /// Workers of other generations go one for each that is ready above the target, the oldest
    /// generation's first, and of these the tired ones.
    fn retire_replaced(&mut self, now: Ms) {
        let Some((wanted, target)) =
            self.wanted().map(|generation| (generation.id, generation.target))
        else {
            return;
        };
        while self.count(Worker::is_ready) > usize::from(target) {
            let replaced = self
                .workers
                .values()
                .filter(|worker| worker.is_ready() && worker.generation != wanted);
            let victim = replaced.min_by_key(|worker| {
                (worker.generation, !self.tired.contains(&worker.id), worker.id)
            });
            let Some(id) = victim.map(|worker| worker.id) else { return };
            self.retire(now, id);
        }
    }

    fn order_missing(&mut self, now: Ms) {
        if let Some(candidate) = self.candidate.and_then(|id| self.generation(id))
            && candidate.phase == Phase::Canary
        {
            let id = candidate.id;
            self.order_up_to(now, id, 1);
        }
        if let Some((id, target)) =
            self.wanted().map(|generation| (generation.id, generation.target))
        {
            let goal = self.goal(target);
            self.order_up_to(now, id, goal);
        }
    }

    /// Orders workers of one generation, as far as the total, its mold and its back-off permit.
    fn order_up_to(&mut self, now: Ms, id: u32, goal: usize) {
        let Some(generation) = self.generation(id) else { return };
        if !matches!(generation.mold, Mold::Alive(_)) || generation.retry.until() > now {
            return;
        }
        let boot = generation.settings.boot;
        let reference = self.wanted().unwrap_or(generation);
        let limit = usize::from(reference.target) + usize::from(reference.settings.surge);
        while self.count(|worker| worker.generation == id && worker.is_alive()) < goal
            && self.count(Worker::is_alive) < limit
            && self.count(|worker| worker.generation == id && worker.pid.is_none()) < UNANSWERED
        {
            let Some(free) = WorkerId::all().find(|worker| !self.workers.contains_key(worker))
            else {
                return;
            };
            self.workers.insert(free, Worker::ordered(free, id, now, boot));
            self.push(Action::Order { worker: free, generation: id });
        }
    }

    /// The candidate becomes the current generation when it has all of its workers and nobody else
    /// has any.
    pub(super) fn settle(&mut self, now: Ms) {
        let Some(candidate) = self.candidate.and_then(|id| self.generation(id)) else { return };
        let (id, target) = (candidate.id, usize::from(candidate.target));
        let others = self.count(|worker| worker.is_alive() && worker.generation != id);
        let ready = self.count(|worker| worker.is_ready() && worker.generation == id);
        if candidate.phase != Phase::Rolling || ready < target || others > 0 {
            return;
        }
        if let Some(old) = self.current {
            self.log(
                Level::Info,
                format!("gen={id} serves with workers={ready}; gen={old} leaves"),
            );
            self.leave(now, old);
        }
        self.enthrone(now, id);
    }

    /// The candidate is the current generation from now on.
    pub(super) fn enthrone(&mut self, now: Ms, id: u32) {
        let target = |id| self.generation(id).map(|generation| generation.target);
        let (before, workers) = (self.current.and_then(target), target(id).unwrap_or_default());
        self.candidate = None;
        self.current = Some(id);
        if let Some(generation) = self.generation_mut(id) {
            generation.phase = Phase::Serving;
            generation.deadline = None;
            generation.settled = now;
        }
        self.push(Action::Settled { generation: id });
        if before != Some(workers) {
            self.tell(Some(id), News::Workers { now: workers, before });
        }
        self.steady(id);
    }

    pub(super) fn steady(&mut self, id: u32) {
        let workers = self.generation(id).map_or(0, |generation| generation.target);
        self.push(Action::Steady { generation: id, workers });
    }

    /// Starts the generation that was asked for, unless another one is on its way: then it is
    /// remembered.
    pub(super) fn start_generation(&mut self, now: Ms) {
        if !self.may_start_generation() || self.reload.is_none_or(|at| at > now) {
            return;
        }
        self.reload = None;
        self.last += 1;
        let id = self.last;
        let current = self.current.and_then(|id| self.generation(id));
        let boot = current.map_or(self.boot_timeout, |current| current.settings.boot);
        self.generations.push(Generation::new(id, now, boot));
        self.candidate = Some(id);
        if self.current.is_some() {
            self.push(Action::Reloading);
        }
        self.push(Action::ForkMold { generation: id });
    }

    /// One at a time, and none for a server that is about to stop.
    pub(super) fn may_start_generation(&self) -> bool {
        self.candidate.is_none() && self.course == Course::Serve
    }

    pub(super) fn retire(&mut self, now: Ms, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        let graceful =
            self.generation(worker.generation).map_or(0, |generation| generation.settings.graceful);
        let heirs = self.wanted().is_some_and(|generation| generation.target > 0);
        let signal = if heirs { RETIRE } else { Signal::SIGTERM };
        self.stop_worker(now, id, signal, now + graceful);
    }

    /// Tells a worker to end until then; an earlier deadline stays.
    pub(super) fn stop_worker(&mut self, now: Ms, id: WorkerId, signal: Signal, deadline: Ms) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let deadline = match worker.state {
            State::Killed { .. } => return,
            State::Retiring { deadline: earlier, .. } => deadline.min(earlier),
            // As far as is known, it has no request to finish.
            State::Starting { .. } => deadline.min(now + QUICK_GRACE),
            State::Ready { .. } => deadline,
        };
        worker.state = State::Retiring { signal, deadline };
        let text = format!("{worker} retires, {signal}");
        self.log(Level::Debug, text);
        self.send(id, signal);
    }

    /// Sends a signal now, or as soon as the worker has a pid.
    pub(super) fn send(&mut self, id: WorkerId, signal: Signal) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match worker.pid {
            Some(pid) => self.push(Action::Signal { pid, signal }),
            None => worker.pending.push(signal),
        }
    }

    pub(super) fn count(&self, what: impl Fn(&Worker) -> bool) -> usize {
        self.workers.values().filter(|worker| what(worker)).count()
    }
}
