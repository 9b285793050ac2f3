//! TLS on one connection: between the bytes that the socket has and those that
//! the connection reads and writes.
//!
//! Reads no more than is asked for, and keeps no more on its way out than
//! [`CHUNK`] in records. It does not hold what it was given to write: bytes count
//! as written when their records have left, and whoever writes gives the others
//! again. So the buffer of the connection is the only one, with its limits.
//!
//! What connections without TLS come past is not inlined: its large frames on the
//! stack would be theirs, too.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::FileExt;

use rustls::{CertificateError, Error, ServerConnection};

use super::Tls;
use super::files::pem;
use crate::core::SHARE;
use crate::socket::{Moved, Socket, Then};

/// Bytes that are encrypted at once.
const CHUNK: usize = 64 * 1024;
/// The largest record's (RFC 8446 section 5.1).
const RECORD: usize = 16 * 1024;
/// Parts that go into it.
const PARTS: usize = 16;
/// Bytes that may bring nothing for the connection, one after the other: far
/// more than any record or handshake has. A client could go on for ever.
const FRUITLESS: usize = 256 * 1024;
/// A buffer for records that is kept for the next ones.
const KEPT: usize = 4 * 1024;
/// Bytes of what a client says first that are looked at.
const FIRST: usize = 4 * 1024;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Session {
    tls: ServerConnection,
    /// Bytes of the client's that are still to be given to `tls`.
    early: Vec<u8>,
    stage: Stage,
    /// The last read has emptied the socket.
    dry: bool,
    /// On their way to the client; so many have left.
    records: Vec<u8>,
    left: usize,
    /// Bytes that are in the records and have not been told as written.
    owed: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing of the client's was looked at.
    Start,
    /// It speaks TLS.
    Tls,
    /// It does not. What is sent and received is as it is.
    Plain,
    /// TLS has come to its end on the connection: nothing more is sent, and what
    /// is received is not looked at.
    Over,
}

/// How far a handshake has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shake {
    Done,
    /// The client's turn.
    Blocked,
    /// The client has gone.
    Gone,
    /// The client does not speak TLS, but what looks like HTTP.
    Plain,
    /// It cannot succeed, for this reason.
    Failed(String),
}

/// What became of a look at the socket.
enum Fetched {
    /// It had so many bytes.
    Some(usize),
    /// It is empty.
    Nothing,
    /// The client sends no more.
    End,
    /// It sends what TLS does not allow, or says so of us.
    Wrong(Error),
}

impl Session {
    /// # Errors
    /// When it cannot begin, in words for the log.
    pub(crate) fn new(tls: &Tls, early: &[u8]) -> Result<Self, String> {
        let mut tls = ServerConnection::new(tls.0.clone()).map_err(|error| error.to_string())?;
        // What is written is limited here.
        tls.set_buffer_limit(None);
        Ok(Self {
            tls,
            early: early.to_vec(),
            stage: Stage::Start,
            dry: false,
            records: Vec::new(),
            left: 0,
            owed: 0,
        })
    }

