//! A connected socket, TCP or unix: the few calls that are made on it.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::libc;
use nix::sys::sendfile::sendfile64;
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, sendmsg, shutdown};
use socket2::SockRef;

use crate::info;

/// Non-blocking; closed when dropped.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

/// What follows a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Perhaps more, perhaps nothing for a long time.
    More,
    /// The end, at once: it may leave together with this.
    End,
}

/// What one read or write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    /// So many bytes; 0 from a read is the end of the stream.
    Bytes(usize),
    /// The kernel has no data, or no room, now.
    Blocked,
    /// The connection is gone.
    Gone,
}

impl Socket {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// recv(2) and send(2) take a shorter way through the kernel than read(2) and
    /// writev(2): 5 % of the instructions of a small request.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Moved {
        moved(|| recv(self.0.as_raw_fd(), buffer, MsgFlags::empty()))
    }

    pub(crate) fn write(&self, parts: &[IoSlice<'_>], then: Then) -> Moved {
        let flags = match then {
            Then::More => MsgFlags::MSG_NOSIGNAL,
            // One packet in place of two.
            Then::End => MsgFlags::MSG_NOSIGNAL | MsgFlags::from_bits_retain(libc::MSG_MORE),
        };
        match parts {
            [part] => moved(|| send(self.0.as_raw_fd(), part, flags)),
            parts => moved(|| sendmsg::<()>(self.0.as_raw_fd(), parts, &[], flags, None)),
        }
    }

    /// Whether there is something to read, without reading it.
    pub(crate) fn has_input(&self) -> bool {
        let mut byte = [0];
        let peeked = moved(|| recv(self.0.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK));
        matches!(peeked, Moved::Bytes(1))
    }

    /// Whether the client has shut the connection down or broken it, and left
    /// nothing to read.
    pub(crate) fn is_ended(&self) -> bool {
        let mut byte = [0];
        let peeked = moved(|| recv(self.0.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK));
        matches!(peeked, Moved::Bytes(0) | Moved::Gone)
    }

    /// How long ago the last byte came; `None` if this is not TCP.
    pub(crate) fn silent_for(&self) -> Option<Duration> {
        info::silent_for(&self.0)
    }

    /// Sends up to `count` bytes of `file` from `offset` (sendfile(2)).
    ///
    /// # Errors
    /// When the file cannot be read; a broken connection is [`Moved::Gone`].
    pub(crate) fn send_file(&self, file: &File, offset: u64, count: u64) -> io::Result<Moved> {
        let mut position = i64::try_from(offset).map_err(io::Error::other)?;
        // Linux moves at most 0x7ffff000 bytes a call.
        let count = usize::try_from(count.min(0x7fff_f000)).map_err(io::Error::other)?;
        loop {
            match sendfile64(&self.0, file, Some(&mut position), count) {
                Ok(n) => return Ok(Moved::Bytes(n)),
                Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => return Ok(Moved::Blocked),
                Err(nix::Error::EPIPE | nix::Error::ECONNRESET | nix::Error::ETIMEDOUT) => {
                    return Ok(Moved::Gone);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Tells the client that nothing more will come, and goes on reading.
    pub(crate) fn shut_write(&self) -> Moved {
        match shutdown(self.0.as_raw_fd(), Shutdown::Write) {
            Ok(()) => Moved::Bytes(0),
            Err(_) => Moved::Gone,
        }
    }

    /// The close will be a reset, and what the kernel still holds is dropped: the
    /// only way to show a client that a body which ends with the connection is
    /// not complete.
    pub(crate) fn reset_on_close(&self) {
        // Failing, it only leaves an ordinary close.
        if let Err(error) = SockRef::from(&self.0).set_linger(Some(Duration::ZERO)) {
            log::debug!("SO_LINGER: {error}");
        }
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.0
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Every error but "would block" means that the peer is gone or unreachable;
/// which one is of no use to anybody here.
fn moved(mut call: impl FnMut() -> nix::Result<usize>) -> Moved {
    loop {
        match call() {
            Ok(n) => return Moved::Bytes(n),
            Err(nix::Error::EINTR) => {}
            Err(nix::Error::EAGAIN) => return Moved::Blocked,
            Err(_) => return Moved::Gone,
        }
    }
}
