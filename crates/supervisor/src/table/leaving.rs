//! How a generation's mold is sent away: at once, or when the last of its workers is gone.

use nix::sys::signal::Signal;

use super::{Action, MOLD_GRACE, Table};
use crate::mold::{Generation, Phase};
use crate::worker::Ms;

impl Table {
    /// Sends a generation's mold away, at the latest when its workers are gone. One that runs
    /// Python code does not listen, and is killed.
    pub(super) fn leave(&mut self, now: Ms, id: u32) {
        let Some(generation) = self.generation_mut(id) else { return };
        let busy = generation.phase < Phase::Canary;
        generation.phase = Phase::Leaving;
        generation.deadline = None;
        generation.waits = true;
        let (keep, pid) = (generation.settings.keep_mold, generation.mold.pid());
        self.push(Action::Unlisten { generation: id });
        if busy || !keep {
            self.dismiss(now, id);
        }
        if busy && let Some(pid) = pid {
            self.push(Action::Signal { pid, signal: Signal::SIGKILL });
        }
    }

    pub(super) fn dismiss(&mut self, now: Ms, id: u32) {
        let Some(generation) = self.generation_mut(id) else { return };
        generation.waits = false;
        generation.deadline = Some(now + MOLD_GRACE);
        self.push(Action::CloseMold { generation: id });
    }

    /// Dismisses the molds that have waited for the last of their workers. An order that is still
    /// open is answered by the mold's end.
    pub(super) fn dismiss_waiting(&mut self, now: Ms) {
        let is_over = |generation: &&Generation| {
            let mut workers = self.workers.values().filter(|it| it.generation == generation.id);
            generation.waits && workers.all(|worker| worker.pid.is_none())
        };
        let over: Vec<u32> = self.generations.iter().filter(is_over).map(|it| it.id).collect();
        over.into_iter().for_each(|id| self.dismiss(now, id));
    }

    /// Sends all molds away, but not one of a generation to `keep`.
    pub(super) fn leave_all(&mut self, now: Ms, keep: Option<u32>) {
        let leaving = self
            .generations
            .iter()
            .filter(|generation| generation.phase != Phase::Leaving && Some(generation.id) != keep);
        for id in leaving.map(|generation| generation.id).collect::<Vec<_>>() {
            self.leave(now, id);
        }
    }
}
