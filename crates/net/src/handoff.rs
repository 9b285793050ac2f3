//! The hand-off: how a connection between two requests moves to another worker.
//!
//! All workers of a server share one pair of `SOCK_SEQPACKET` sockets, made by
//! the master. A message is one connection: its descriptor, and what the client
//! has sent of requests that no application has seen. Everything else, the taker
//! asks the descriptor; so workers of different versions understand each other.
//!
//! A connection is in one process at a time as far as anybody acts on it. The
//! one that puts it drops its copy without shutdown(2), which would end the
//! connection for everybody. What nobody has taken is the kernel's, and ends
//! with the last holder of the pair.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};

/// What each message begins with. It must not be empty, since an empty message
/// reads like the end; and a later form could be told by it.
const FORM: &[u8] = b"1";

/// The most bytes of requests that move with a connection.
pub(crate) const MOST: usize = 32 * 1024;

/// The pair that workers hand connections over by: where to put, and where to
/// take. The master makes one, and each worker gets a copy of both ends
/// ([`crate::Reactor::share`]).
///
/// # Errors
/// Those of socketpair(2).
pub fn hand_off() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

/// A worker's two ends.
pub(crate) struct HandOff {
    put: OwnedFd,
    take: OwnedFd,
    pub(crate) inflow: Inflow,
}

/// Whether this worker takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inflow {
    /// There may be something.
    Ready,
    /// There was nothing; an event will tell.
    Empty,
    /// No more: others do.
    Shut,
}

/// What became of a connection that was to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// Another worker will have it.
    Done,
    /// There is no room now. It stays, and may be tried again.
    Full,
    /// It cannot move as it is.
    Stays,
}

impl HandOff {
    pub(crate) fn new(put: OwnedFd, take: OwnedFd) -> Self {
        Self { put, take, inflow: Inflow::Ready }
    }

    pub(crate) fn take_fd(&self) -> RawFd {
        self.take.as_raw_fd()
    }

    /// Sends a copy of `fd` with what was received on it.
    pub(crate) fn put(&self, fd: RawFd, parts: &[&[u8]]) -> Put {
        let all: Vec<_> = [FORM].iter().chain(parts).map(|part| IoSlice::new(part)).collect();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let rights = [fd];
        let control = [ControlMessage::ScmRights(&rights)];
        loop {
            match sendmsg::<()>(self.put.as_raw_fd(), &all, &control, flags, None) {
                Ok(_) => return Put::Done,
                Err(nix::Error::EINTR) => {}
                // Besides EAGAIN: too many descriptors are on their way (unix(7)).
                Err(error) => {
                    log::debug!("hand-off: sendmsg: {error}");
                    return Put::Full;
                }
            }
        }
    }

    /// A connection and, in `buffer`, what the client has sent already; `None`
    /// if there is none now.
    ///
    /// # Errors
    /// When this process has no descriptor left. The connection then stays.
    pub(crate) fn take<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<(OwnedFd, &'b [u8])>> {
        // Without a free descriptor recvmsg(2) would take the message and drop
        // the connection. Another thread could still be quicker.
        drop(self.take.try_clone()?);
        let Some((fd, len)) = receive(self.take.as_fd(), buffer)? else { return Ok(None) };
        Ok(Some((fd, &buffer[FORM.len().min(len)..len])))
    }
}

fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<(OwnedFd, usize)>> {
    let mut space = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    loop {
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags);
        let message = match message {
            Ok(message) => message,
            Err(nix::Error::EINTR) => continue,
            Err(nix::Error::EAGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let len = message.bytes;
        let fd = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        return match fd {
            // SAFETY: recvmsg has just made this descriptor for us; nobody else
            // knows it. No safe call receives one.
            Some(fd) => Ok(Some((unsafe { OwnedFd::from_raw_fd(fd) }, len))),
            None if len == 0 => Ok(None),
            None => {
                log::error!("hand-off: a connection was lost, for want of a descriptor");
                continue;
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn pair() -> HandOff {
        let (put, take) = hand_off().expect("socketpair");
        HandOff::new(put, take)
    }

    #[test]
    fn a_connection_moves_with_its_bytes() {
        let hand_off = pair();
        let (ours, mut theirs) = UnixStream::pair().expect("pair");
        assert_eq!(hand_off.put(ours.as_raw_fd(), &[b"GET ", b"/"]), Put::Done);
        assert_eq!(hand_off.put(ours.as_raw_fd(), &[]), Put::Done);
        drop(ours);
        let mut buffer = [0; 100];
        let (fd, bytes) = hand_off.take(&mut buffer).expect("take").expect("one");
        assert_eq!(bytes, b"GET /");
        assert!(hand_off.take(&mut [0; 100]).expect("take").is_some_and(|(_, b)| b.is_empty()));
        assert!(hand_off.take(&mut [0; 100]).expect("take").is_none());
        UnixStream::from(fd).write_all(b"hello").expect("write");
        let mut text = String::new();
        theirs.read_to_string(&mut text).expect("the end, since no copy is left");
        assert_eq!(text, "hello");
    }

    #[test]
    fn a_full_pair_refuses_and_loses_nothing() {
        let hand_off = pair();
        let (ours, _theirs) = UnixStream::pair().expect("pair");
        let big = [b'x'; MOST];
        let mut sent = 0;
        while hand_off.put(ours.as_raw_fd(), &[&big]) == Put::Done {
            sent += 1;
        }
        assert!(sent >= 2, "{sent} of the largest fit");
        let mut buffer = vec![0; 2 * MOST];
        for _ in 0..sent {
            let (_, bytes) = hand_off.take(&mut buffer).expect("take").expect("one");
            assert_eq!(bytes.len(), MOST);
        }
        assert!(hand_off.take(&mut buffer).expect("take").is_none());
    }
}
