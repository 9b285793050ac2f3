//! How exchanges and connections end, and which of them somebody still answers.

use super::Reactor;
use crate::gateway::ExchangeId;

impl Reactor {
    /// Exchanges that have lost their client in the middle of a response, since
    /// the last call. Only with [`crate::Options::notice_gone`].
    pub fn take_gone(&mut self) -> Vec<ExchangeId> {
        std::mem::take(&mut self.gone)
    }

    /// The application has finished. Once only, however often it says so: the
    /// slot may be another exchange's by then.
    pub(super) fn release(&mut self, id: ExchangeId) {
        let finished = self.running.remove(&id);
        self.core.counters.finished += u64::from(finished);
    }

    /// Lets go of all sockets, as they are: whatever there is for a client goes nowhere.
    /// For a process that ends, and for one that was forked from this one; nothing is
    /// taken out of the poller, which both have.
    pub fn forsake(&mut self) {
        self.conns.clear();
        self.running.clear();
        self.doors.clear();
        self.core.hand_off = None;
    }

    /// Gives the place of a closed connection to others.
    pub(super) fn forget(&mut self, key: usize) {
        let id = self.conns.remove(key).id();
        if self.core.options.notice_gone && self.running.contains(&id) {
            self.gone.push(id);
        }
        if self.short.is_some() {
            // There is a descriptor again.
            self.accept_again = None;
        }
    }
}
