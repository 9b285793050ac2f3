//! The hand-off: how a connection between two requests moves to another worker.
//!
//! All workers of a server share one pair of `SOCK_SEQPACKET` sockets, made by
//! the master. A message is one connection: its descriptor, what the client has
//! sent of requests that no application has seen, and since when a request
//! waits. Everything else, the taker asks the descriptor.
//!
//! A connection is in one process at a time as far as anybody acts on it. The
//! one that puts it drops its copy without shutdown(2), which would end the
//! connection for everybody. What nobody has taken is the kernel's, and ends
//! with the last holder of the pair.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv,
    recvmsg, sendmsg, setsockopt, socketpair, sockopt,
};
use nix::time::{ClockId, clock_gettime};

/// What messages look like, which is also what each begins with. Another layout
/// needs another number: servers of two versions share a pair only if they have
/// the same.
pub const FORM: u8 = 2;

/// The most bytes of requests that move with a connection.
pub(crate) const MOST: usize = 32 * 1024;

/// The form, since when a request waits, and how many bytes follow.
const HEADER: usize = 1 + 8 + 4;

/// Messages are padded to a multiple of it, and one byte more if a request
/// waits. So the kernel's count of bytes that nobody has received, modulo this,
/// is the number of requests that wait: as long as fewer have [`ROOM`].
const STEP: usize = 512;
static PADDING: [u8; STEP] = [0; STEP];

/// Bytes of memory for messages. Linux doubles it, and counts more than twice a
/// `STEP` for the shortest: there is room for some three hundred.
const ROOM: usize = 208 * 1024;

/// The pair that workers hand connections over by: where to put, and where to
/// take. The master makes one, and each worker gets a copy of both ends
/// ([`crate::Reactor::share`]).
///
/// # Errors
/// Those of socketpair(2) and setsockopt(2).
pub fn hand_off() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (put, take) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    setsockopt(&put, sockopt::SndBuf, &ROOM)?;
    Ok((put, take))
}

/// A worker's two ends.
pub(crate) struct HandOff {
    put: OwnedFd,
    take: OwnedFd,
    pub(crate) company: Company,
    pub(crate) inflow: Inflow,
    /// When to try again to put what had no room.
    pub(crate) put_again: Option<Instant>,
    /// When the wait of a request in the pair may be over.
    pub(crate) look_again: Option<Instant>,
}

/// Who else takes, while all is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// Nobody: the pair is for heirs, and for what is left by a predecessor.
    None,
    /// Other workers.
    Some,
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

/// A connection that another worker has put.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) fd: OwnedFd,
    /// What the client has sent already.
    pub(crate) bytes: Vec<u8>,
    pub(crate) wait: Wait,
}

/// What a connection in the pair waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Its client.
    Idle,
    /// A slot for its request, which was complete at this moment.
    Since(Instant),
}

impl Wait {
    /// As all processes of a machine understand it; `Instant` is made of the
    /// same clock on Linux, but does not show it.
    fn to_nanos(self) -> u64 {
        match self {
            Self::Idle => 0,
            Self::Since(at) => {
                let nanos = monotonic().saturating_sub(at.elapsed()).as_nanos();
                u64::try_from(nanos).unwrap_or(u64::MAX).max(1)
            }
        }
    }

    fn from_nanos(nanos: u64) -> Self {
        if nanos == 0 {
            return Self::Idle;
        }
        let (now, age) = (Instant::now(), monotonic().saturating_sub(Duration::from_nanos(nanos)));
        Self::Since(now.checked_sub(age).unwrap_or(now))
    }
}

fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

impl HandOff {
    pub(crate) fn new(put: OwnedFd, take: OwnedFd, company: Company) -> Self {
        Self { put, take, company, inflow: Inflow::Ready, put_again: None, look_again: None }
    }

    pub(crate) fn take_fd(&self) -> RawFd {
        self.take.as_raw_fd()
    }

    /// When to look again, for whatever reason.
    pub(crate) fn due(&self) -> Option<Instant> {
        [self.put_again, self.look_again].into_iter().flatten().min()
    }

