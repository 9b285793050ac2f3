//! What each signal to the master means.

use log::Level;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{Action, Course, ONCE_MORE, QUICK_GRACE, Table};
use crate::death::Span;
use crate::link::News;
use crate::mold::{Mold, Phase};
use crate::worker::{MAX_WORKERS, Ms, WorkerId};

impl Table {
    pub(super) fn signal(&mut self, now: Ms, signal: Signal, from: Option<Pid>) {
        let who = from.map_or_else(|| signal.to_string(), |pid| format!("{signal} from pid={pid}"));
        match signal {
            Signal::SIGTERM => self.terminate(now, &who),
            Signal::SIGINT | Signal::SIGQUIT => self.stop_quickly(now, &who),
            Signal::SIGUSR1 => self.reopen(&who),
            _ if self.course != Course::Serve => {
                self.log(Level::Info, format!("{who}: ignored, the server is stopping"))
            }
            Signal::SIGHUP => self.reload(now, &who),
            Signal::SIGTTIN => self.scale(&who, |target| (target + 1).min(MAX_WORKERS)),
            Signal::SIGTTOU => {
                self.scale(&who, |target| target.saturating_sub(1).max(target.min(1)))
            }
            Signal::SIGWINCH => self.scale(&who, |_| 0),
            Signal::SIGUSR2 => self.upgrade(&who),
            _ => self.log(Level::Debug, format!("{who}: no effect")),
        }
    }

    /// The first TERM begins the drain delay, if there is one; the next, or its end, the stop.
    fn terminate(&mut self, now: Ms, who: &str) {
        let delay =
            self.current.and_then(|id| self.generation(id)).map_or(0, |it| it.settings.drain);
        match self.course {
            Course::Serve if delay > 0 => {
                let text =
                    format!("{who}: serving on for {} (drain-delay), then stopping", Span(delay));
                self.log(Level::Info, text);
                self.course = Course::Drain { until: now + delay };
                self.push(Action::Draining);
            }
            Course::Serve | Course::Drain { .. } => self.stop(now, who),
            Course::Stop { .. } => self.log(Level::Info, format!("{who}: already stopping")),
        }
    }

    pub(super) fn stop(&mut self, now: Ms, why: &str) {
        self.log(Level::Info, format!("{why}: stopping, requests in flight are finished"));
        self.begin_stop(now);
        let signal = self.farewell();
        for id in self.worker_ids() {
            let generation = self.workers.get(&id).map_or(0, |worker| worker.generation);
            let graceful =
                self.generation(generation).map_or(0, |generation| generation.settings.graceful);
            self.stop_worker(now, id, signal, now + graceful);
        }
    }

    fn begin_stop(&mut self, now: Ms) {
        self.course = Course::Stop { code: 0, quick: None };
        self.push(Action::Stopping);
        self.tell(self.current, News::Stopping);
        // Who wants to know how it ends stays until the workers are gone.
        self.leave_all(now, self.current.filter(|id| self.wants_news(*id)));
    }

    fn stop_quickly(&mut self, now: Ms, who: &str) {
        let asked = match self.course {
            Course::Stop { quick, .. } => quick,
            Course::Serve | Course::Drain { .. } => None,
        };
        let (deadline, what) = match asked {
            None => (now + QUICK_GRACE, "stopping at once"),
            Some(since) => (since + ONCE_MORE, "once more, whatever does not end is killed"),
        };
        self.log(Level::Info, format!("{who}: {what}"));
        if !self.is_stopping() {
            self.begin_stop(now);
        }
        if let Course::Stop { quick, .. } = &mut self.course {
            quick.get_or_insert(now);
        }
        // What the workers may need does not matter any more.
        let waiting = self.generations.iter().filter(|generation| generation.waits);
        for id in waiting.map(|generation| generation.id).collect::<Vec<_>>() {
            self.dismiss(now, id);
        }
        for generation in &mut self.generations {
            generation.hurry(deadline);
        }
        for id in self.worker_ids() {
            self.stop_worker(now, id, Signal::SIGQUIT, deadline);
        }
    }

    /// The first start failed: nothing is worth waiting for.
    pub(super) fn kill_all(&mut self, code: i32) {
        self.course = Course::Stop { code, quick: None };
        for id in self.worker_ids() {
            self.kill_worker(id, "the start failed");
        }
        let molds: Vec<Pid> =
            self.generations.iter().filter_map(|generation| generation.mold.pid()).collect();
        for pid in molds {
            self.push(Action::Signal { pid, signal: Signal::SIGKILL });
        }
    }

    fn reload(&mut self, now: Ms, who: &str) {
        let what = match self.candidate {
            None => "reloading".to_owned(),
            Some(id) => format!("reloading once more when gen={id} is done"),
        };
        self.log(Level::Info, format!("{who}: {what}"));
        self.ask_for_generation_at(now);
    }

    fn reopen(&mut self, who: &str) {
        self.log(Level::Info, format!("{who}: reopening logs"));
        self.push(Action::ReopenLogs);
        let linked =
            self.generations.iter().filter(|generation| matches!(generation.mold, Mold::Alive(_)));
        let linked = linked
            .filter(|generation| generation.phase != Phase::Leaving)
            .map(|generation| generation.id);
        let molds: Vec<Action> =
            linked.map(|generation| Action::ReopenMold { generation }).collect();
        self.actions.extend(molds);
        for id in self.worker_ids() {
            self.send(id, Signal::SIGUSR1);
        }
    }

    /// Moves the target of the generation that is wanted; a later reload comes with its own number.
    fn scale(&mut self, who: &str, new: impl Fn(u16) -> u16) {
        let Some(id) = self.wanted().map(|generation| generation.id) else {
            return self.log(Level::Info, format!("{who}: ignored, nothing serves yet"));
        };
        let Some(generation) = self.generation_mut(id) else { return };
        let old = generation.target;
        generation.target = new(old);
        let now = generation.target;
        self.log(Level::Info, format!("{who}: workers={now}, were {old}"));
        if now != old {
            self.tell(Some(id), News::Workers { now, before: Some(old) });
        }
        // During a reload it is told when that is over.
        if self.current == Some(id) {
            self.steady(id);
        }
    }

    pub(super) fn worker_ids(&self) -> Vec<WorkerId> {
        self.workers.keys().copied().collect()
    }
}
