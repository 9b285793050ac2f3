//! The scoreboard: shared memory in which every worker tells what it is doing.
//!
//! One anonymous mapping, made before the first fork and never unmapped, one [`Slot`] per worker. A
//! slot is written by its worker alone while that lives, with relaxed atomics: readers (the master,
//! later `/status`) see each field whole, but not all of one moment. That is good enough for what
//! it is for: a worker that is stuck no longer writes.
//!
//! The heartbeat's one special value: 0 is "asleep in poll", which is healthy for any length of
//! time.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::worker::{Ms, SLOTS, WorkerId};
use crate::{Error, sys};

/// Bytes kept of a request's path: 16 words.
const PATH_WORDS: usize = 16;
const WORD: usize = size_of::<u64>();

/// Milliseconds of `CLOCK_MONOTONIC` (clock_gettime(2)): the clock of heartbeats and of the master.
pub fn monotonic_ms() -> u64 {
    let now =
        clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists on every Linux");
    u64::try_from(now.tv_sec() * 1000 + now.tv_nsec() / 1_000_000)
        .expect("the monotonic clock starts at 0")
}

/// The shared mapping. A copy is another view of the same memory.
#[derive(Clone, Copy)]
pub struct Scoreboard {
    slots: &'static [Slot],
}

impl Scoreboard {
    /// Maps a new, empty scoreboard for this process and all that it forks.
    ///
    /// # Errors
    /// [`Error::System`] when mmap(2) fails.
    pub fn map() -> Result<Self, Error> {
        let length = NonZeroUsize::new(usize::from(SLOTS)).expect("SLOTS is not 0");
        sys::map_shared(length)
            .map(|slots| Self { slots })
            .map_err(Error::system("map the scoreboard"))
    }

    /// A worker's slot.
    pub fn slot(&self, worker: WorkerId) -> &'static Slot {
        &self.slots[worker.index()]
    }

    /// The slots of all workers that exist now.
    pub fn workers(&self) -> impl Iterator<Item = (WorkerId, Snapshot)> {
        let all = WorkerId::all().map(|worker| (worker, self.slot(worker).snapshot()));
        all.filter(|(_, snapshot)| snapshot.state != State::Empty)
    }
}

impl fmt::Debug for Scoreboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.workers()).finish()
    }
}

/// What a worker says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// No worker has this slot.
    Empty,
    /// It boots.
    Starting,
    /// It serves.
    Ready,
    /// It finishes what it has.
    Retiring,
}

/// One worker's lines of the scoreboard. All zero is an empty slot.
#[repr(C, align(128))]
#[derive(Default)]
pub struct Slot {
    heartbeat: AtomicU64,
    in_flight: AtomicU32,
    path_length: AtomicUsize,
    requests: AtomicU64,
    request_started: AtomicU64,
    method: AtomicU64,
    pid: AtomicU32,
    generation: AtomicU32,
    state: AtomicU8,
    path: [AtomicU64; PATH_WORDS],
}

/// A slot at about one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// What the worker is doing.
    pub state: State,
    /// Its process; `None` in an empty slot.
    pub pid: Option<Pid>,
    /// Its generation; 0 in an empty slot.
    pub generation: u32,
    /// When its loop came round last, by [`monotonic_ms`]; `None` while it is asleep in poll.
    pub heartbeat: Option<u64>,
    /// Requests begun and not ended.
    pub in_flight: u32,
    /// Requests ended.
    pub requests: u64,
    /// Of those in flight, the one that began first, as far as the worker has said.
    pub request: Option<Request>,
}

/// The request that a worker has had for the longest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// When it began, by [`monotonic_ms`].
    pub started: u64,
    /// Its method, at most 8 bytes of it.
    pub method: String,
    /// Its path, at most 128 bytes of it.
    pub path: String,
}

/// As a log line shows it; a client chose the path.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request=\"{} {}\"", self.method.escape_debug(), self.path.escape_debug())
    }
}

