//! What a reactor tells of its exchanges, and what it is told for that.

use super::Reactor;
use crate::gateway::ExchangeId;
use crate::statsd::Statsd;

impl Reactor {
    /// Tells `statsd` of each request from now on.
    pub fn measure(&mut self, statsd: Statsd) {
        self.core.statsd = Some(statsd);
    }

    /// Names of the environ's values that the access log shows.
    pub fn environ_wanted(&self) -> &[String] {
        self.core.access.as_ref().map_or(&[], |access| access.needs().environ())
    }

    /// Tells those values of a request, before its `respond`, `finish` or `fail`.
    pub fn note_environ(&mut self, id: ExchangeId, values: Vec<Option<Vec<u8>>>) {
        if let Some(conn) = self.conns.get_mut(id.key).filter(|conn| conn.runs(id)) {
            conn.note_environ(values);
        }
    }
}
