//! The master and its like: the new one that it starts, and the old one that started it.

use std::os::fd::AsRawFd;

use nix::unistd::getpid;

use super::{Master, NEW_MASTER, watch};
use crate::table::Event;
use crate::upgrade::{self, Started};

impl Master<'_> {
    /// The service goes on without this process if a new master is there.
    pub(super) fn say_goodbye(&mut self) {
        match self.table.new_master() {
            Some(pid) => self.notify.main_pid(pid),
            None => self.notify.stopping(),
        }
    }

    pub(super) fn upgrade(&mut self) -> Result<Event, String> {
        if self.predecessor.is_some() {
            return Err("the old master of the last upgrade is still there".to_owned());
        }
        let started = upgrade::start(self.site.upgrade()?, &self.lifeline.0);
        let started = started.map_err(|error| error.to_string())?;
        let pid = started.pid;
        if let Err(error) = watch(&self.poll, started.ready.as_raw_fd(), NEW_MASTER) {
            log::warn!("cannot poll the pipe of new master pid={pid}: {error}");
        }
        self.started = Some(started);
        self.site.upgraded(pid);
        Ok(Event::Upgraded { pid })
    }

    /// Before anything else that has come: whoever sends TERM knows that the new master serves.
    pub(super) fn hear_new_master(&mut self) {
        if self.started.as_ref().is_some_and(Started::serves) {
            self.events.push_back(Event::NewMasterServes);
        }
    }

    pub(super) fn forget_new_master(&mut self) {
        let Some(started) = self.started.take() else { return };
        self.unwatch(started.ready.as_raw_fd());
        if let Some(reason) = started.failure() {
            log::error!("new master: {reason}");
        }
    }

    /// The old master has gone: nothing is ever written to its lifeline.
    pub(super) fn take_over(&mut self) {
        if let Some(lifeline) = self.predecessor.take() {
            self.unwatch(lifeline.as_raw_fd());
            log::info!("the old master has gone; this one is the server now");
            self.notify.main_pid(getpid());
            self.site.promoted();
        }
    }
}
