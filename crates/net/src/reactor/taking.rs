//! For drivers whose threads help themselves: they pull requests, take heads
//! out while Python reads them, and whole connections for an application that
//! speaks another protocol on them.

use std::os::fd::OwnedFd;

use serve_http::Head;

use super::Reactor;
use crate::core::Drain;
use crate::gateway::{Exchange, ExchangeId};
use crate::handoff::Inflow;

impl Reactor {
    /// A complete request, if there is one and a slot for it. If there is none,
    /// answers that were deferred are written: nobody else is to be waited for.
    pub fn pull(&mut self) -> Option<Exchange> {
        let mut pulled = self.run();
        if pulled.is_none() && self.core.deferred.has_answers && self.flush_deferred() {
            pulled = self.run();
            // Pipelined requests may be left to the next turn.
            self.rouse();
        }
        if pulled.is_none() {
            self.core.flush_logs();
        }
        pulled
    }

    /// Complete requests that wait, if there is a slot for one.
    pub fn waiting(&self) -> usize {
        if self.has_slot() { self.core.ready.len() } else { 0 }
    }

    /// Exchanges that the application has or will have.
    pub fn load(&self) -> usize {
        self.running.len() + self.core.ready.len()
    }

    /// From now on the application may have so many requests at the same time.
    pub fn set_slots(&mut self, slots: usize) {
        self.core.options.slots = slots;
    }

    /// Takes the head of a request out, to be read while others use the reactor;
    /// `None` once its client has gone. [`Reactor::restore_head`] must follow
    /// before the answer.
    pub fn take_head(&mut self, id: ExchangeId) -> Option<Head> {
        let conn = self.conns.get_mut(id.key)?;
        conn.runs(id).then(|| conn.take_head())
    }

    /// Gives back what [`Reactor::take_head`] gave.
    pub fn restore_head(&mut self, id: ExchangeId, head: Head) {
        if let Some(conn) = self.conns.get_mut(id.key)
            && conn.runs(id)
        {
            conn.restore_head(head);
        }
    }

    /// The certificate that the client of an exchange has shown, in PEM: an
    /// authority that we trust vouches for it.
    pub fn certificate(&self, id: ExchangeId) -> Option<String> {
        self.conns.get(id.key).filter(|conn| conn.runs(id))?.certificate()
    }

    /// Takes the connection of an exchange away from the reactor, with what its
    /// client has sent after the request; `None` if the client has gone, the answer
    /// has begun, or the connection speaks TLS, which nobody else would know. The exchange keeps its slot until its end, of which
    /// nothing is sent any more.
    pub fn detach(&mut self, id: ExchangeId) -> Option<(OwnedFd, Vec<u8>)> {
        let conn = self.conns.get_mut(id.key)?;
        if !conn.runs(id) || conn.http().response_started() || conn.is_secure() {
            return None;
        }
        conn.leave(&mut self.core);
        Some(self.conns.remove(id.key).into_parts())
    }

    /// Whether a drain has come to its end.
    pub fn is_drained(&self) -> bool {
        self.remnant() == Some(0)
    }

    /// How many exchanges keep a drain from its end, if nothing else does.
    pub fn remnant(&self) -> Option<usize> {
        let drained = self.core.drain != Drain::No
            && self.doors.iter().all(|door| door.acceptor.is_none())
            && self.core.hand_off.as_ref().is_none_or(|pair| pair.inflow == Inflow::Shut)
            && self.conns.is_empty();
        drained.then_some(self.running.len())
    }
}