impl Slot {
    /// The loop came round: it is about to work.
    #[inline]
    pub fn awake(&self, now_ms: u64) {
        self.heartbeat.store(now_ms, Relaxed);
    }

    /// The loop is about to wait for events; not stuck, however long that takes.
    #[inline]
    pub fn asleep(&self) {
        self.heartbeat.store(0, Relaxed);
    }

    /// A request is given to the application. Counts as a heartbeat.
    #[inline]
    pub fn begin(&self, now_ms: u64, method: &[u8], path: &[u8]) {
        self.heartbeat.store(now_ms, Relaxed);
        if self.in_flight.fetch_add(1, Relaxed) == 0 {
            self.longest(now_ms, method, path);
        }
    }

    /// Of several requests in flight this one began first. A worker that has more than one at a
    /// time says so every now and then.
    pub fn longest(&self, started_ms: u64, method: &[u8], path: &[u8]) {
        self.request_started.store(started_ms, Relaxed);
        let method = &method[..method.len().min(WORD)];
        self.method.store(word(method), Relaxed);
        let path = &path[..path.len().min(PATH_WORDS * WORD)];
        for (place, bytes) in self.path.iter().zip(path.chunks(WORD)) {
            place.store(word(bytes), Relaxed);
        }
        self.path_length.store(path.len(), Relaxed);
    }

    /// The application has finished a request.
    #[inline]
    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
    }

    /// The worker finishes what it has and takes nothing new.
    pub fn retiring(&self) {
        self.state.store(State::Retiring as u8, Relaxed);
    }

    /// All fields, read one after the other.
    pub fn snapshot(&self) -> Snapshot {
        let in_flight = self.in_flight.load(Relaxed);
        Snapshot {
            state: match self.state.load(Relaxed) {
                0 => State::Empty,
                1 => State::Starting,
                2 => State::Ready,
                _ => State::Retiring,
            },
            pid: i32::try_from(self.pid.load(Relaxed))
                .ok()
                .filter(|pid| *pid > 0)
                .map(Pid::from_raw),
            generation: self.generation.load(Relaxed),
            heartbeat: Some(self.heartbeat.load(Relaxed)).filter(|heartbeat| *heartbeat != 0),
            in_flight,
            requests: self.requests.load(Relaxed),
            request: (in_flight > 0).then(|| self.request()),
        }
    }

    fn request(&self) -> Request {
        let mut path: Vec<u8> =
            self.path.iter().flat_map(|word| word.load(Relaxed).to_ne_bytes()).collect();
        path.truncate(self.path_length.load(Relaxed));
        let method = self.method.load(Relaxed).to_ne_bytes();
        let method = method.split(|byte| *byte == 0).next().unwrap_or_default();
        Request {
            started: self.request_started.load(Relaxed),
            method: String::from_utf8_lossy(method).into_owned(),
            path: String::from_utf8_lossy(&path).into_owned(),
        }
    }

    /// The worker takes its slot, first thing.
    pub(crate) fn occupy(&self, pid: Pid, generation: u32) {
        self.pid.store(pid.as_raw().unsigned_abs(), Relaxed);
        self.generation.store(generation, Relaxed);
        self.state.store(State::Starting as u8, Relaxed);
    }

    pub(crate) fn ready(&self) {
        self.state.store(State::Ready as u8, Relaxed);
    }

    /// The master empties the slot of a worker that it has reaped.
    pub(crate) fn wipe(&self) {
        self.state.store(State::Empty as u8, Relaxed);
        for word in [&self.heartbeat, &self.requests, &self.request_started, &self.method] {
            word.store(0, Relaxed);
        }
        for word in [&self.in_flight, &self.pid, &self.generation] {
            word.store(0, Relaxed);
        }
        self.path_length.store(0, Relaxed);
    }

    pub(crate) fn heartbeat(&self) -> Ms {
        self.heartbeat.load(Relaxed)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// What a heartbeat means now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pulse {
    /// No sign of life for this long.
    Stuck(Ms),
    /// Healthy; cannot be stuck before this moment.
    Fine(Ms),
}