    /// Whether the client has said anything.
    pub(crate) fn has_begun(&self) -> bool {
        self.stage != Stage::Start || !self.early.is_empty()
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Plain | Stage::Over)
    }

    /// Whether the last read has emptied the socket. What had come then is read,
    /// unless it has filled the buffer.
    pub(crate) fn is_dry(&self) -> bool {
        self.dry || self.is_over()
    }

    #[inline(never)]
    pub(crate) fn shake_hands(&mut self, socket: &Socket) -> Shake {
        if self.stage == Stage::Start {
            match self.first(socket) {
                Shake::Done => self.stage = Stage::Tls,
                shake => return shake,
            }
        }
        let mut fruitless = 0;
        while fruitless < FRUITLESS {
            if !self.tls.is_handshaking() {
                return Shake::Done;
            }
            match self.fetch(socket) {
                Fetched::Some(n) => fruitless += n,
                Fetched::Nothing => return Shake::Blocked,
                Fetched::End => return Shake::Gone,
                Fetched::Wrong(error) => return self.failed(error),
            }
        }
        self.stage = Stage::Over;
        Shake::Failed("it takes more than any handshake does".into())
    }

    /// Looks at the client's first byte: `Done` if it may be TLS.
    fn first(&mut self, socket: &Socket) -> Shake {
        if self.early.is_empty() {
            let mut bytes = [0; FIRST];
            match socket.read(&mut bytes) {
                Moved::Bytes(0) | Moved::Gone => return Shake::Gone,
                Moved::Blocked => return Shake::Blocked,
                Moved::Bytes(n) => self.early.extend_from_slice(&bytes[..n]),
            }
        }
        // A record of TLS never begins with a letter, and a method always does.
        if self.early.first().is_some_and(u8::is_ascii_alphabetic) {
            self.stage = Stage::Plain;
            return Shake::Plain;
        }
        Shake::Done
    }

    /// The client has been told, as far as it would listen.
    fn failed(&mut self, error: Error) -> Shake {
        self.stage = Stage::Over;
        Shake::Failed(match error {
            Error::AlertReceived(alert) => format!("the client refuses: {alert:?}"),
            // Such as a client none of whose algorithms suits the key: rustls
            // calls it unexpected, which the log should not.
            Error::General(reason) => reason,
            Error::InvalidCertificate(CertificateError::Other(reason)) => {
                unfit(&reason.to_string())
            }
            error => error.to_string(),
        })
    }

    /// The certificate that the client has shown, in PEM.
    pub(crate) fn certificate(&self) -> Option<String> {
        self.tls.peer_certificates()?.first().map(pem)
    }

    #[inline(never)]
    pub(crate) fn read(&mut self, socket: &Socket, buffer: &mut [u8]) -> Moved {
        if self.is_over() {
            return socket.read(buffer);
        }
        self.dry = false;
        let mut fruitless = 0;
        while fruitless < FRUITLESS {
            match self.tls.reader().read(buffer) {
                // None is the end, in due form.
                Ok(n) => return Moved::Bytes(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Moved::Gone,
            }
            match self.fetch(socket) {
                Fetched::Some(n) => fruitless += n,
                Fetched::Nothing => return Moved::Blocked,
                // An end in due form was found above.
                Fetched::End => return Moved::Gone,
                Fetched::Wrong(error) => {
                    log::debug!("TLS: {error}");
                    self.stage = Stage::Over;
                    return Moved::Gone;
                }
            }
        }
        log::debug!("TLS: the client sends nothing but overhead");
        Moved::Gone
    }

    /// Whether the client sends no more, and nothing of it is unread.
    #[inline(never)]
    pub(crate) fn is_ended(&mut self, socket: &Socket) -> bool {
        let mut fruitless = 0;
        while fruitless < FRUITLESS {
            match self.tls.reader().into_first_chunk() {
                Ok(bytes) => return bytes.is_empty(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return true,
            }
            match self.fetch(socket) {
                Fetched::Some(n) => fruitless += n,
                Fetched::Nothing => return false,
                Fetched::End | Fetched::Wrong(_) => return true,
            }
        }
        true
    }

    /// One read from the socket, and what follows of it.
    fn fetch(&mut self, socket: &Socket) -> Fetched {
        let mut source = Source { early: &mut self.early, socket, dry: &mut self.dry };
        let n = match self.tls.read_tls(&mut source) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Fetched::Nothing,
            Ok(0) | Err(_) => return Fetched::End,
            Ok(n) => n,
        };
        let processed = self.tls.process_new_packets();
        // Its part of a handshake, or an alert. If the client has gone, the next
        // read finds out.
        self.push_own(socket);
        match processed {
            Ok(state) => {
                // The end is no emptiness: it must be read, after the bytes before it.
                self.dry &= !state.peer_has_closed();
                Fetched::Some(n)
            }
            Err(error) => Fetched::Wrong(error),
        }
    }

    /// Sends what is TLS's own. Records with the connection's bytes wait for its
    /// next write, which is told how many of them have left.
    #[inline(never)]
    pub(crate) fn push_own(&mut self, socket: &Socket) {
        if self.owed == 0 {
            self.push(socket);
        }
    }

    /// Sends records: `Blocked` if not all.
    fn push(&mut self, socket: &Socket) -> Moved {
        while self.tls.wants_write() {
            if self.tls.write_tls(&mut self.records).is_err() {
                return Moved::Gone;
            }
        }
        while self.left < self.records.len() {
            match socket.write(&[IoSlice::new(&self.records[self.left..])], Then::More) {
                Moved::Bytes(n) => self.left += n,
                moved => return moved,
            }
        }
        self.left = 0;
        if self.records.capacity() > KEPT {
            self.records = Vec::new();
        } else {
            self.records.clear();
        }
        Moved::Bytes(0)
    }

    #[inline(never)]
    pub(crate) fn write(&mut self, socket: &Socket, parts: &[IoSlice<'_>]) -> Moved {
        match self.stage {
            Stage::Plain => return socket.write(parts, Then::More),
            Stage::Over => return Moved::Gone,
            Stage::Start | Stage::Tls => {}
        }
        let total = parts.iter().map(|part| part.len()).sum::<usize>().min(SHARE);
        let moved = self.move_out(socket, total, |tls, done| encrypt(tls, parts, done));
        moved.unwrap_or_else(|error| {
            log::debug!("TLS: {error}");
            Moved::Gone
        })
    }

    /// # Errors
    /// When the file cannot be read.
    #[inline(never)]
    pub(crate) fn send_file(
        &mut self,
        socket: &Socket,
        file: &File,
        offset: u64,
        count: u64,
    ) -> io::Result<Moved> {
        if self.is_over() {
            return Ok(Moved::Gone);
        }
        let total = usize::try_from(count).unwrap_or(SHARE).min(SHARE);
        self.move_out(socket, total, |tls, done| {
            let mut buffer = [0; RECORD];
            let most = RECORD.min(total - done);
            match file.read_at(&mut buffer[..most], offset + done as u64)? {
                0 => Ok(0),
                n => encrypt(tls, &[IoSlice::new(&buffer[..n])], 0),
            }
        })
    }

    /// Sends `total` bytes, in pieces: `next` encrypts one, which begins after so
    /// many bytes, and tells its length.
    fn move_out(
        &mut self,
        socket: &Socket,
        total: usize,
        mut next: impl FnMut(&mut ServerConnection, usize) -> io::Result<usize>,
    ) -> io::Result<Moved> {
        let mut done = 0;
        loop {
            let moved = self.push(socket);
            // Records are longer than what is in them: so much has left for sure.
            let told = self.owed.saturating_sub(self.records.len() - self.left);
            self.owed -= told;
            done += told;
            match moved {
                Moved::Gone => return Ok(Moved::Gone),
                Moved::Blocked if done == 0 => return Ok(Moved::Blocked),
                Moved::Blocked => return Ok(Moved::Bytes(done)),
                Moved::Bytes(_) if done >= total => return Ok(Moved::Bytes(done)),
                Moved::Bytes(_) => {}
            }
            self.owed = next(&mut self.tls, done)?;
            if self.owed == 0 {
                return Ok(Moved::Bytes(done));
            }
        }
    }

    /// Tells the client that nothing more will come (`close_notify`): `Blocked` if
    /// that has not left yet, and is to be asked for again. Nothing of TLS comes
    /// after it, in either direction.
    #[inline(never)]
    pub(crate) fn farewell(&mut self, socket: &Socket) -> Moved {
        if !self.is_over() && self.owed == 0 && !self.tls.is_handshaking() {
            self.tls.send_close_notify();
        }
        self.stage = Stage::Over;
        if self.owed == 0 { self.push(socket) } else { Moved::Bytes(0) }
    }

    /// The end comes without that.
    pub(crate) fn break_off(&mut self) {
        self.stage = Stage::Over;
    }
}

/// Why the client's certificate is not taken, for what rustls has no word but the
/// name that the error has in webpki.
fn unfit(reason: &str) -> String {
    let words = match reason {
        "CaUsedAsEndEntity" => "is an authority's own: sign another one with it for the client",
        "UnsupportedCertVersion" => "is of X.509 version 1: sign one of version 3",
        other => return format!("the client's certificate is invalid: {other}"),
    };
    format!("the client's certificate {words}")
}

/// Encrypts a piece of `parts`, without their first `skip` bytes; tells how long
/// it is.
fn encrypt(
    tls: &mut ServerConnection,
    parts: &[IoSlice<'_>],
    mut skip: usize,
) -> io::Result<usize> {
    let mut piece = [IoSlice::new(&[]); PARTS];
    let (mut used, mut room) = (0, CHUNK);
    for part in parts {
        let rest = part.get(skip..).unwrap_or_default();
        skip = skip.saturating_sub(part.len());
        let rest = &rest[..rest.len().min(room)];
        if !rest.is_empty() && used < PARTS {
            piece[used] = IoSlice::new(rest);
            used += 1;
            room -= rest.len();
        }
    }
    match tls.writer().write_vectored(&piece[..used])? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        n => Ok(n),
    }
}

/// What rustls reads from.
struct Source<'a> {
    early: &'a mut Vec<u8>,
    socket: &'a Socket,
    dry: &'a mut bool,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.early.is_empty() {
            let n = self.early.len().min(buffer.len());
            buffer[..n].copy_from_slice(&self.early[..n]);
            self.early.drain(..n);
            if self.early.is_empty() {
                // It is not needed again.
                *self.early = Vec::new();
            }
            return Ok(n);
        }
        let moved = self.socket.read(buffer);
        // The end is no emptiness: it must be read again, and be found again.
        *self.dry = match moved {
            Moved::Bytes(n) => (1..buffer.len()).contains(&n),
            Moved::Blocked => true,
            Moved::Gone => false,
        };
        match moved {
            Moved::Bytes(n) => Ok(n),
            Moved::Blocked => Err(io::ErrorKind::WouldBlock.into()),
            Moved::Gone => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}