    /// Sends a copy of `fd` with what was received on it.
    pub(crate) fn put(&self, fd: RawFd, parts: &[&[u8]], wait: Wait) -> Put {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let header = header(wait, len);
        let more = usize::from(wait != Wait::Idle);
        let whole = (HEADER + len - more).next_multiple_of(STEP) + more;
        let padding = &PADDING[..whole - HEADER - len];
        let all = [&header[..]].into_iter().chain(parts.iter().copied()).chain([padding]);
        let all: Vec<_> = all.map(IoSlice::new).collect();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let rights = [fd];
        let control = [ControlMessage::ScmRights(&rights)];
        loop {
            match sendmsg::<()>(self.put.as_raw_fd(), &all, &control, flags, None) {
                Ok(_) => return Put::Done,
                Err(Errno::EINTR) => {}
                // Besides EAGAIN: too many descriptors are on their way (unix(7)).
                Err(error) => {
                    log::debug!("hand-off: sendmsg: {error}");
                    return Put::Full;
                }
            }
        }
    }

    /// How many requests wait in the pair.
    pub(crate) fn waiting(&self) -> usize {
        let mut bytes: libc::c_int = 0;
        // SAFETY: FIONREAD writes one int, to a live one. nix only has macros that
        // make such a call.
        let done = unsafe { libc::ioctl(self.take.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
        // It cannot fail for a socket. If it did, a limit would not hold, and no
        // request be refused for nothing.
        if done == 0 { usize::try_from(bytes).unwrap_or(0) % STEP } else { 0 }
    }

    /// What the connection waits for that is to be taken next; `None` if there is
    /// none now.
    pub(crate) fn first(&self) -> Option<Wait> {
        let mut header = [0; HEADER];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        match recv(self.take.as_raw_fd(), &mut header, flags) {
            Ok(HEADER) => Some(parse_header(&header).map_or(Wait::Idle, |(wait, _)| wait)),
            _ => None,
        }
    }

    /// A connection, received by way of `buffer`; `None` if there is none now.
    ///
    /// # Errors
    /// When this process has no descriptor left. The connection then stays.
    pub(crate) fn take(&self, buffer: &mut [u8]) -> io::Result<Option<Taken>> {
        loop {
            // Without a free descriptor recvmsg(2) would take the message and drop
            // the connection. Another thread could still be quicker.
            drop(self.take.try_clone()?);
            let Some((fd, len)) = receive(self.take.as_fd(), buffer)? else { return Ok(None) };
            if let Some((wait, bytes)) = parse(&buffer[..len]) {
                return Ok(Some(Taken { fd, bytes: bytes.to_vec(), wait }));
            }
            log::error!("hand-off: a connection came in another form, and was closed");
        }
    }
}

fn header(wait: Wait, len: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = FORM;
    header[1..9].copy_from_slice(&wait.to_nanos().to_le_bytes());
    header[9..].copy_from_slice(&u32::try_from(len).expect("at most MOST").to_le_bytes());
    header
}

/// Since when a request waits, and the bytes; `None` if this is not our form.
fn parse(message: &[u8]) -> Option<(Wait, &[u8])> {
    let (wait, rest) = parse_header(message)?;
    let (len, rest) = rest.split_first_chunk()?;
    Some((wait, rest.get(..usize::try_from(u32::from_le_bytes(*len)).ok()?)?))
}

fn parse_header(message: &[u8]) -> Option<(Wait, &[u8])> {
    let (form, rest) = message.split_first()?;
    let (nanos, rest) = rest.split_first_chunk()?;
    (*form == FORM).then(|| (Wait::from_nanos(u64::from_le_bytes(*nanos)), rest))
}

fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<(OwnedFd, usize)>> {
    let mut space = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    loop {
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags);
        let message = match message {
            Ok(message) => message,
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => return Ok(None),
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
        HandOff::new(put, take, Company::Some)
    }

    /// The bytes of the next connection.
    fn next(hand_off: &HandOff) -> Option<(Vec<u8>, Wait)> {
        let taken = hand_off.take(&mut vec![0; 2 * MOST]).expect("take")?;
        Some((taken.bytes, taken.wait))
    }

    #[test]
    fn a_connection_moves_with_its_bytes() {
        let hand_off = pair();
        let (ours, mut theirs) = UnixStream::pair().expect("pair");
        let wait = Wait::Since(Instant::now());
        assert_eq!(hand_off.put(ours.as_raw_fd(), &[b"GET ", b"/"], wait), Put::Done);
        assert_eq!(hand_off.put(ours.as_raw_fd(), &[], Wait::Idle), Put::Done);
        drop(ours);
        let taken = hand_off.take(&mut [0; 2 * STEP]).expect("take").expect("one");
        assert_eq!(taken.bytes, b"GET /");
        assert_eq!(next(&hand_off), Some((Vec::new(), Wait::Idle)));
        assert_eq!(next(&hand_off), None);
        UnixStream::from(taken.fd).write_all(b"hello").expect("write");
        let mut text = String::new();
        theirs.read_to_string(&mut text).expect("the end, since no copy is left");
        assert_eq!(text, "hello");
    }

    #[test]
    fn it_is_told_since_when_a_request_waits() {
        let hand_off = pair();
        let (ours, _theirs) = UnixStream::pair().expect("pair");
        let put = Instant::now().checked_sub(Duration::from_secs(7)).expect("the machine is up");
        for wait in [Wait::Since(put), Wait::Idle] {
            assert_eq!(hand_off.put(ours.as_raw_fd(), &[b"x"], wait), Put::Done);
        }
        let close = |wait| match wait {
            Wait::Since(at) => at.max(put) - at.min(put) < Duration::from_secs(1),
            Wait::Idle => false,
        };
        assert!(hand_off.first().is_some_and(close), "looking takes nothing");
        assert!(next(&hand_off).is_some_and(|(bytes, wait)| bytes == b"x" && close(wait)));
        assert_eq!(hand_off.first(), Some(Wait::Idle));
        assert!(next(&hand_off).is_some());
        assert_eq!((hand_off.first(), next(&hand_off)), (None, None));
    }

    #[test]
    fn a_full_pair_refuses_and_loses_nothing() {
        for (len, least) in [(0, 100), (499, 100), (MOST, 4)] {
            let hand_off = pair();
            let (ours, _theirs) = UnixStream::pair().expect("pair");
            let (bytes, wait) = (vec![b'x'; len], Wait::Since(Instant::now()));
            let mut sent = 0;
            while hand_off.put(ours.as_raw_fd(), &[&bytes], wait) == Put::Done {
                sent += 1;
                assert_eq!(hand_off.waiting(), sent, "the kernel's count");
            }
            assert!((least..STEP).contains(&sent), "{sent} of {len} bytes fit");
            for left in (0..sent).rev() {
                assert!(next(&hand_off).is_some_and(|(taken, _)| taken == bytes));
                assert_eq!(hand_off.waiting(), left);
            }
            assert_eq!(next(&hand_off), None);
        }
    }

    #[test]
    fn idle_connections_do_not_count_as_waiting() {
        let hand_off = pair();
        let (ours, _theirs) = UnixStream::pair().expect("pair");
        let waits = [Wait::Idle, Wait::Since(Instant::now()), Wait::Idle];
        for (wait, len) in waits.into_iter().zip([0, 900, 499]) {
            assert_eq!(hand_off.put(ours.as_raw_fd(), &[&vec![b'x'; len]], wait), Put::Done);
        }
        assert_eq!(hand_off.waiting(), 1);
    }

    #[test]
    fn a_message_of_another_form_is_closed_and_the_next_one_taken() {
        let hand_off = pair();
        let (ours, mut theirs) = UnixStream::pair().expect("pair");
        let rights = [ours.as_raw_fd()];
        for strange in [&b"1GET / HTTP/1.1"[..], &[FORM; HEADER]] {
            let parts = [IoSlice::new(strange)];
            let control = [ControlMessage::ScmRights(&rights)];
            let flags = MsgFlags::empty();
            sendmsg::<()>(hand_off.put.as_raw_fd(), &parts, &control, flags, None).expect("send");
        }
        drop(ours);
        let (next_one, _their) = UnixStream::pair().expect("pair");
        assert_eq!(hand_off.put(next_one.as_raw_fd(), &[b"x"], Wait::Idle), Put::Done);
        assert_eq!(next(&hand_off), Some((b"x".to_vec(), Wait::Idle)));
        assert_eq!(theirs.read(&mut [0]).expect("read"), 0, "closed");
    }
}
