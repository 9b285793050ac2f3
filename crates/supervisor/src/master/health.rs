//! The master's look at its workers: whether they are stuck or too heavy, and what is left of those
//! that died.

use nix::unistd::Pid;

use super::Master;
use crate::cgroup::OutOfMemory;
use crate::death::{Ending, Remains};
use crate::memory::Finding;
use crate::scoreboard::{Pulse, Snapshot, monotonic_ms, pulse};
use crate::table::{Child, Event};

impl Master<'_> {
    /// What the scoreboard and the kernel still know of a child that was just reaped.
    pub(super) fn remains(&mut self, pid: Pid, ending: Ending, peak: u64) -> Remains {
        let now = monotonic_ms();
        let out_of_memory = match ending.is_kill() && !self.table.was_killed(pid) {
            true => self.oom_kills.claim(now),
            false => OutOfMemory::Unknown,
        };
        let Some(Child::Worker(worker)) = self.table.child(pid) else {
            return Remains { out_of_memory, peak, ..Remains::default() };
        };
        let Snapshot { requests, request, .. } = self.scoreboard.slot(worker).snapshot();
        let running = request.map(|it| (it.to_string(), now.saturating_sub(it.started)));
        Remains { out_of_memory, peak, requests, running }
    }

    /// Looks for workers that are stuck, and notes when to look again.
    pub(super) fn take_pulses(&mut self) {
        // Not later: the master may have been away since, and must hear of that first.
        let now = self.clock.now();
        self.pulse = None;
        for (worker, timeout) in self.table.watched() {
            let slot = self.scoreboard.slot(worker);
            match pulse(now, slot.heartbeat(), timeout, self.table.patience()) {
                Pulse::Fine(until) => {
                    self.pulse = Some(self.pulse.map_or(until, |at| at.min(until)))
                }
                Pulse::Stuck(silent) => {
                    let request = slot.snapshot().request;
                    let request =
                        request.map_or_else(|| "request=none".to_owned(), |it| it.to_string());
                    self.events.push_back(Event::Stuck { worker, silent, request });
                }
            }
        }
    }

    /// Looks for workers that are too heavy, if anything limits them.
    pub(super) fn weigh(&mut self) {
        let (now, workers) = (monotonic_ms(), self.table.weighed().collect::<Vec<_>>());
        let Some(mut due) = self.scales.due(&workers) else { return };
        if due <= now {
            for finding in self.scales.weigh(now, &workers, self.table.is_at_rest()) {
                match finding {
                    Finding::Tired { worker, reason } => {
                        self.events.push_back(Event::Tired { worker, reason })
                    }
                    Finding::Log { level, text } => log::log!(level, "{text}"),
                }
            }
            due = self.scales.due(&workers).unwrap_or(due);
        }
        self.pulse = Some(self.pulse.map_or(due, |at| at.min(due)));
    }
}
