//! A request body on its way in: in memory up to a limit, then in an unlinked
//! temporary file, so that a large upload costs disk and not memory.

use std::fs::File;
use std::io::{self, Write};

/// A complete request body, as the application gets it.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Memory(Vec<u8>),
    /// An unlinked file and its length in bytes; read from offset 0.
    File(File, u64),
}

impl Default for Body {
    fn default() -> Self {
        Self::Memory(Vec::new())
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

/// A body that is still arriving.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    memory: Vec<u8>,
    file: Option<(File, u64)>,
}

impl Spool {
    /// Appends a piece; beyond `limit` bytes everything goes to a file.
    ///
    /// # Errors
    /// When the temporary directory is full or cannot be written.
    pub(crate) fn push(&mut self, piece: &[u8], limit: usize) -> io::Result<()> {
        if self.file.is_none() && self.memory.len() + piece.len() > limit {
            let mut file = tempfile::tempfile()?;
            file.write_all(&self.memory)?;
            self.file = Some((file, self.memory.len() as u64));
            self.memory = Vec::new();
        }
        match &mut self.file {
            Some((file, len)) => {
                file.write_all(piece)?;
                *len += piece.len() as u64;
            }
            None => self.memory.extend_from_slice(piece),
        }
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

    #[test]
    fn it_stays_in_memory_up_to_the_limit_and_then_moves_whole() {
        let mut spool = Spool::default();
        spool.push(b"0123", 8).expect("memory");
        spool.push(b"4567", 8).expect("memory");
        assert!(spool.file.is_none());
        spool.push(b"8", 8).expect("file");
        assert_eq!((spool.len(), spool.memory.capacity()), (9, 0));
        spool.push(b"9", 8).expect("file");
        let Body::File(file, 10) = spool.finish() else { panic!("not a file of 10 bytes") };
        let mut text = [0; 10];
        file.read_exact_at(&mut text, 0).expect("read");
        assert_eq!(&text, b"0123456789");
        assert_eq!(spool.len(), 0, "a finished spool is empty again");
    }
}
