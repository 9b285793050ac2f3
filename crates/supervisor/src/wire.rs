//! The link's socket: JSON messages over a `SOCK_SEQPACKET` pair, with descriptors beside them
//! (unix(7)).
//!
//! A message is small and arrives whole or not at all, so neither side keeps half of one, and the
//! master, which must never wait for a mold, needs no buffer. What may be large (a configuration)
//! travels as a memory file whose descriptor the message carries.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, sys};

/// The longest message; a failure's text is cut well below it.
const LONGEST_MESSAGE: usize = 128 * 1024;
/// The most descriptors one message can carry (`SCM_MAX_FD` in unix(7)).
const MOST_FDS: usize = 253;
/// A configuration beyond this is a mistake, and would be held in the master's memory.
const LONGEST_BLOB: u64 = 64 * 1024 * 1024;

/// One end.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    /// `MSG_DONTWAIT` at the master's end.
    flags: MsgFlags,
}

/// What came.
#[derive(Debug)]
pub(crate) enum Received<M> {
    Message(M, Vec<OwnedFd>),
    /// Nothing yet; only where receiving does not wait.
    Nothing,
    /// The other side is gone.
    End,
}

/// The master's end, which never waits, and the mold's, which does.
pub(crate) fn pair() -> Result<(Socket, Socket), Error> {
    let (master, mold) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(Error::system("make a link to a mold (socketpair)"))?;
    let flags = MsgFlags::MSG_DONTWAIT;
    Ok((Socket { fd: master, flags }, Socket { fd: mold, flags: MsgFlags::empty() }))
}

impl Socket {
    pub(crate) fn send<M: Serialize>(
        &self,
        message: &M,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), Error> {
        let bytes = serde_json::to_vec(message).map_err(|error| Error::Link(error.to_string()))?;
        let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let rights = if fds.is_empty() { &rights[..0] } else { &rights };
        let flags = self.flags | MsgFlags::MSG_NOSIGNAL;
        let send =
            || sendmsg::<()>(self.fd.as_raw_fd(), &[IoSlice::new(&bytes)], rights, flags, None);
        uninterrupted(send)
            .map_err(Error::system("send to the other end of a link (sendmsg)"))
            .map(drop)
    }

    pub(crate) fn receive<M: DeserializeOwned>(&self) -> Result<Received<M>, Error> {
        let mut bytes = vec![0; LONGEST_MESSAGE];
        let mut control = nix::cmsg_space!([RawFd; MOST_FDS]);
        let flags = self.flags | MsgFlags::MSG_CMSG_CLOEXEC;
        let mut fds = Vec::new();
        let (length, cut) = loop {
            let mut buffers = [IoSliceMut::new(&mut bytes)];
            match recvmsg::<()>(self.fd.as_raw_fd(), &mut buffers, Some(&mut control), flags) {
                Ok(received) => {
                    for message in
                        received.cmsgs().map_err(Error::system("receive descriptors (recvmsg)"))?
                    {
                        if let ControlMessageOwned::ScmRights(rights) = message {
                            fds.extend(sys::own(rights));
                        }
                    }
                    break (received.bytes, received.flags.contains(MsgFlags::MSG_TRUNC));
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Received::Nothing),
                Err(Errno::ECONNRESET) => return Ok(Received::End),
                Err(errno) => {
                    return Err(Error::System { doing: "receive from a link (recvmsg)", errno });
                }
            }
        };
        match length {
            0 => Ok(Received::End),
            _ if cut => Err(Error::Link(format!("a message of more than {LONGEST_MESSAGE} bytes"))),
            _ => serde_json::from_slice(&bytes[..length])
                .map(|message| Received::Message(message, fds))
                .map_err(|error| Error::Link(error.to_string())),
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Bytes of any length as something that a message can carry.
pub(crate) fn blob(bytes: &[u8]) -> Result<OwnedFd, Error> {
    let fd = memfd_create("serve-link", MFdFlags::MFD_CLOEXEC)
        .map_err(Error::system("make a memory file"))?;
    let mut file = File::from(fd);
    file.write_all(bytes).map_err(Error::io("write a memory file"))?;
    Ok(file.into())
}

/// Reads what [`blob`] wrote.
pub(crate) fn unblob(fd: OwnedFd) -> Result<Vec<u8>, Error> {
    let mut file = File::from(fd);
    let mut bytes = Vec::new();
    // The descriptor shares its position with the writer's.
    file.rewind()
        .and_then(|()| file.take(LONGEST_BLOB).read_to_end(&mut bytes))
        .map_err(Error::io("read a memory file"))?;
    Ok(bytes)
}

fn uninterrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (master, mold) = pair().unwrap();
        let config = vec![b'x'; 3_000_000];
        let file = blob(&config).unwrap();
        mold.send(&"report", &[file.as_fd()]).unwrap();
        mold.send(&"ready", &[]).unwrap();
        drop(mold);
        let Received::Message(text, mut fds) = master.receive::<String>().unwrap() else {
            panic!("nothing came")
        };
        assert_eq!((text.as_str(), fds.len()), ("report", 1));
        assert_eq!(unblob(fds.remove(0)).unwrap(), config);
        assert!(
            matches!(master.receive::<String>().unwrap(), Received::Message(text, _) if text == "ready")
        );
        assert!(matches!(master.receive::<String>().unwrap(), Received::End));
    }

    #[test]
    fn the_master_waits_for_nothing() {
        let (master, mold) = pair().unwrap();
        assert!(matches!(master.receive::<String>().unwrap(), Received::Nothing));
        while master.send(&"an order that nobody reads", &[]).is_ok() {}
        drop(mold);
        assert!(master.send(&"to nobody", &[]).is_err());
    }
}
