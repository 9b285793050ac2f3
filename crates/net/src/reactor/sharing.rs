//! What a reactor shares with those of other workers: it puts connections that
//! it has no slot for, takes those that others have put, and leaves its own to
//! its heirs when it drains.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mio::Interest;
use mio::unix::SourceFd;
use socket2::{SockAddr, SockRef};

use super::{Reactor, TAKE};
use crate::conn::Conn;
use crate::core::{Core, Drain};
use crate::gateway::Exchange;
use crate::handoff::{Company, HandOff, Inflow, Put, Taken, Wait};

/// How long to wait for room in a full pair.
const PUT_PAUSE: Duration = Duration::from_millis(5);

/// Who is there for the connections of a reactor that drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heirs {
    /// Other workers, which take what is put into the shared pair.
    Some,
    /// Nobody: the server stops. What others have put must be served here.
    None,
}

impl Reactor {
    /// Shares connections with all workers that have the same pair
    /// ([`crate::hand_off`]): requests that have to wait here are put, and taken
    /// by whoever has a slot. A worker without company would take them itself,
    /// and only leaves its connections to heirs.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn share(&mut self, put: OwnedFd, take: OwnedFd, company: Company) -> io::Result<()> {
        let hand_off = HandOff::new(put, take, company);
        let fd = hand_off.take_fd();
        self.core.registry.register(&mut SourceFd(&fd), TAKE, Interest::READABLE)?;
        self.core.hand_off = Some(hand_off);
        Ok(())
    }

    /// Puts the complete requests that have to wait here, the oldest first. What
    /// cannot move, or finds no room, stays. [`Reactor::settle`] does so while
    /// there are more requests than free slots.
    pub fn offload(&mut self) {
        let company = self.core.hand_off.as_ref().map_or(Company::None, |pair| pair.company);
        let anybody = match self.core.drain {
            Drain::No => company == Company::Some,
            Drain::Since { heirs, .. } => heirs == Heirs::Some,
        };
        if !anybody {
            return;
        }
        let first = self.free().min(self.core.ready.len());
        let mut waiting = self.core.ready.split_off(first);
        let mut put = Put::Done;
        while put != Put::Full
            && let Some(exchange) = waiting.pop_front()
        {
            put = self.move_away(exchange.id.key, |conn, core| conn.put_request(core, &exchange));
            if put != Put::Done {
                self.core.ready.push_back(exchange);
            }
        }
        self.core.ready.append(&mut waiting);
        if put == Put::Full {
            self.put_again();
        }
    }

    /// No more connections than are queued now. With `heirs`, idle connections
    /// are left to them; without, they are closed after `idle`, which is also
    /// the time for those that cannot move. No second request on any after it.
    ///
    /// May be called again: a worker that was retired may be told that the whole
    /// server stops.
    pub fn drain(&mut self, idle: Duration, heirs: Heirs) {
        let now = Instant::now();
        let idle_until = now + idle;
        // Without a pair nobody can inherit.
        let heirs = self.core.hand_off.as_ref().map_or(Heirs::None, |_| heirs);
        self.core.drain = Drain::Since { idle_until, heirs };
        self.count_queues();
        // The queue may hold connections whose edge was consumed long ago.
        for door in &mut self.doors {
            door.ready = true;
        }
        if let Some(hand_off) = &mut self.core.hand_off {
            hand_off.inflow = match heirs {
                Heirs::Some => Inflow::Shut,
                Heirs::None => Inflow::Ready,
            };
            hand_off.put_again = (heirs == Heirs::Some).then_some(now);
        }
        for (_, conn) in &mut self.conns {
            conn.drain(&mut self.core, idle_until);
        }
    }

    /// Takes one connection that another worker has put; false when there is
    /// none, or no slot for its request.
    pub(super) fn take(&mut self) -> bool {
        if !self.may_take() {
            return false;
        }
        if let Err(error) = self.take_one() {
            self.cannot_accept(&error);
        }
        true
    }

    fn take_one(&mut self) -> io::Result<()> {
        let taken = match &self.core.hand_off {
            Some(hand_off) => hand_off.take(&mut self.core.inbox),
            None => Ok(None),
        };
        match taken? {
            Some(taken) => self.adopt(taken),
            None => self.nothing_to_take(),
        }
        Ok(())
    }

    fn nothing_to_take(&mut self) {
        let draining = self.core.drain != Drain::No;
        if let Some(hand_off) = &mut self.core.hand_off {
            // Whoever puts something from now on is not draining yet, and will
            // look for it when it does. So nothing is left behind.
            hand_off.inflow = if draining { Inflow::Shut } else { Inflow::Empty };
        }
    }

    fn adopt(&mut self, taken: Taken) {
        let Taken { fd, bytes, wait } = taken;
        let socket = SockRef::from(&fd);
        let ends = socket.local_addr().and_then(|local| Ok((local, socket.peer_addr()?)));
        self.core.counters.taken += 1;
        let Ok((local, peer)) = ends else {
            // Without a peer the client has gone while it was on its way.
            self.core.counters.abandoned += u64::from(wait != Wait::Idle);
            return;
        };
        let listener = self.listener_of(&local);
        self.open(fd, peer.as_socket(), listener, Some((bytes, wait)));
    }

    /// The listener that a connection with this end came in by. One that only
    /// another generation has counts as the first.
    fn listener_of(&self, local: &SockAddr) -> usize {
        self.doors.iter().position(|door| door.local.accepts(local)).unwrap_or(0)
    }

    /// At the end of a turn: whoever could be served elsewhere is not kept
    /// waiting here, and nobody waits for too long.
    pub(super) fn relieve(&mut self) {
        let now = self.core.now;
        let may_put = match &mut self.core.hand_off {
            Some(hand_off) => {
                hand_off.put_again = hand_off.put_again.filter(|at| *at > now);
                hand_off.look_again = hand_off.look_again.filter(|at| *at > now);
                hand_off.put_again.is_none()
            }
            None => false,
        };
        if self.core.ready.len() > self.free() {
            self.offload();
            self.shed();
        }
        if !self.has_slot() {
            self.shed_put();
        } else if let Some(hand_off) = &mut self.core.hand_off {
            hand_off.look_again = None;
        }
        if may_put && self.core.drain.heirs() == Some(Heirs::Some) {
            self.bequeath();
        }
    }

    /// While there is no slot here, there may be none elsewhere either: what was
    /// put is shed from here when its time is over.
    fn shed_put(&mut self) {
        let Some(timeout) = self.core.options.queue_timeout else { return };
        while let Some(hand_off) = &mut self.core.hand_off
            && hand_off.inflow != Inflow::Shut
            && hand_off.look_again.is_none()
        {
            match hand_off.first() {
                None => return,
                Some(Wait::Since(at)) if self.core.now < at + timeout => {
                    hand_off.look_again = Some(at + timeout);
                }
                // One that only waits for its client may do so here.
                Some(_) => {
                    if let Err(error) = self.take_one() {
                        return self.cannot_accept(&error);
                    }
                }
            }
        }
    }

    /// A worker that retires begins nothing that an heir can have: a client that
    /// always has a next request would keep it for ever.
    pub(super) fn leave(&mut self, exchange: &Exchange) -> Put {
        if self.core.drain.heirs() != Some(Heirs::Some) {
            return Put::Stays;
        }
        self.move_away(exchange.id.key, |conn, core| conn.put_request(core, exchange))
    }

    /// The last to come are the first to be refused.
    fn shed(&mut self) {
        let Some(limit) = self.core.options.queue_limit else { return };
        let limit = limit.saturating_add(self.free());
        while self.core.ready.len() > limit
            && let Some(exchange) = self.core.ready.pop_back()
        {
            self.on_conn(exchange.id.key, Conn::shed);
        }
    }

    fn bequeath(&mut self) {
        let keys: Vec<usize> = self.conns.iter().map(|(key, _)| key).collect();
        for key in keys {
            if self.move_away(key, |conn, core| conn.put_idle(core)) == Put::Full {
                return self.put_again();
            }
        }
    }

    /// There was no room.
    fn put_again(&mut self) {
        if let Some(hand_off) = &mut self.core.hand_off {
            hand_off.put_again = Some(self.core.now + PUT_PAUSE);
        }
    }

    fn move_away(&mut self, key: usize, put: impl FnOnce(&mut Conn, &mut Core) -> Put) -> Put {
        let mut what = Put::Stays;
        self.on_conn(key, |conn, core| what = put(conn, core));
        what
    }

    pub(super) fn may_take(&self) -> bool {
        self.may_accept()
            && self.core.hand_off.as_ref().is_some_and(|pair| pair.inflow == Inflow::Ready)
    }

    pub(super) fn take_event(&mut self) {
        if let Some(hand_off) = &mut self.core.hand_off
            && hand_off.inflow == Inflow::Empty
        {
            hand_off.inflow = Inflow::Ready;
        }
    }
}
