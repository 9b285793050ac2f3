//! How connections come in: from the listeners' queues, while there is a slot
//! for their requests.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mio::unix::SourceFd;

use super::Reactor;
use crate::conn::Conn;
use crate::core::Drain;
use crate::handoff::Wait;

/// Connections taken from the queue of a listener that is being closed, where
/// its length is not known.
const UNKNOWN: usize = 4096;
/// How long not to accept when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long nothing may have been missing before the log says so.
const RECOVERED: Duration = Duration::from_secs(1);

impl Reactor {
    /// Accepts one connection and reads from it; false when there is none, or no
    /// slot for its request.
    pub(super) fn accept(&mut self) -> bool {
        if !self.may_accept() {
            return false;
        }
        let count = self.doors.len();
        let Some(index) = (self.next_door..self.next_door + count)
            .map(|index| index % count)
            .find(|index| self.doors[*index].ready)
        else {
            return false;
        };
        let door = &mut self.doors[index];
        let Some(acceptor) = &door.acceptor else {
            door.ready = false;
            return true;
        };
        match acceptor.accept() {
            Ok((fd, peer)) => {
                self.core.counters.accepted += 1;
                self.recovered();
                self.open(fd, peer, index, None);
                if self.core.drain != Drain::No {
                    self.count_down(index);
                }
                // A busy door must not starve the others.
                self.next_door = index + 1;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                door.ready = false;
                if self.core.drain != Drain::No {
                    self.shut(index);
                }
            }
            // The client gave up while it was queued (accept(2)).
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => self.cannot_accept(&error),
        }
        true
    }

    /// A listener that is being closed has so many left to accept: those that
    /// wait now. Under load its queue may never be empty again.
    pub(super) fn count_queues(&mut self) {
        for door in &mut self.doors {
            let queued =
                door.acceptor.as_ref().map(|acceptor| acceptor.queued().unwrap_or(UNKNOWN));
            // One attempt there always is: it finds the queue empty, and closes.
            door.left = queued.unwrap_or(0).max(1);
        }
    }

    fn count_down(&mut self, index: usize) {
        let door = &mut self.doors[index];
        door.left = door.left.saturating_sub(1);
        if door.left == 0 {
            self.shut(index);
        }
    }

    /// Descriptors have run out, or memory. The queue keeps who is in it, and a
    /// request there is worth more than a connection without one.
    pub(super) fn cannot_accept(&mut self, error: &io::Error) {
        if self.short.is_none() {
            log::warn!(
                "cannot accept connections: {error}; they wait, and idle ones are closed to make \
                 room. If it happens often, raise the limit (ulimit -n, LimitNOFILE=)"
            );
        }
        self.short = Some(self.core.now);
        self.accept_again = Some(self.core.now + ACCEPT_PAUSE);
        let idle = self.conns.iter().filter_map(|(key, conn)| Some((conn.idle_until()?, key)));
        if let Some((_, key)) = idle.min() {
            self.on_conn(key, Conn::close);
        }
    }

    /// An episode without descriptors ends with a moment in which none was
    /// missing.
    fn recovered(&mut self) {
        if self.short.is_some_and(|at| self.core.now > at + RECOVERED) {
            self.short = None;
            log::info!("connections are accepted again");
        }
    }

    /// A new connection. One that another worker has put brings what it has read
    /// of it.
    pub(super) fn open(
        &mut self,
        fd: OwnedFd,
        peer: Option<SocketAddr>,
        listener: usize,
        put: Option<(Vec<u8>, Wait)>,
    ) {
        self.serial = self.serial.wrapping_add(1);
        let entry = self.conns.vacant_entry();
        let key = entry.key();
        entry.insert(Conn::new(&self.core, fd, peer, listener, key, self.serial));
        self.on_conn(key, |conn, core| {
            if put.is_none() {
                conn.accepted(core);
            }
            let (received, wait) = put.unwrap_or((Vec::new(), Wait::Idle));
            conn.begin_with(core, received, wait);
        });
    }

    fn shut(&mut self, index: usize) {
        let door = &mut self.doors[index];
        door.ready = false;
        let Some(acceptor) = door.acceptor.take() else { return };
        // Closing is not enough: other processes hold the same socket open, and
        // while they do the poller would go on reporting it.
        if let Err(error) = self.core.registry.deregister(&mut SourceFd(&acceptor.raw_fd())) {
            log::debug!("epoll_ctl: {error}");
        }
    }
}
