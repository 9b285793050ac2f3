//! What a client has not taken yet: pieces of memory and of files, in order.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};

use crate::core::SHARE;
use crate::stream::{Moved, Stream, Then};

/// How many pieces go into one writev(2).
const BATCH: usize = 16;
/// Bytes beyond which a piece of memory is not appended to. A piece is freed as
/// a whole, and a reader that is always a little behind would never let it.
const PIECE: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Out {
    queue: VecDeque<Piece>,
    /// Bytes of memory pieces not yet written.
    memory: usize,
}

#[derive(Debug)]
enum Piece {
    /// INVARIANT: `done < bytes.len()`.
    Memory { bytes: Vec<u8>, done: usize },
    /// INVARIANT: `left > 0`.
    File { file: File, offset: u64, left: u64 },
}

/// How far writing got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Nothing is left.
    All,
    /// The client must read first; `progress` tells whether it took anything.
    Blocked { progress: bool },
    /// The client takes more than its share: the others first.
    More,
    /// The client has gone.
    Gone,
}

impl Out {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes held in memory.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// Copies what the kernel did not take of `parts` (its first `skip` bytes
    /// are written already).
    pub(crate) fn keep(&mut self, parts: &[&[u8]], mut skip: usize) {
        let total = parts.iter().map(|part| part.len()).sum::<usize>().saturating_sub(skip);
        if total == 0 {
            return;
        }
        self.memory += total;
        let mut add = |bytes: &mut Vec<u8>| {
            bytes.reserve(total);
            for part in parts {
                bytes.extend_from_slice(part.get(skip..).unwrap_or_default());
                skip = skip.saturating_sub(part.len());
            }
        };
        match self.queue.back_mut() {
            Some(Piece::Memory { bytes, .. }) if bytes.len() < PIECE => add(bytes),
            _ => {
                let mut bytes = Vec::new();
                add(&mut bytes);
                self.queue.push_back(Piece::Memory { bytes, done: 0 });
            }
        }
    }

    pub(crate) fn push_file(&mut self, file: File, offset: u64, left: u64) {
        if left > 0 {
            self.queue.push_back(Piece::File { file, offset, left });
        }
    }

    /// Writes until everything is gone, the socket is full, or [`SHARE`] has been
    /// written; `then`: what follows all of it.
    ///
    /// # Errors
    /// When a file cannot be read, or is shorter than was promised; the
    /// response cannot be completed then.
    pub(crate) fn flush(&mut self, stream: &mut Stream, then: Then) -> io::Result<Flushed> {
        let mut share = SHARE;
        while let Some(front) = self.queue.front_mut() {
            if share == 0 {
                return Ok(Flushed::More);
            }
            let moved = match front {
                Piece::File { file, offset, left } => {
                    let moved = stream.send_file(file, *offset, (*left).min(share as u64))?;
                    if moved == Moved::Bytes(0) {
                        return Err(io::Error::other("the file is shorter than announced"));
                    }
                    moved
                }
                Piece::Memory { .. } => Self::write_memory(&self.queue, stream, then),
            };
            match moved {
                Moved::Bytes(n) => {
                    share = share.saturating_sub(n);
                    self.advance(n);
                }
                Moved::Blocked => return Ok(Flushed::Blocked { progress: share < SHARE }),
                Moved::Gone => return Ok(Flushed::Gone),
            }
        }
        Ok(Flushed::All)
    }

    fn write_memory(queue: &VecDeque<Piece>, stream: &mut Stream, then: Then) -> Moved {
        let mut parts = [IoSlice::new(&[]); BATCH];
        let mut used = 0;
        for piece in queue.iter().take(BATCH) {
            let Piece::Memory { bytes, done } = piece else { break };
            parts[used] = IoSlice::new(&bytes[*done..]);
            used += 1;
        }
        let then = if used == queue.len() { then } else { Then::More };
        stream.write(&parts[..used], then)
    }