/// Reads a heartbeat; nobody is stuck before `patience`. A worker that is asleep can get stuck from now on at the earliest, so looking
/// again after `timeout` misses nothing and costs one wake-up per timeout.
pub(crate) fn pulse(now: Ms, heartbeat: Ms, timeout: Ms, patience: Ms) -> Pulse {
    let last = if heartbeat == 0 { now } else { heartbeat };
    let silent = now.saturating_sub(last);
    if silent >= timeout && now >= patience {
        Pulse::Stuck(silent)
    } else {
        Pulse::Fine((last + timeout).max(patience))
    }
}

/// At most 8 bytes, zero-padded.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; WORD];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_seen_while_it_runs_and_counted_when_it_ends() {
        let slot = Slot::default();
        slot.occupy(Pid::from_raw(7), 2);
        slot.begin(1000, b"GET", b"/distance?base=seoul");
        let snapshot = slot.snapshot();
        assert_eq!((snapshot.in_flight, snapshot.requests, snapshot.heartbeat), (1, 0, Some(1000)));
        let request =
            Request { started: 1000, method: "GET".into(), path: "/distance?base=seoul".into() };
        assert_eq!(snapshot.request, Some(request));
        slot.end();
        slot.asleep();
        let snapshot = slot.snapshot();
        assert_eq!((snapshot.in_flight, snapshot.requests, snapshot.heartbeat), (0, 1, None));
        assert_eq!(snapshot.request, None);
    }

    #[test]
    fn long_names_are_cut_and_a_short_path_hides_an_earlier_long_one() {
        let slot = Slot::default();
        slot.begin(1, b"PROPPATCHES", "ü".repeat(100).as_bytes());
        let request = slot.snapshot().request.unwrap();
        assert_eq!((request.method.as_str(), request.path), ("PROPPATC", "ü".repeat(64)));
        slot.begin(2, b"PUT", b"/a");
        let request = slot.snapshot().request.unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("PUT", "/a"));
    }

    #[test]
    fn a_wiped_slot_is_an_empty_one() {
        let slot = Slot::default();
        slot.occupy(Pid::from_raw(7), 2);
        slot.begin(5, b"GET", b"/");
        slot.ready();
        slot.wipe();
        assert_eq!(slot.snapshot(), Slot::default().snapshot());
        assert_eq!(slot.snapshot().state, State::Empty);
    }

    #[test]
    fn a_sleeper_is_fine_and_a_silent_worker_is_stuck_at_its_timeout() {
        assert_eq!(pulse(5000, 0, 1000, 0), Pulse::Fine(6000));
        assert_eq!(pulse(5000, 4001, 1000, 0), Pulse::Fine(5001));
        assert_eq!(pulse(5000, 4000, 1000, 0), Pulse::Stuck(1000));
        assert_eq!(pulse(5000, 4000, 1000, 5000), Pulse::Stuck(1000));
        assert_eq!(pulse(5000, 100, 1000, 7000), Pulse::Fine(7000));
        assert_eq!(
            pulse(5000, 5001, 1000, 0),
            Pulse::Fine(6001),
            "the worker's clock was read after ours"
        );
    }

    #[test]
    fn the_mapping_is_empty_and_holds_every_worker() {
        let scoreboard = Scoreboard::map().unwrap();
        let last = WorkerId::all().last().unwrap();
        scoreboard.slot(last).occupy(Pid::from_raw(9), 1);
        let workers: Vec<_> =
            scoreboard.workers().map(|(worker, snapshot)| (worker, snapshot.pid)).collect();
        assert_eq!(workers, [(last, Some(Pid::from_raw(9)))]);
    }
}
