//! A connection's bytes, whatever becomes of them on the wire: as they are, or
//! by way of TLS. Whoever reads and writes here need not know which.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use crate::socket::Socket;
pub(crate) use crate::socket::{Moved, Then};
pub(crate) use crate::tls::Shake;
use crate::tls::{Session, Tls};

/// Non-blocking; closed when dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: Socket,
    /// `None`: bytes are sent and received as they are.
    session: Option<Box<Session>>,
}

impl Stream {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { socket: Socket::new(fd), session: None }
    }

    /// From now on the client has to speak TLS; `early` is what it has said
    /// already.
    ///
    /// # Errors
    /// When a session cannot begin, in words for the log.
    pub(crate) fn secure(&mut self, tls: &Tls, early: &[u8]) -> Result<(), String> {
        self.session = Some(Box::new(Session::new(tls, early)?));
        Ok(())
    }

    /// Whether what is sent and received is encrypted.
    pub(crate) fn is_secure(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.is_over())
    }

    /// Whether the client has said anything of TLS.
    pub(crate) fn has_begun(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.has_begun())
    }

    /// Goes on with a handshake.
    pub(crate) fn shake_hands(&mut self) -> Shake {
        match &mut self.session {
            None => Shake::Done,
            Some(session) => session.shake_hands(&self.socket),
        }
    }

    /// The certificate that the client has shown, in PEM.
    pub(crate) fn certificate(&self) -> Option<String> {
        self.session.as_ref()?.certificate()
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Moved {
        match &mut self.session {
            None => self.socket.read(buffer),
            Some(session) => session.read(&self.socket, buffer),
        }
    }

    /// Whether a read has left nothing, to be asked right after it. `filled`: it
    /// had no room for more.
    pub(crate) fn is_spent(&self, filled: bool) -> bool {
        // A short read has emptied the socket; what comes later is a new edge
        // (epoll(7)), so a read that finds nothing is saved.
        !filled && self.session.as_ref().is_none_or(|session| session.is_dry())
    }

    /// Tells how many bytes have left. If these are not all, the next write has
    /// to begin with the others.
    pub(crate) fn write(&mut self, parts: &[IoSlice<'_>], then: Then) -> Moved {
        match &mut self.session {
            None => self.socket.write(parts, then),
            // Its farewell comes in between.
            Some(session) => session.write(&self.socket, parts),
        }
    }

    /// The same for up to `count` bytes of `file` from `offset`.
    ///
    /// # Errors
    /// When the file cannot be read; a broken connection is [`Moved::Gone`].
    pub(crate) fn send_file(&mut self, file: &File, offset: u64, count: u64) -> io::Result<Moved> {
        match &mut self.session {
            None => self.socket.send_file(file, offset, count),
            Some(session) => session.send_file(&self.socket, file, offset, count),
        }
    }

    /// The socket has room again: what TLS itself has to say leaves.
    pub(crate) fn push(&mut self) {
        if let Some(session) = &mut self.session {
            session.push_own(&self.socket);
        }
    }

    /// Whether there is something to read, without reading it.
    pub(crate) fn has_input(&self) -> bool {
        self.socket.has_input()
    }

    /// Whether the client has shut the connection down or broken it, and left
    /// nothing to read. What there is to read may have left the socket then.
    pub(crate) fn is_ended(&mut self) -> bool {
        match &mut self.session {
            None => self.socket.is_ended(),
            Some(session) => session.is_ended(&self.socket),
        }
    }

    /// How long ago the last byte came; `None` if this is not TCP.
    pub(crate) fn silent_for(&self) -> Option<Duration> {
        self.socket.silent_for()
    }

    /// Tells the client that nothing more will come, and goes on reading.
    pub(crate) fn shut_write(&mut self) -> Moved {
        self.farewell();
        self.socket.shut_write()
    }

    /// All that was sent is complete, and the end of the connection comes next: a
    /// client that speaks TLS is told so. `Blocked`: not yet.
    pub(crate) fn farewell(&mut self) -> Moved {
        match &mut self.session {
            None => Moved::Bytes(0),
            Some(session) => session.farewell(&self.socket),
        }
    }

    /// It is not complete: the end comes without farewell.
    pub(crate) fn break_off(&mut self) {
        if let Some(session) = &mut self.session {
            session.break_off();
        }
    }

    /// The close will be a reset, and what the kernel still holds is dropped: the
    /// only way to show a client that a body which ends with the connection is
    /// not complete.
    pub(crate) fn reset_on_close(&mut self) {
        self.break_off();
        self.socket.reset_on_close();
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.socket.into_fd()
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.socket.raw_fd()
    }
}
