//! SIGUSR2: a new master beside this one.
//!
//! This one changes nothing for itself: it serves on until TERM ends it, or serves on for good if
//! the new one ends first.

use log::Level;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{Action, Table};
use crate::death::{Ending, Remains};
use crate::worker::{Ms, RETIRE};

/// The new master that this one has started.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Upgrade {
    #[default]
    None,
    /// The rim has not answered yet.
    Asked,
    Running(Pid),
    /// It serves, and takes the connections that workers leave.
    Serving(Pid),
}

impl Table {
    pub(super) fn upgrade(&mut self, who: &str) {
        let refused = match self.upgrade {
            _ if self.current.is_none() => "nothing serves yet".to_owned(),
            Upgrade::None => {
                self.log(Level::Info, format!("{who}: starting a new master"));
                self.upgrade = Upgrade::Asked;
                return self.push(Action::Upgrade);
            }
            Upgrade::Asked => "a new master is being started".to_owned(),
            Upgrade::Running(pid) | Upgrade::Serving(pid) => format!(
                "the new master pid={pid} is there already; TERM to it backs out, TERM to this one \
                 completes the upgrade"
            ),
        };
        self.log(Level::Warn, format!("{who}: ignored, {refused}"));
    }

    pub(super) fn upgraded(&mut self, pid: Pid) {
        self.upgrade = Upgrade::Running(pid);
        self.log(Level::Info, format!("new master pid={pid} started; this one serves on"));
    }

    pub(super) fn new_master_serves(&mut self) {
        if let Upgrade::Running(pid) = self.upgrade {
            self.upgrade = Upgrade::Serving(pid);
            self.log(Level::Info, format!("new master pid={pid} serves"));
        }
    }

    /// Workers leave their idle connections to those of a new master that serves.
    pub(super) fn farewell(&self) -> Signal {
        match self.upgrade {
            Upgrade::Serving(_) => RETIRE,
            Upgrade::None | Upgrade::Asked | Upgrade::Running(_) => Signal::SIGTERM,
        }
    }

    pub(super) fn not_upgraded(&mut self, message: &str) {
        self.upgrade = Upgrade::None;
        self.log(Level::Error, format!("no new master: {message}; this one serves on"));
    }

    pub(super) fn new_master_exited(
        &mut self,
        now: Ms,
        pid: Pid,
        ending: Ending,
        remains: &Remains,
    ) {
        let was_heir = matches!(self.upgrade, Upgrade::Serving(_));
        self.upgrade = Upgrade::None;
        let level = if ending == Ending::Code(0) { Level::Info } else { Level::Error };
        let blame = remains.blame(ending);
        let rest = if self.is_stopping() { "stops as well" } else { "serves on" };
        self.log(level, format!("new master pid={pid} has gone: {ending}{blame}; this one {rest}"));
        self.push(Action::UpgradeOver);
        if was_heir && self.is_stopping() {
            // What was left to the new master's workers is theirs again.
            for id in self.worker_ids() {
                self.stop_worker(now, id, Signal::SIGTERM, Ms::MAX);
            }
        }
    }

    /// The new master, if there is one.
    pub(crate) fn new_master(&self) -> Option<Pid> {
        match self.upgrade {
            Upgrade::Running(pid) | Upgrade::Serving(pid) => Some(pid),
            Upgrade::None | Upgrade::Asked => None,
        }
    }
}