    fn advance(&mut self, mut n: usize) {
        while let Some(front) = self.queue.front_mut() {
            match front {
                Piece::Memory { bytes, done } => {
                    let step = n.min(bytes.len() - *done);
                    *done += step;
                    self.memory -= step;
                    n -= step;
                    if *done < bytes.len() {
                        return;
                    }
                }
                Piece::File { offset, left, .. } => {
                    let step = (n as u64).min(*left);
                    *offset += step;
                    *left -= step;
                    n -= usize::try_from(step).unwrap_or(n);
                    if *left > 0 {
                        return;
                    }
                }
            }
            self.queue.pop_front();
            if n == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn pieces_arrive_in_order_however_slowly_they_are_taken() {
        let (ours, mut theirs) = UnixStream::pair().expect("pair");
        ours.set_nonblocking(true).expect("non-blocking");
        let mut stream = Stream::new(OwnedFd::from(ours));
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(&[b'f'; 300_000]).expect("write");
        let big = vec![b'm'; 300_000];
        let mut out = Out::default();
        out.keep(&[b"head ", &big, b"tail "], 2);
        out.push_file(file, 100_000, 200_000);
        out.keep(&[b" end"], 0);
        assert_eq!(out.memory(), 3 + 300_000 + 5 + 4);
        let mut got = Vec::new();
        let mut buffer = vec![0; 50_000];
        while out.flush(&mut stream, Then::More).expect("flush") != Flushed::All {
            let n = theirs.read(&mut buffer).expect("read");
            got.extend_from_slice(&buffer[..n]);
        }
        assert_eq!(out.memory(), 0);
        drop(stream);
        theirs.read_to_end(&mut got).expect("rest");
        let want = [b"ad ".as_slice(), &big, b"tail ", &[b'f'; 200_000], b" end"].concat();
        assert!(got == want, "{} bytes differ from {}", got.len(), want.len());
    }

    #[test]
    fn what_is_written_is_freed_although_more_is_always_appended() {
        let (ours, mut theirs) = UnixStream::pair().expect("pair");
        ours.set_nonblocking(true).expect("non-blocking");
        let mut stream = Stream::new(OwnedFd::from(ours));
        let mut out = Out::default();
        let mut buffer = vec![0; 10_000];
        for _ in 0..1000 {
            while out.memory() < 300_000 {
                out.keep(&[&buffer], 0);
            }
            out.flush(&mut stream, Then::More).expect("flush");
            theirs.read_exact(&mut buffer).expect("read");
        }
        let held = |piece: &Piece| match piece {
            Piece::Memory { bytes, .. } => bytes.capacity(),
            Piece::File { .. } => 0,
        };
        let held: usize = out.queue.iter().map(held).sum();
        assert!(held < 1_000_000, "{held} bytes for {}", out.memory());
    }

    #[test]
    fn one_client_takes_no_more_than_its_share_at_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let mut theirs = std::net::TcpStream::connect(address).expect("connect");
        let (ours, _) = listener.accept().expect("accept");
        ours.set_nonblocking(true).expect("non-blocking");
        socket2::SockRef::from(&ours).set_send_buffer_size(4 * SHARE).expect("buffer");
        let mut stream = Stream::new(OwnedFd::from(ours));
        let file = tempfile::tempfile().expect("file");
        file.set_len(2 * SHARE as u64).expect("length");
        let mut out = Out::default();
        out.push_file(file, 0, 2 * SHARE as u64);
        assert_eq!(out.flush(&mut stream, Then::More).expect("flush"), Flushed::More);
        let mut buffer = vec![0; SHARE];
        theirs.read_exact(&mut buffer).expect("its share is there");
        theirs.set_nonblocking(true).expect("non-blocking");
        assert!(theirs.read(&mut buffer).is_err(), "and nothing more");
    }

    #[test]
    fn a_file_that_shrank_is_an_error_not_a_silent_short_body() {
        let (ours, _theirs) = UnixStream::pair().expect("pair");
        let mut stream = Stream::new(OwnedFd::from(ours));
        let mut out = Out::default();
        out.push_file(tempfile::tempfile().expect("file"), 0, 10);
        assert!(out.flush(&mut stream, Then::More).is_err());
    }
}
