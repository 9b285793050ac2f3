//! A connection to a syslog daemon. Each process has its own; one that is lost is
//! made anew, at most once a second, without waiting for it.
//!
//! Messages are told apart by their length (RFC 6587 section 3.4.1) on TCP, and by
//! a NUL behind each, as syslog(3) does it, on a unix socket.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

/// How long a process waits for its connection when it begins.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a lost connection is made anew.
const AGAIN: Duration = Duration::from_secs(1);
/// Bytes that may wait for the daemon.
const MOST: usize = 64 * 1024;

pub(crate) struct Stream {
    domain: Domain,
    target: SockAddr,
    socket: Option<Socket>,
    /// When it was connected last.
    tried: Instant,
    /// Whole messages, but for what of the first has been sent.
    waiting: Vec<u8>,
}

impl Stream {
    pub(crate) fn tcp(target: SocketAddr) -> io::Result<Self> {
        Self::new(Domain::for_address(target), target.into())
    }

    pub(crate) fn unix(path: &str) -> io::Result<Self> {
        Self::new(Domain::UNIX, SockAddr::unix(path)?)
    }

    fn new(domain: Domain, target: SockAddr) -> io::Result<Self> {
        let (socket, tried, waiting) = (None, Instant::now(), Vec::new());
        let mut stream = Self { domain, target, socket, tried, waiting };
        stream.connect()?;
        Ok(stream)
    }

    /// Waits, but not for long.
    fn connect(&mut self) -> io::Result<()> {
        let socket = Socket::new(self.domain, Type::STREAM, None)?;
        socket.connect_timeout(&self.target, PATIENCE)?;
        socket.set_nonblocking(true)?;
        self.socket = Some(socket);
        Ok(())
    }

    /// The connection is another process's; this one makes its own.
    pub(crate) fn forked(&mut self) {
        self.socket = None;
        self.waiting.clear();
        self.tried = Instant::now();
        // Whoever sends next is told.
        self.connect().ok();
    }

    /// Sends a message, or keeps it until the daemon takes it.
    pub(crate) fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.again()?;
        if self.waiting.len() + message.len() > MOST {
            self.flush()?;
            if self.waiting.len() + message.len() > MOST {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        if self.domain == Domain::UNIX {
            self.waiting.extend_from_slice(message);
            self.waiting.push(0);
        } else {
            self.waiting.extend_from_slice(format!("{} ", message.len()).as_bytes());
            self.waiting.extend_from_slice(message);
        }
        self.flush()
    }

    /// Begins a new connection in place of a lost one.
    fn again(&mut self) -> io::Result<()> {
        if self.socket.is_some() {
            return Ok(());
        }
        if self.tried.elapsed() < AGAIN {
            return Err(io::ErrorKind::NotConnected.into());
        }
        self.tried = Instant::now();
        let socket = Socket::new(self.domain, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&self.target) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => Err(error),
            _ => {
                self.socket = Some(socket);
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        while !self.waiting.is_empty() {
            match socket.write(&self.waiting) {
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // A part of a message would spoil the next connection.
                    self.socket = None;
                    self.waiting.clear();
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
