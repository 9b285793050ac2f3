//! A request body on its way in: a short one in memory, a longer one too while the
//! reactor's pool of memory has room for it; else in an unlinked temporary file, so
//! that it costs disk and not memory. Memory costs a third of the CPU.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use memmap2::{Advice, MmapMut};

/// A complete request body, as the application gets it.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Memory(Bytes),
    /// An unlinked file and its length in bytes; read from offset 0.
    File(File, u64),
}

/// The bytes of a body, in memory of the pool if they are many.
#[derive(Debug, Default)]
pub struct Bytes(Place);

#[derive(Debug)]
enum Place {
    /// Memory of its own; the pool has that much less, unless it is [`SHORT`].
    Own(Vec<u8>, Option<Part>),
    /// Memory of the pool, of which so many bytes have arrived.
    Pool { map: MmapMut, len: usize, pool: Pool },
}

impl Default for Place {
    fn default() -> Self {
        Self::Own(Vec::new(), None)
    }
}

/// By whatever thread the application has let go of the body in.
impl Drop for Bytes {
    fn drop(&mut self) {
        if let Place::Pool { map, pool, .. } = std::mem::take(&mut self.0) {
            pool.give_back(map);
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Place::Own(bytes, None))
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Place::Own(bytes, _) => bytes,
            Place::Pool { map, len, .. } => &map[..*len],
        }
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

/// Bytes of a body that need no part of the pool. A connection costs as much while
/// it receives a head.
const SHORT: usize = 16 * 1024;

/// The memory that bodies may have, all those of a reactor together. What a large one
/// has had is kept for the next: fresh memory costs twice as much as to fill it.
#[derive(Debug, Clone)]
struct Pool(Arc<Mutex<Memory>>);

/// So many bytes that the pool does not have, since a body has them.
#[derive(Debug)]
struct Part {
    bytes: usize,
    pool: Pool,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.pool.memory().left += self.bytes;
    }
}

#[derive(Debug)]
struct Memory {
    /// Bytes that nobody has, neither bodies nor spares.
    left: usize,
    /// Of any content.
    spares: Vec<MmapMut>,
    /// Whether what is given back becomes a spare.
    keeps: bool,
}

impl Memory {
    /// Whether there were so many bytes to take; spares are given up for them.
    fn reserve(&mut self, bytes: usize) -> bool {
        let spare: usize = self.spares.iter().map(|spare| spare.len()).sum();
        if self.left + spare < bytes {
            return false;
        }
        while self.left < bytes {
            self.left += self.spares.pop().map_or(0, |spare| spare.len());
        }
        self.left -= bytes;
        true
    }
}

impl Pool {
    fn new(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Memory { left: bytes, spares: Vec::new(), keeps: false })))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a part as large as this; `false`: there is not enough.
    fn extend(&self, part: &mut Option<Part>, bytes: usize) -> bool {
        let part = part.get_or_insert_with(|| Part { bytes: 0, pool: self.clone() });
        let extended = self.memory().reserve(bytes - part.bytes);
        if extended {
            part.bytes = bytes;
        }
        extended
    }

    /// Room for so many bytes.
    fn take(&self, bytes: u64) -> Option<MmapMut> {
        let bytes = usize::try_from(bytes).ok()?;
        let mut memory = self.memory();
        memory.keeps = true;
        if let Some(fits) = memory.spares.iter().position(|spare| spare.len() >= bytes) {
            return Some(memory.spares.swap_remove(fits));
        }
        if !memory.reserve(bytes) {
            return None;
        }
        match fresh(bytes) {
            Ok(map) => Some(map),
            Err(error) => {
                memory.left += bytes;
                log::warn!(
                    "no memory for a request body of {bytes} bytes ({error}): a file has it"
                );
                None
            }
        }
    }

    fn give_back(&self, map: MmapMut) {
        let mut memory = self.memory();
        if memory.keeps {
            memory.spares.push(map);
        } else {
            memory.left += map.len();
        }
    }

    /// Keeps nothing any more, until the next large body.
    fn release(&self) {
        let mut memory = self.memory();
        memory.keeps = false;
        memory.left += memory.spares.drain(..).map(|spare| spare.len()).sum::<usize>();
    }
}

