//! What the table does when something happens to a mold or a worker.

use std::mem;

use log::Level;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::recycle::expiry;
use super::{ABORT_GRACE, Action, QUICK_DEATH, QUICK_GRACE, Table};
use crate::death::{Ending, Remains, Span};
use crate::link::News;
use crate::mold::{Backoff, Mold, Phase, Settings};
use crate::worker::{Ms, State, WorkerId};

impl Table {
    pub(super) fn mold_forked(&mut self, id: u32, pid: Pid) {
        let Some(generation) = self.generation_mut(id) else { return };
        generation.mold = Mold::Alive(pid);
        let late = generation.phase == Phase::Leaving;
        self.log(Level::Debug, format!("gen={id} mold pid={pid} forked"));
        if late {
            self.push(Action::Signal { pid, signal: Signal::SIGKILL });
        }
    }

    pub(super) fn mold_not_forked(&mut self, now: Ms, id: u32, message: &str) {
        let Some(generation) = self.generation_mut(id) else { return };
        generation.mold = Mold::Gone;
        self.fail(now, id, 1, message);
    }

    pub(super) fn planned(&mut self, now: Ms, id: u32, settings: Settings) {
        let Some(generation) = self.generation_mut(id) else { return };
        if generation.phase != Phase::Molding {
            return;
        }
        generation.phase = Phase::Booting;
        generation.settings = settings;
        generation.target = settings.workers;
        generation.deadline = Some(now + settings.boot);
    }

    pub(super) fn mold_ready(&mut self, now: Ms, id: u32) {
        let Some(generation) = self.generation_mut(id) else { return };
        if generation.phase == Phase::Booting {
            generation.phase = Phase::Canary;
            generation.deadline = Some(now + generation.settings.boot);
        }
    }

    /// Its death follows in a moment, and tells the reason; if not, it is killed.
    pub(super) fn mold_hung_up(&mut self, now: Ms, id: u32) {
        let Some(generation) = self.generation_mut(id) else { return };
        if let Mold::Alive(pid) = generation.mold {
            generation.mold = Mold::Silent(pid);
            generation.hurry(now + QUICK_GRACE);
        }
    }

    pub(super) fn mold_exited(&mut self, now: Ms, id: u32, ending: Ending, remains: &Remains) {
        let Some(generation) = self.generation_mut(id) else { return };
        let blame = match generation.killed {
            Some(cause) => format!(", sent by the master: {cause}"),
            None => remains.blame(ending).to_owned(),
        };
        let (phase, settled) = (generation.phase, generation.settled);
        generation.mold = Mold::Gone;
        generation.waits = false;
        generation.deadline = generation.deadline.filter(|_| phase < Phase::Rolling);
        self.push(Action::CloseMold { generation: id });
        match phase {
            Phase::Leaving => self.log(Level::Debug, format!("gen={id} mold left: {ending}")),
            Phase::Serving => {
                self.log(
                    Level::Error,
                    format!("gen={id} mold died: {ending}{blame}; its workers serve on, reloading"),
                );
                self.replace_mold(now, settled);
            }
            _ => {
                let doing = match phase {
                    Phase::Molding => " while it evaluated the configuration",
                    Phase::Booting => " while it loaded the application",
                    _ => "",
                };
                let reason = format!("its mold died{doing}: {ending}{blame}");
                self.fail(now, id, ending.boot_code(), &reason);
            }
        }
    }

    /// A candidate on its way is the replacement; it is asked for again should it fail.
    fn replace_mold(&mut self, now: Ms, settled: Ms) {
        if now >= settled + Backoff::QUIET {
            self.remold = Backoff::default();
        } else {
            self.remold.fail(now);
        }
        if self.candidate.is_none() {
            self.ask_for_generation_at(self.remold.until().max(now));
        }
    }

