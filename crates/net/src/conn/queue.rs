//! A complete request between its last byte and the application: it waits, and
//! is run, shed or given up.

use std::time::Instant;

use super::{Conn, Phase};
use crate::core::Core;
use crate::gateway::ExchangeId;
use crate::timer::Timer;

/// What a shed client reads; that it may try again, its Retry-After says.
const BUSY: &str = "the server has more requests than it can answer in time";

impl Conn {
    /// The request is complete since then, and waits for the application.
    pub(super) fn wait(&mut self, core: &mut Core, since: Instant) {
        self.phase = Phase::Waiting { since };
        self.record.whole(since);
        if let Some(timeout) = core.options.queue_timeout {
            self.arm(core, Timer::Queue, since + timeout);
        }
    }

    /// Since when `id` is complete, if the application has not seen it.
    pub(crate) fn waits(&self, id: ExchangeId) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { since } if (self.serial, self.number) == (id.serial, id.number) => {
                Some(since)
            }
            _ => None,
        }
    }

    /// The application gets the request now; unless it is too late for that, or
    /// its client has given up meanwhile, which ends the connection.
    pub(crate) fn run(&mut self, core: &mut Core) {
        let Phase::Waiting { since } = self.phase else { return };
        let waited = core.now.saturating_duration_since(since);
        if core.options.queue_timeout.is_some_and(|timeout| waited >= timeout) {
            return self.shed(core);
        }
        self.deadline.clear();
        // Behind pipelined requests the end cannot be seen.
        let silent = self.input.is_empty();
        if waited > core.options.patience && silent && self.has_gone() {
            log::debug!("client={} has gone after {waited:?}; its request is not run", self.peer);
            core.counters.abandoned += 1;
            self.close(core);
        } else {
            self.record.run(core.now);
            self.phase = Phase::Running;
        }
    }

    /// 503, and the connection ends: the client had better try elsewhere.
    pub(crate) fn shed(&mut self, core: &mut Core) {
        let mine = |id: ExchangeId| id.key == self.key && id.serial == self.serial;
        if let Some(at) = core.ready.iter().position(|exchange| mine(exchange.id)) {
            core.ready.remove(at);
        }
        core.counters.shed += 1;
        self.refuse(core, 503, BUSY);
        self.pump(core);
    }
}