/// In huge pages, if the system has some: to fill and to read them costs about a
/// tenth less.
fn fresh(bytes: usize) -> io::Result<MmapMut> {
    let map = MmapMut::map_anon(bytes)?;
    if let Err(error) = map.advise(Advice::HugePage) {
        log::debug!("no huge pages for request bodies: {error}");
    }
    Ok(map)
}

/// How long the pool's memory is kept once no large body arrives any more.
const KEEP: Duration = Duration::from_secs(10);

/// What a body may cost.
#[derive(Debug)]
pub(crate) struct Room {
    /// Bytes of memory for a body that does not tell its length, or for which there is
    /// no memory all at once.
    each: usize,
    pool: Pool,
    /// When the pool's spare memory is given back.
    release: Option<Instant>,
}

impl Room {
    /// Bytes: for each body, and in the pool.
    pub(crate) fn new(each: usize, pool: usize) -> Self {
        Self { each, pool: Pool::new(pool), release: None }
    }

    /// Whether a body may have so many bytes in memory of its own.
    fn fits(&self, part: &mut Option<Part>, bytes: usize) -> bool {
        bytes <= self.each && (bytes <= SHORT || self.pool.extend(part, bytes))
    }

    /// When [`Room::expire`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.release
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        if self.release.is_some_and(|at| at <= now) {
            self.release = None;
            self.pool.release();
        }
    }
}

/// A body that is still arriving.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    memory: Bytes,
    /// Buffered: a client's chunks may have one byte each.
    file: Option<(BufWriter<File>, u64)>,
}

impl Spool {
    /// Appends a piece at `now`. `announced` is the length of the whole, in bytes; a
    /// large body that does not tell it is in a file.
    ///
    /// # Errors
    /// When the temporary directory is full or cannot be written, and the body is large.
    pub(crate) fn push(
        &mut self,
        piece: &[u8],
        room: &mut Room,
        announced: Option<u64>,
        now: Instant,
    ) -> io::Result<()> {
        if let (None, Place::Own(bytes, part)) = (&self.file, &mut self.memory.0)
            && !room.fits(part, bytes.len() + piece.len())
        {
            let len = bytes.len();
            *part = None;
            match announced.and_then(|len| room.pool.take(len)) {
                Some(mut map) => {
                    map[..len].copy_from_slice(bytes);
                    self.memory = Bytes(Place::Pool { map, len, pool: room.pool.clone() });
                }
                None => match self.spill() {
                    Err(error) if len + piece.len() <= room.each => stays_in_memory(&error),
                    spilled => spilled?,
                },
            }
        }
        if let Some((file, len)) = &mut self.file {
            file.write_all(piece)?;
            *len += piece.len() as u64;
            return Ok(());
        }
        match &mut self.memory.0 {
            Place::Own(bytes, _) => bytes.extend_from_slice(piece),
            Place::Pool { map, len, .. } => {
                let more = || io::Error::other("the body is longer than was announced");
                let space = map.get_mut(*len..*len + piece.len()).ok_or_else(more)?;
                space.copy_from_slice(piece);
                self.filled(piece.len(), room, now);
            }
        }
        Ok(())
    }

    /// Where the rest of a large body may be put, without a copy, and
    /// [`Spool::filled`] told; `None`: it is to be pushed.
    pub(crate) fn space(&mut self, announced: u64) -> Option<&mut [u8]> {
        match &mut self.memory.0 {
            Place::Own(..) => None,
            Place::Pool { map, len, .. } => map.get_mut(*len..usize::try_from(announced).ok()?),
        }
    }

    pub(crate) fn filled(&mut self, bytes: usize, room: &mut Room, now: Instant) {
        if let Place::Pool { len, .. } = &mut self.memory.0 {
            *len += bytes;
        }
        room.release = Some(now + KEEP);
    }

