//! A request body on its way in: in memory up to a limit, a large one too while
//! the reactor's pool of memory has room for it; else in an unlinked temporary
//! file, so that it costs disk and not memory. Memory costs a third of the CPU.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A complete request body, as the application gets it.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Memory(Bytes),
    /// An unlinked file and its length in bytes; read from offset 0.
    File(File, u64),
}

/// The bytes of a body, and the part of the pool that they have.
#[derive(Debug, Default)]
pub struct Bytes {
    bytes: Vec<u8>,
    /// `None`: it is too small to count.
    claim: Option<Claim>,
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, claim: None }
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::Memory(Bytes::default())
    }
}

impl Body {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, len) => *len,
        }
    }

    /// Whether there is no byte in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The memory that large bodies may have, all those of a reactor together.
#[derive(Debug, Clone)]
pub(crate) struct Pool(Arc<AtomicUsize>);

/// A part of the pool, in bytes, until it is dropped: by whatever thread the
/// application has let go of the body in.
#[derive(Debug)]
struct Claim(Pool, usize);

impl Pool {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    fn claim(&self, bytes: u64) -> Option<Claim> {
        let bytes = usize::try_from(bytes).ok()?;
        let less = |left: usize| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok()?;
        Some(Claim(self.clone(), bytes))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.0.fetch_add(self.1, Ordering::Relaxed);
    }
}

/// What a body may cost.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    /// Bytes of memory for each body.
    pub(crate) each: usize,
    pub(crate) pool: Pool,
}

/// A body that is still arriving.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    memory: Bytes,
    file: Option<(File, u64)>,
}

impl Spool {
    /// Appends a piece. `announced` is the length of the whole, in bytes; a body
    /// that does not tell it has no part in the pool.
    ///
    /// # Errors
    /// When the temporary directory is full or cannot be written.
    pub(crate) fn push(
        &mut self,
        piece: &[u8],
        room: &Room,
        announced: Option<u64>,
    ) -> io::Result<()> {
        let held = self.memory.bytes.len();
        if self.file.is_none() && self.memory.claim.is_none() && held + piece.len() > room.each {
            self.memory.claim = announced.and_then(|len| room.pool.claim(len));
            match &self.memory.claim {
                Some(Claim(_, len)) => self.memory.bytes.reserve_exact(len - held),
                None => self.spill()?,
            }
        }
        match &mut self.file {
            Some((file, len)) => {
                file.write_all(piece)?;
                *len += piece.len() as u64;
            }
            None => self.memory.bytes.extend_from_slice(piece),
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        let mut file = tempfile::tempfile()?;
        file.write_all(&self.memory)?;
        self.file = Some((file, self.memory.len() as u64));
        self.memory = Bytes::default();
        Ok(())
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.file.as_ref().map_or(self.memory.len() as u64, |(_, len)| *len)
    }

    pub(crate) fn finish(&mut self) -> Body {
        match self.file.take() {
            Some((file, len)) => Body::File(file, len),
            None => Body::Memory(std::mem::take(&mut self.memory)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn room(each: usize, pool: usize) -> Room {
        Room { each, pool: Pool::new(pool) }
    }

    #[test]
    fn it_stays_in_memory_up_to_the_limit_and_then_moves_whole() {
        let room = room(8, 9);
        let mut spool = Spool::default();
        spool.push(b"0123", &room, None).expect("memory");
        spool.push(b"4567", &room, None).expect("memory");
        assert!(spool.file.is_none());
        spool.push(b"8", &room, None).expect("file");
        assert_eq!((spool.len(), spool.memory.bytes.capacity()), (9, 0));
        spool.push(b"9", &room, None).expect("file");
        let Body::File(file, 10) = spool.finish() else { panic!("not a file of 10 bytes") };
        let mut text = [0; 10];
        file.read_exact_at(&mut text, 0).expect("read");
        assert_eq!(&text, b"0123456789");
        assert_eq!(spool.len(), 0, "a finished spool is empty again");
    }

    #[test]
    fn large_ones_share_a_pool_and_the_others_are_in_files() {
        let room = room(2, 10);
        let whole = |text: &[u8], announced| {
            let mut spool = Spool::default();
            for piece in text.chunks(2) {
                spool.push(piece, &room, Some(announced)).expect("push");
            }
            spool.finish()
        };
        let first = whole(b"012345", 6);
        assert!(matches!(&first, Body::Memory(bytes) if **bytes == *b"012345"));
        assert!(matches!(whole(b"012345", 6), Body::File(_, 6)), "only 4 are left");
        let second = whole(b"0123", 4);
        assert!(matches!(&second, Body::Memory(_)), "there were 4");
        drop(first);
        assert!(matches!(whole(b"012345", 6), Body::Memory(_)), "they were given back");
        let most = whole(b"0123", u64::MAX);
        assert!(matches!(most, Body::File(_, 4)), "whatever a client announces");
        assert!(matches!(whole(b"0", 1), Body::Memory(_)), "small ones need no part of it");
    }
}
