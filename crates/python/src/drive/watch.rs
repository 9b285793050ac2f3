//! Which request the application has, as both threads of a sync worker see it:
//! the main thread, which runs it, and the relay, which watches it.
//!
//! Rules: only the main thread begins and ends a request. Only the relay makes
//! it overdue, and once. No other lock is taken while this one is held.

use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use serve_net::{Board, Exchange, ExchangeId, Sent, Shared};

use super::Host;
use super::running::{LONGEST, Patience, Running};

/// Ticks without a request after which the relay sleeps until there is one.
const IDLE_TICKS: u32 = 20;

/// What the relay finds.
#[derive(Debug)]
pub(crate) enum Look {
    /// Since then.
    Running(Running, Instant),
    Idle,
    /// Nothing for a while: park, and be woken by the next request.
    Park,
    /// The worker ends.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relay {
    Awake,
    Parked,
    Dismissed,
}

struct State {
    number: u64,
    running: Option<Running>,
    /// When it was begun.
    since: Instant,
    relay: Relay,
}

/// See the module's description.
pub(crate) struct Watch {
    state: Mutex<State>,
    relay: OnceLock<Thread>,
    reactor: Shared,
    board: Arc<dyn Board>,
    /// What the worker's watcher from outside waits anyway.
    timeout: Duration,
}

impl Watch {
    pub(crate) fn new(reactor: Shared, board: Arc<dyn Board>, timeout: Option<Duration>) -> Self {
        let since = Instant::now();
        let state = State { number: 0, running: None, since, relay: Relay::Awake };
        Self {
            state: Mutex::new(state),
            relay: OnceLock::new(),
            reactor,
            board,
            timeout: timeout.unwrap_or(Duration::MAX),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- the main thread's side

    /// The application gets a request `now`, the returned number of this worker.
    pub(crate) fn begin(&self, exchange: &Exchange, now: Instant) -> u64 {
        let mut state = self.state();
        state.number += 1;
        state.since = now;
        state.running = Some(Running::new(state.number, exchange));
        if state.relay == Relay::Parked {
            state.relay = Relay::Awake;
            self.unpark();
        }
        state.number
    }

    /// The application has finished it.
    pub(crate) fn end(&self) {
        self.state().running = None;
    }

    /// Whether `RequestTimeout` is to be raised where the main thread is now.
    /// The signal that asks for it may come late: the request it was meant for
    /// must be the one that runs.
    pub(crate) fn claim(&self) -> bool {
        self.state().running.as_mut().is_some_and(Running::claim)
    }

    /// The application waits for its client, which the write timeout is for: its
    /// own time stands still, and it is not stuck.
    fn pause(&self) {
        if let Some(running) = &mut self.state().running {
            running.pause();
        }
        self.board.asleep();
    }

    /// The client has read.
    fn resume(&self) {
        self.board.awake();
        if let Some(running) = &mut self.state().running {
            running.resume();
        }
    }

    /// Sends the relay home, whatever it waits for.
    pub(crate) fn dismiss(&self) {
        self.state().relay = Relay::Dismissed;
        self.unpark();
        self.reactor.wake();
    }

    fn unpark(&self) {
        if let Some(relay) = self.relay.get() {
            relay.unpark();
        }
    }

    // ---- the relay's side

    /// This thread is the relay.
    pub(crate) fn enter(&self) {
        // There is one relay; a second call would change nothing.
        self.relay.get_or_init(std::thread::current);
    }

    /// What is to be done after so many ticks without a request.
    pub(crate) fn look(&self, idle: u32) -> Look {
        let mut state = self.state();
        if state.relay == Relay::Dismissed {
            return Look::End;
        }
        state.relay = Relay::Awake;
        match state.running {
            Some(running) => Look::Running(running, state.since),
            None if idle < IDLE_TICKS => Look::Idle,
            None => {
                state.relay = Relay::Parked;
                Look::Park
            }
        }
    }

    /// The time of request `number` is over; false when it has ended meanwhile,
    /// or got more time.
    pub(crate) fn expire(&self, running: &Running) -> bool {
        self.state().running.as_mut().is_some_and(|now| now.expire(running))
    }
}

impl Host for Watch {
    /// The main thread drives the reactor itself meanwhile.
    fn room(&self, py: Python<'_>, id: ExchangeId) -> PyResult<Sent> {
        loop {
            self.pause();
            let waited = py.detach(|| {
                self.reactor.wait(None)?;
                self.reactor.lock().settle();
                Ok(())
            });
            self.resume();
            waited.map_err(|error: std::io::Error| PyRuntimeError::new_err(error.to_string()))?;
            py.check_signals()?;
            match self.reactor.lock().room(id) {
                Sent::Full => {}
                sent => return Ok(sent),
            }
        }
    }

    fn is_overdue(&self, _: ExchangeId) -> bool {
        self.state().running.is_some_and(|running| running.patience != Patience::Lasts)
    }

    fn detached(&self, _: ExchangeId, _: Option<String>) {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            log::warn!(
                "a request has taken its connection over (WebSocket), and a sync worker serves \
                 nobody else until it ends, nor for longer than `timeout`: use the class threads"
            );
        });
    }