    pub(super) fn generation_due(&mut self, now: Ms, id: u32) {
        let Some(generation) = self.generation_mut(id) else { return };
        generation.deadline = None;
        let (phase, mold, boot) = (generation.phase, generation.mold, generation.settings.boot);
        let limit = format!("within {} (boot-timeout)", Span(boot));
        match (phase, mold) {
            (Phase::Molding | Phase::Booting | Phase::Canary, Mold::Silent(_)) => {
                self.fail(now, id, 3, "its mold closed its link");
            }
            (Phase::Molding, _) => {
                self.fail(now, id, 3, &format!("its configuration was not evaluated {limit}"))
            }
            (Phase::Booting, _) => {
                self.fail(now, id, 3, &format!("its application was not loaded {limit}"))
            }
            (Phase::Canary, _) => {
                self.fail(now, id, 3, &format!("its first worker was not ready {limit}"))
            }
            (Phase::Rolling | Phase::Serving | Phase::Leaving, mold) => {
                if mold.pid().is_some() {
                    self.kill_mold(id, Level::Warn, "it does not leave");
                }
            }
        }
    }

    pub(super) fn worker_forked(&mut self, id: WorkerId, pid: Pid) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.pid = Some(pid);
        let pending = mem::take(&mut worker.pending);
        let text = format!("{worker} forked");
        self.log(Level::Debug, text);
        self.actions.extend(pending.into_iter().map(|signal| Action::Signal { pid, signal }));
    }

    /// No process came of an order: the machine's trouble, not the generation's, so it is tried
    /// again later. Workers that were ordered together fail together, and are one line in the log.
    pub(super) fn worker_not_forked(&mut self, now: Ms, id: WorkerId, message: &str) {
        let Some(worker) = self.workers.remove(&id) else { return };
        self.push(Action::Forget { worker: id });
        if worker.is_starting() {
            let until =
                |table: &Self| table.generation(worker.generation).map(|it| it.retry.until());
            let waiting = until(self).is_some_and(|until| until > now);
            self.back_off(now, worker.generation);
            let pause = Span(until(self).map_or(0, |until| until.saturating_sub(now)));
            let level = if waiting { Level::Debug } else { Level::Error };
            let text = format!("{worker} was not forked: {message}; trying again in {pause}");
            self.log(level, text);
        }
    }

    pub(super) fn worker_ready(&mut self, now: Ms, id: WorkerId) {
        let generation =
            self.workers.get(&id).and_then(|worker| self.generation(worker.generation));
        let max_age = generation.and_then(|generation| generation.settings.max_age);
        let graceful = generation.map_or(0, |generation| generation.settings.graceful);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        // Told to end while its word was on its way: it may have requests after all.
        if let State::Retiring { signal, deadline } = &mut worker.state
            && *signal != Signal::SIGQUIT
        {
            *deadline = (*deadline).max(now + graceful);
        }
        if !worker.is_starting() {
            return;
        }
        worker.state = State::Ready { since: now };
        let generation = worker.generation;
        worker.expires = max_age.map(|max_age| expiry(now, id, max_age));
        let text = format!("{worker} ready in={}ms", now - worker.ordered);
        self.log(Level::Info, text);
        self.prove(now, generation);
    }

    /// A generation's first worker is ready.
    fn prove(&mut self, now: Ms, id: u32) {
        let first_ever = self.current.is_none();
        let Some(generation) =
            self.generation_mut(id).filter(|generation| generation.phase == Phase::Canary)
        else {
            return;
        };
        if first_ever {
            self.enthrone(now, id);
            self.push(Action::Serving);
            self.tell(Some(id), News::Serving);
        } else {
            generation.phase = Phase::Rolling;
            generation.deadline = None;
        }
    }

    pub(super) fn worker_exited(
        &mut self,
        now: Ms,
        id: WorkerId,
        ending: Ending,
        remains: &Remains,
    ) {
        let Some(worker) = self.workers.remove(&id) else { return };
        self.push(Action::Forget { worker: id });
        let own = Some(worker.generation).filter(|generation| self.wants_news(*generation));
        let news = News::Died { worker: id, pid: worker.pid.map(Pid::as_raw) };
        self.tell(own.or(self.current), news);
        let how = format!("{ending}{}", remains.blame(ending));
        let story = format!("{how}; age={} {remains}", Span(now - worker.ordered));
        match worker.state {
            State::Starting { .. } => {
                let reason = format!("{worker} died before it was ready: {how}");
                self.boot_failed(now, worker.generation, ending.boot_code(), &reason);
            }
            State::Ready { .. } if ending == Ending::Code(0) => {
                self.log(Level::Info, format!("{worker} left by itself"))
            }
            State::Ready { since } if now < since + QUICK_DEATH => {
                let reason = format!("{worker} died as soon as it was ready: {story}");
                self.boot_failed(now, worker.generation, 3, &reason);
            }
            State::Ready { .. } => self.log(Level::Error, format!("{worker} died: {story}")),
            State::Retiring { .. } if ending == Ending::Code(0) => {
                self.log(Level::Info, format!("{worker} left"))
            }
            State::Retiring { .. } => {
                self.log(Level::Warn, format!("{worker} died while it was retiring: {story}"))
            }
            State::Killed { .. } => {
                let cause = worker.cause.as_deref().unwrap_or("the server gave up");
                let how = format!("{ending}; age={} {remains}", Span(now - worker.ordered));
                self.log(Level::Warn, format!("{worker} was killed by the master, {cause}: {how}"));
            }
        }
    }

    /// A worker did not come up, or not to stay: the end of a candidate, a reason to be slower for
    /// the current generation.
    fn boot_failed(&mut self, now: Ms, generation: u32, code: i32, reason: &str) {
        if self.candidate == Some(generation) {
            self.fail(now, generation, code, reason);
        } else {
            self.log(Level::Error, reason.to_owned());
            self.back_off(now, generation);
        }
    }

    fn back_off(&mut self, now: Ms, id: u32) {
        if let Some(generation) = self.generation_mut(id) {
            generation.retry.fail(now);
        }
    }

    pub(super) fn worker_stuck(&mut self, now: Ms, id: WorkerId, silent: Ms, request: &str) {
        if now < self.patience {
            return;
        }
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let (State::Ready { .. } | State::Retiring { .. }, Some(pid)) = (worker.state, worker.pid)
        else {
            return;
        };
        worker.state = State::Killed { deadline: Some(now + ABORT_GRACE) };
        worker.cause = Some(format!("no sign of life for {} (timeout)", Span(silent)));
        let text = format!("{worker} stuck for={} {request}: aborting it", Span(silent));
        self.log(Level::Error, text);
        self.push(Action::Signal { pid, signal: Signal::SIGABRT });
    }

    pub(super) fn worker_due(&mut self, now: Ms, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        let generation = worker.generation;
        match worker.state {
            State::Starting { .. } => {
                let boot =
                    self.generation(generation).map_or(0, |generation| generation.settings.boot);
                let cause = format!("not ready within {} (boot-timeout)", Span(boot));
                let reason = format!("{worker} {cause}");
                let was_forked = worker.pid.is_some();
                self.kill_worker(id, &cause);
                if !was_forked {
                    self.kill_mold(generation, Level::Error, "it does not fork");
                }
                self.boot_failed(now, generation, 3, &reason);
            }
            State::Retiring { signal, .. } => {
                self.kill_worker(id, &format!("not gone in time after {signal}"))
            }
            State::Killed { .. } => self.kill_worker(id, ""),
            State::Ready { .. } => self.worker_aged(now, id),
        }
    }

    /// SIGKILL, now or as soon as it has a pid. The first cause stays.
    pub(super) fn kill_worker(&mut self, id: WorkerId, cause: &str) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.state == (State::Killed { deadline: None }) {
            return;
        }
        worker.state = State::Killed { deadline: None };
        worker.cause.get_or_insert_with(|| cause.to_owned());
        self.send(id, Signal::SIGKILL);
    }

    /// SIGKILL: it had its time, to fork (then it is what hangs) or to leave.
    fn kill_mold(&mut self, id: u32, level: Level, cause: &'static str) {
        let Some(generation) = self.generation_mut(id) else { return };
        let Some(pid) = generation.mold.pid() else { return };
        generation.killed = Some(cause);
        self.log(level, format!("gen={id} mold pid={pid}: {cause}, killing it"));
        self.push(Action::Signal { pid, signal: Signal::SIGKILL });
    }
}
