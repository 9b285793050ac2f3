//! The second thread of a worker with greenlets: notices that the hub does not
//! come round, because a request computes or blocks where gevent cannot see it,
//! and says which.
//!
//! It wakes the hub once in a while, and looks whether it has turned; and sends what
//! is deferred when the hub does not get to it. It never touches Python, so that no
//! code of the application can hold it up.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serve_net::{LateSends, Shared};

use super::flights::{Flights, Found};
use crate::alarm::{Alarm, Blocked};
use crate::drive::Options;

/// How often to look, at most and at least; in between, several times in the
/// shortest of the timeouts.
const LONG: Duration = Duration::from_secs(1);
const SHORT: Duration = Duration::from_millis(20);
const LOOKS: u32 = 4;

/// How long the hub may be kept from turning before the log says so.
const NOTICE: Duration = Duration::from_secs(1);

/// How long the main thread may take to say what it is doing. It needs the
/// interpreter for that, which C code may have.
const ANSWER: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(1);

/// How long the hub may wait for a CPU without a word in the log.
const SLIGHT: Duration = Duration::from_millis(100);

/// The hub's side of it.
pub(super) struct Lookout {
    shared: Arc<Turns>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Turns {
    count: AtomicU64,
    dismissed: AtomicBool,
    late: LateSends,
}

impl Turns {
    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// The thread's side.
struct Watcher {
    turns: Arc<Turns>,
    alarm: Alarm,
    flights: Arc<Flights>,
    reactor: Shared,
    worker: String,
    timeout: Option<Duration>,
    period: Duration,
    main: Queueing,
}

/// The last turn of the hub that was seen.
struct Seen {
    count: u64,
    since: Instant,
    /// How long its thread had waited for a CPU by then.
    queued: Duration,
    /// Whether the log has heard that nothing came after it.
    noticed: bool,
}

/// How long a thread waits for a CPU that others have.
struct Queueing {
    /// The kernel's account of it (proc(5), `schedstat`), which it need not keep.
    file: PathBuf,
}

impl Queueing {
    fn of_this_thread() -> Self {
        // SAFETY: has no preconditions.
        let thread = unsafe { libc::gettid() };
        Self { file: format!("/proc/self/task/{thread}/schedstat").into() }
    }

    fn so_far(&self) -> Duration {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        let nanoseconds = text.split_whitespace().nth(1).and_then(|field| field.parse().ok());
        Duration::from_nanos(nanoseconds.unwrap_or_default())
    }
}

impl Lookout {
    /// # Errors
    /// A sentence, when there can be no thread.
    pub(super) fn start(
        alarm: Alarm,
        flights: Arc<Flights>,
        reactor: Shared,
        late: LateSends,
        options: &Options,
    ) -> Result<Self, String> {
        let (count, dismissed) = Default::default();
        let shared = Arc::new(Turns { count, dismissed, late });
        let timeout = options.timeout.filter(|limit| !limit.is_zero());
        let limits = [timeout, options.request_timeout.filter(|limit| !limit.is_zero())];
        let shortest = limits.into_iter().flatten().min().unwrap_or(Duration::MAX);
        let watcher = Watcher {
            turns: shared.clone(),
            alarm,
            flights,
            reactor,
            worker: options.worker.clone(),
            timeout,
            period: (shortest / LOOKS).clamp(SHORT, LONG),
            main: Queueing::of_this_thread(),
        };
        let blocked = Blocked::all();
        let thread = thread::Builder::new().name("serve-lookout".into());
        let spawned = thread.spawn(move || watcher.run());
        drop(blocked);
        let thread = spawned.map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// The hub has come round, or gone on to another request.
    pub(super) fn beat(&self) {
        self.shared.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns when the thread has ended.
    pub(super) fn dismiss(&self) {
        self.shared.dismissed.store(true, Ordering::Relaxed);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            if let Err(error) = self.shared.late.wake() {
                log::error!("the lookout cannot be woken: {error}");
            }
            if thread.join().is_err() {
                log::error!("the lookout panicked");
            }
        }
    }
}

impl Watcher {
    fn run(&self) {
        let mut seen = self.look(0);
        let mut look = seen.since;
        while !self.turns.dismissed.load(Ordering::Relaxed) {
            if look <= Instant::now() {
                let count = self.turns.count();
                if count != seen.count {
                    seen = self.look(count);
                    self.reactor.wake();
                } else if seen.since.elapsed() >= self.period {
                    seen.noticed |= self.examine(&seen);
                }
                look = Instant::now() + self.period;
            }
            self.rest(look.saturating_duration_since(Instant::now()));
        }
    }

    fn look(&self, count: u64) -> Seen {
        Seen { count, since: Instant::now(), queued: self.main.so_far(), noticed: false }
    }

    /// For so long, unless something that is deferred is late before.
    fn rest(&self, left: Duration) {
        match self.turns.late.wait(left) {
            Ok(false) => {}
            Ok(true) => {
                // The hub's own timers do not know what a client does about it.
                if self.reactor.lock().send_late() {
                    self.reactor.wake();
                }
            }
            Err(error) => {
                log::error!("epoll_wait: {error}");
                thread::sleep(left);
            }
        }
    }

    /// The hub has not turned since then; whether the log has heard of it now.
    fn examine(&self, seen: &Seen) -> bool {
        let late = self.flights.expire_due();
        let stuck = self.is_stuck(seen.since);
        let notice = !seen.noticed && late.is_empty() && seen.since.elapsed() >= NOTICE;
        if late.is_empty() && !stuck && !notice {
            return false;
        }
        self.flights.ask(stuck);
        let stacks = self.alarm.ring().unwrap_or_else(|error| format!("no stacks: {error}"));
        let stacks = stacks.trim_end();
        let found = self.answer();
        let (worker, kept) = (&self.worker, self.kept(seen));
        for (_, line) in &late {
            log::error!("{line}\n{stacks}");
        }
        match &found {
            Some(Found::Ended(line)) => log::error!("{line}\n{stacks}"),
            Some(Found::Running(text)) if notice => {
                log::warn!("{text}: has kept all others waiting for {kept}\n{stacks}");
            }
            None if notice => log::warn!(
                "{worker} request=?: C code has kept all others waiting for {kept}\n{stacks}"
            ),
            _ => {}
        }
        // It may have gone on just when it was asked.
        if stuck && self.turns.count() == seen.count && !matches!(found, Some(Found::Ended(_))) {
            let count = self.flights.abandon();
            if count > 0 {
                log::error!("{worker} is stuck: {count} requests are answered 504\n{stacks}");
            }
        }
        true
    }

    /// For how long, for the log; and how much of it was not the application's doing.
    fn kept(&self, seen: &Seen) -> String {
        let kept = seen.since.elapsed();
        let queued = self.main.so_far().saturating_sub(seen.queued).min(kept);
        let kept = kept.as_secs_f64();
        if queued < SLIGHT {
            return format!("{kept:.1}s");
        }
        format!("{kept:.1}s, {:.1}s of it without a CPU", queued.as_secs_f64())
    }

    fn is_stuck(&self, since: Instant) -> bool {
        let over = self.timeout.is_some_and(|limit| since.elapsed() >= limit);
        over && self.flights.extended().is_none_or(|until| until <= Instant::now())
    }

    fn answer(&self) -> Option<Found> {
        let until = Instant::now() + ANSWER;
        loop {
            if let Some(found) = self.flights.found().take() {
                return Some(found);
            }
            if Instant::now() > until || self.turns.dismissed.load(Ordering::Relaxed) {
                return None;
            }
            thread::sleep(TICK);
        }
    }
}
