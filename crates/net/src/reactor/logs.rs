//! What the application's side tells of an exchange beyond its response.

use super::Reactor;
use crate::gateway::ExchangeId;

impl Reactor {
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