    fn extend(&self, more: Duration) {
        let more = more.min(LONGEST);
        if !self.state().running.as_mut().is_some_and(|running| running.extend(more)) {
            return;
        }
        self.board.extend(more.saturating_sub(self.timeout));
        // The relay may be asleep until the old end, and the new one be sooner.
        self.reactor.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serve_net::{Body, NoBoard, Options, Peer, Reactor, Seen};

    /// What a worker's watcher is told.
    #[derive(Default)]
    struct Told(Mutex<Vec<Duration>>);

    impl Board for Told {
        fn awake(&self) {}
        fn asleep(&self) {}
        fn begin(&self, _: &[u8], _: &[u8]) {}
        fn end(&self) {}
        fn longest(&self, _: Duration, _: &[u8], _: &[u8]) {}
        fn extend(&self, by: Duration) {
            self.0.lock().unwrap().push(by);
        }
    }

    fn watch(board: Arc<dyn Board>) -> Watch {
        let reactor = Reactor::new(Options::default(), Vec::new(), None).unwrap();
        Watch::new(Shared::new(reactor), board, Some(SECOND * 30))
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn begin(watch: &Watch) -> Running {
        let exchange = Exchange {
            id: ExchangeId::default(),
            body: Body::default(),
            peer: Peer::Unix,
            proxy: None,
            seen: Arc::new(Seen::of(Peer::Unix)),
            listener: 0,
        };
        watch.begin(&exchange, Instant::now());
        seen(watch).expect("it runs")
    }

    fn seen(watch: &Watch) -> Option<Running> {
        match watch.look(0) {
            Look::Running(running, _) => Some(running),
            _ => None,
        }
    }

    #[test]
    fn only_the_late_request_is_told_and_once() {
        let watch = watch(Arc::new(NoBoard));
        let late = begin(&watch);
        assert!(!watch.claim() && !watch.is_overdue(ExchangeId::default()));
        assert!(watch.expire(&late));
        assert!(watch.is_overdue(ExchangeId::default()) && watch.claim());
        assert!(!watch.claim(), "an application that cleans up must not be hit again");
        watch.end();
        begin(&watch);
        assert!(
            !watch.is_overdue(ExchangeId::default()) && !watch.claim(),
            "the signal came too late"
        );
    }

    #[test]
    fn a_request_that_has_ended_or_got_time_does_not_expire() {
        let watch = watch(Arc::new(NoBoard));
        let first = begin(&watch);
        watch.end();
        assert!(!watch.expire(&first));
        let second = begin(&watch);
        assert!(!watch.expire(&first));
        watch.extend(SECOND);
        assert!(!watch.expire(&second), "the relay decided by what was true before");
        assert!(watch.expire(&seen(&watch).expect("it runs")));
    }

    #[test]
    fn the_watcher_hears_of_what_exceeds_its_own_patience() {
        let board = Arc::new(Told::default());
        let watch = watch(board.clone());
        watch.extend(SECOND * 100);
        let running = begin(&watch);
        watch.extend(SECOND * 100);
        watch.extend(SECOND * 5);
        watch.extend(Duration::MAX);
        assert!(watch.expire(&seen(&watch).expect("it runs")));
        watch.extend(SECOND * 200);
        assert_eq!(*board.0.lock().unwrap(), [SECOND * 70, Duration::ZERO, LONGEST - SECOND * 30]);
        assert!(!watch.expire(&running));
    }

    #[test]
    fn the_relay_parks_after_a_while_and_not_under_a_request() {
        let watch = watch(Arc::new(NoBoard));
        assert!(matches!(watch.look(IDLE_TICKS - 1), Look::Idle));
        assert!(matches!(watch.look(IDLE_TICKS), Look::Park));
        begin(&watch);
        assert!(matches!(watch.look(IDLE_TICKS), Look::Running(..)));
        watch.dismiss();
        assert!(matches!(watch.look(0), Look::End));
    }
}