    fn spill(&mut self) -> io::Result<()> {
        let mut file = tempfile::tempfile()?;
        file.write_all(&self.memory)?;
        self.file = Some((BufWriter::new(file), self.memory.len() as u64));
        self.memory = Bytes::default();
        Ok(())
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.file.as_ref().map_or(self.memory.len() as u64, |(_, len)| *len)
    }

    /// The whole; it is empty again.
    ///
    /// # Errors
    /// Those of [`Spool::push`].
    pub(crate) fn finish(&mut self) -> io::Result<Body> {
        match self.file.take() {
            Some((file, len)) => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                Ok(Body::File(file, len))
            }
            None => Ok(Body::Memory(std::mem::take(&mut self.memory))),
        }
    }
}

/// Without files, as in a container that may write none, a body that is not large is
/// worth more than the limit of the pool.
fn stays_in_memory(error: &io::Error) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        log::warn!(
            "cannot keep request bodies in {}: {error}; those that are not large stay in memory, \
             even if together they are more than the body pool",
            std::env::temp_dir().display()
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn whole(text: &[u8], room: &mut Room, announced: u64) -> Body {
        let mut spool = Spool::default();
        for piece in text.chunks(2) {
            spool.push(piece, room, Some(announced), Instant::now()).expect("push");
        }
        spool.finish().expect("finish")
    }

    #[test]
    fn it_stays_in_memory_up_to_the_limit_and_then_moves_whole() {
        let mut room = Room::new(8, 9);
        let mut spool = Spool::default();
        let mut push = |spool: &mut Spool, piece: &[u8]| {
            spool.push(piece, &mut room, None, Instant::now()).expect("push");
        };
        push(&mut spool, b"0123");
        push(&mut spool, b"4567");
        assert!(spool.file.is_none());
        push(&mut spool, b"8");
        assert_eq!(spool.len(), 9);
        assert!(matches!(&spool.memory.0, Place::Own(bytes, _) if bytes.capacity() == 0));
        push(&mut spool, b"9");
        let Body::File(file, 10) = spool.finish().expect("finish") else {
            panic!("not a file of 10 bytes")
        };
        let mut text = [0; 10];
        file.read_exact_at(&mut text, 0).expect("read");
        assert_eq!(&text, b"0123456789");
        assert_eq!(spool.len(), 0, "a finished spool is empty again");
    }

    #[test]
    fn large_ones_share_a_pool_and_the_others_are_in_files() {
        let mut room = Room::new(2, 10);
        let mut whole = |text: &[u8], announced| whole(text, &mut room, announced);
        let first = whole(b"012345", 6);
        assert!(matches!(&first, Body::Memory(bytes) if **bytes == *b"012345"));
        assert!(matches!(whole(b"012345", 6), Body::File(_, 6)), "only 4 are left");
        let second = whole(b"0123", 4);
        assert!(matches!(&second, Body::Memory(_)), "there were 4");
        drop(first);
        assert!(matches!(whole(b"012345", 6), Body::Memory(_)), "they were given back");
        let most = whole(b"0123", u64::MAX);
        assert!(matches!(most, Body::File(_, 4)), "whatever a client announces");
        assert!(matches!(whole(b"0", 1), Body::Memory(_)), "short ones need no part of it");
    }

    #[test]
    fn memory_that_cannot_be_had_is_a_file() {
        let mut room = Room::new(2, usize::MAX);
        let body = whole(b"0123", &mut room, 1 << 62);
        assert!(matches!(body, Body::File(_, 4)), "no machine has so much");
        assert_eq!(room.pool.memory().left, usize::MAX);
    }

    #[test]
    fn what_one_has_had_is_the_next_one_s_for_a_while() {
        let mut room = Room::new(2, 20);
        let place = |body: &Body| match body {
            Body::Memory(bytes) => bytes.as_ptr(),
            Body::File(..) => panic!("a file"),
        };
        let spare = |room: &Room| {
            let memory = room.pool.memory();
            (memory.left, memory.spares.iter().map(|spare| spare.len()).collect::<Vec<_>>())
        };
        let first = whole(b"0123456789", &mut room, 10);
        let at = place(&first);
        drop(first);
        assert_eq!(spare(&room), (10, vec![10]));
        let second = whole(b"abcd", &mut room, 4);
        assert!(matches!(&second, Body::Memory(bytes) if **bytes == *b"abcd"));
        assert_eq!(place(&second), at, "the same memory");
        let mut spool = Spool::default();
        assert_eq!(spool.space(9), None, "a small one has no part of it");
        spool.push(b"abc", &mut room, Some(9), Instant::now()).expect("push");
        spool.space(9).expect("space")[..2].copy_from_slice(b"de");
        spool.filled(2, &mut room, Instant::now());
        assert_eq!(spool.space(9).expect("space").len(), 4);
        spool.push(b"f", &mut room, Some(9), Instant::now()).expect("push");
        let body = spool.finish().expect("finish");
        assert!(matches!(body, Body::Memory(bytes) if *bytes == *b"abcdef"));
        drop(second);
        drop(whole(b"0123456789abcde", &mut room, 15));
        assert_eq!(spare(&room), (5, vec![15]), "one that is too small makes room");
        let third = whole(b"0123", &mut room, 4);
        let due = room.due().expect("there is something to give back");
        room.expire(due);
        drop(third);
        assert_eq!((spare(&room), room.due()), ((20, vec![]), None), "late, it is not kept");
        drop(whole(b"0123", &mut room, 4));
        assert_eq!(spare(&room), (16, vec![4]));
        room.expire(room.due().expect("as before"));
        assert_eq!(spare(&room), (20, vec![]));
    }

    #[test]
    fn those_that_are_not_short_have_their_part_of_the_pool() {
        let mut room = Room::new(4 * SHORT, 5 * SHORT);
        let spools = &mut [Spool::default(), Spool::default(), Spool::default()];
        let mut push = |spool: &mut Spool, bytes| {
            spool.push(&vec![b'x'; bytes], &mut room, None, Instant::now()).expect("push");
        };
        spools.iter_mut().for_each(|spool| push(spool, SHORT));
        spools.iter_mut().for_each(|spool| push(spool, SHORT));
        let places = spools.each_ref().map(|spool| spool.file.is_none());
        assert_eq!(places, [true, true, false], "5, and not 6");
        push(&mut spools[0], 1);
        let places = spools.each_ref().map(|spool| spool.file.is_none());
        assert_eq!(places, [true, true, false], "one is left");
        push(&mut spools[1], SHORT);
        assert!(spools[1].file.is_some(), "it is too much for that");
        push(&mut spools[0], SHORT);
        assert!(spools[0].file.is_none(), "and has given back what it had");
        drop(spools[0].finish().expect("finish"));
        assert_eq!(room.pool.memory().left, 5 * SHORT);
        let all = whole(&[b'x'; 5 * SHORT], &mut room, 5 * SHORT as u64);
        assert!(matches!(all, Body::Memory(_)), "what it had before is given back first");
    }

    /// A client could else have a system call for each of its bytes, in chunks of one.
    #[test]
    fn small_pieces_of_a_file_are_written_together() {
        let writes = || {
            let io = std::fs::read_to_string("/proc/thread-self/io").expect("read");
            let line = io.lines().find_map(|line| line.strip_prefix("syscw: ")).expect("a line");
            line.parse::<u64>().expect("a number")
        };
        let mut room = Room::new(0, 0);
        let mut spool = Spool::default();
        let before = writes();
        for byte in 0..=255 {
            for _ in 0..100 {
                spool.push(&[byte], &mut room, None, Instant::now()).expect("push");
            }
        }
        let Body::File(file, 25_600) = spool.finish().expect("finish") else { panic!("no file") };
        assert!(writes() - before < 10, "{} writes", writes() - before);
        let mut end = [0; 101];
        file.read_exact_at(&mut end, 25_600 - 101).expect("read");
        assert_eq!((end[0], end[1], end[100]), (254, 255, 255));
    }
}
