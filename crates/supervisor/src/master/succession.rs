//! How one master follows another: it starts the next one, or takes over from the last.

use std::os::fd::AsRawFd;

use nix::unistd::getpid;

use super::Master;
use crate::table::Event;
use crate::upgrade;

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
        self.started = Some(started);
        self.site.upgraded(pid);
        Ok(Event::Upgraded { pid })
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
