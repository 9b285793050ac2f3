//! Recycling: workers that are to be replaced although nothing is wrong with them.
//!
//! A tired worker serves on until its successor is ready. One at a time, from the order of the
//! successor to the end of the predecessor, in the order in which they got tired; so recycling
//! never costs more than one worker's memory or start. A reload replaces all of them anyway, and
//! recycling waits for it.

use log::Level;
use nix::unistd::Pid;

use super::{Course, Table};
use crate::death::Span;
use crate::mold::Settings;
use crate::worker::{Ms, State, Worker, WorkerId};

impl Table {
    /// A worker is to be replaced. Said more than once, the first time counts.
    pub(super) fn worker_tired(&mut self, id: WorkerId, reason: &str) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if !worker.is_ready() || self.tired.contains(&id) {
            return;
        }
        let text = format!("{worker} is to be replaced: {reason}");
        self.tired.push(id);
        self.log(Level::Info, text);
    }

    /// A ready worker has reached its age.
    pub(super) fn worker_aged(&mut self, now: Ms, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let State::Ready { since } = worker.state else { return };
        worker.expires = None;
        self.worker_tired(id, &format!("age={} (max-worker-age)", Span(now - since)));
    }

    /// Puts the next tired worker up for replacement, or takes it back when a reload begins.
    pub(super) fn recycle(&mut self) {
        let workers = &self.workers;
        self.tired.retain(|id| workers.get(id).is_some_and(Worker::is_ready));
        let is_over = |id: &WorkerId| match workers.get(id).map(|worker| worker.state) {
            None => true,
            Some(State::Ready { .. }) => self.candidate.is_some() || self.course != Course::Serve,
            Some(_) => false,
        };
        if self.recycling.is_some_and(|id| is_over(&id)) {
            self.recycling = None;
        }
        if self.recycling.is_none() && self.may_recycle() {
            self.recycling = self.tired.first().copied();
        }
    }

    fn may_recycle(&self) -> bool {
        self.candidate.is_none() && self.course == Course::Serve
    }

    /// The worker whose successor is wanted beside it.
    pub(super) fn outgoing(&self) -> Option<WorkerId> {
        self.recycling.filter(|id| self.workers.get(id).is_some_and(Worker::is_ready))
    }

    /// How many workers the wanted generation should have now, a recycled one's successor included.
    pub(super) fn goal(&self, target: u16) -> usize {
        usize::from(target) + usize::from(self.outgoing().is_some())
    }

    /// Retires the recycled worker once enough others are ready.
    pub(super) fn retire_outgoing(&mut self, now: Ms) {
        let target = self.wanted().map(|generation| usize::from(generation.target));
        if let (Some(id), Some(target)) = (self.outgoing(), target)
            && self.count(Worker::is_ready) > target
        {
            self.retire(now, id);
        }
    }

    /// Whether a worker that is too large may be looked for: nobody is on the way out already.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.may_recycle() && self.tired.is_empty() && self.recycling.is_none()
    }

    /// The ready workers, since when they are, and what they may weigh.
    pub(crate) fn weighed(&self) -> impl Iterator<Item = (WorkerId, Pid, Ms, Settings)> {
        self.workers.values().filter_map(|worker| {
            let State::Ready { since } = worker.state else { return None };
            Some((worker.id, worker.pid?, since, self.generation(worker.generation)?.settings))
        })
    }
}

/// When a worker that is ready now has reached its age: up to a tenth later, by its number, so that
/// workers that started together do not age together.
pub(super) fn expiry(now: Ms, id: WorkerId, max_age: Ms) -> Ms {
    // The golden ratio's multiples lie far apart from each other in any short row.
    let share = Ms::from((id.number()).wrapping_mul(40_503));
    now + max_age + max_age / 10 * share / Ms::from(u16::MAX)
}
