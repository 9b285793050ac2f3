//! The threads that run the application, as a chain.
//!
//! Idle threads park, the last one first to be woken, since its memory is warm.
//! At most one thread is woken and not yet running: it takes the GIL first, pulls
//! a request only then, and wakes the next thread if more requests wait. So no
//! request is in the hand of a thread that waits for the GIL, and there is one
//! wake-up for a burst of requests, however many threads there are.
//!
//! Rules: `State` is locked for a moment only, and with the reactor locked by
//! whoever decides by the reactor whether to park or to wake: a request that a
//! parking thread has not seen finds it parked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use serve_net::{Board, Exchange, Reactor};

use super::Call;
use super::seats::Seats;
use crate::fork;
use crate::respond::{Bridge, Kit};

/// While so many requests wait for a thread, the turner rests: to read more of them
/// would only take the processor from the threads.
const ENOUGH: usize = 4;

/// For so long at most: it has other things to do as well.
const REST: Duration = Duration::from_millis(3);

/// How long threads that have nothing to do may take to end.
const ENDING: Duration = Duration::from_secs(1);

pub(super) struct Pool {
    bridge: Bridge,
    pub(super) seats: Arc<Seats>,
    pub(super) board: Arc<dyn Board>,
    state: Mutex<State>,
    /// A thread has ended.
    left: Condvar,
    tired_after: Option<u64>,
    tired: AtomicBool,
    main: Mutex<Sender<Call>>,
}

struct State {
    /// Threads that are parked, or about to be.
    idle: Vec<Arc<Bed>>,
    /// Whether a thread is on its way: it was woken, or is being started, and has
    /// not run yet.
    on_its_way: bool,
    /// When a request was last pulled, or a thread put on its way.
    moved: Instant,
    /// The turner, while it rests.
    resting: Option<Arc<Bed>>,
    /// Threads, from the order to start one to its end.
    started: usize,
    /// The most there may be.
    most: usize,
    ending: bool,
}

/// What a thread sleeps on.
pub(super) struct Bed {
    thread: Thread,
    up: AtomicBool,
}

impl Bed {
    /// Of the thread that calls.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { thread: thread::current(), up: AtomicBool::new(false) })
    }

    /// Until it was woken since the last sleep.
    pub(super) fn sleep(&self) {
        while !self.up.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }

    /// As [`Bed::sleep`], but not for longer than this.
    fn rest(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while !self.up.swap(false, Ordering::Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::park_timeout(left);
        }
    }

    pub(super) fn wake(&self) {
        self.up.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// What a thread does next.
enum Next {
    Serve(Exchange),
    Sleep,
    End,
}

/// Whether a thread has run since it was woken or started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Woken {
    Yes,
    No,
}

impl Pool {
    pub(super) fn new(
        bridge: Bridge,
        seats: Arc<Seats>,
        board: Arc<dyn Board>,
        most: usize,
        tired_after: Option<u64>,
        main: Sender<Call>,
    ) -> Self {
        let state = State {
            idle: Vec::new(),
            on_its_way: false,
            moved: Instant::now(),
            resting: None,
            started: 0,
            most,
            ending: false,
        };
        Self {
            bridge,
            seats,
            board,
            state: Mutex::new(state),
            left: Condvar::new(),
            tired_after,
            tired: AtomicBool::new(false),
            main: Mutex::new(main),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, call: Call) {
        let main = self.main.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody hears it any more only when everything ends.
        if let Err(error) = main.send(call) {
            log::debug!("{error}");
        }
    }

    /// Wakes or starts a thread, if requests wait and none is on its way.
    pub(super) fn dispatch(&self) {
        let reactor = self.seats.reactor.lock();
        let woken = self.next_of_chain(&reactor, &mut self.state());
        drop(reactor);
        woken.inspect(|bed| bed.wake());
    }

    /// For the turner, before it reads: as long as enough requests wait.
    pub(super) fn rest(&self, bed: &Arc<Bed>) {
        let reactor = self.seats.reactor.lock();
        if reactor.waiting() < ENOUGH {
            return;
        }
        self.state().resting = Some(bed.clone());
        drop(reactor);
        bed.rest(REST);
        self.state().resting = None;
    }

    /// Whom the caller must wake, once it has let the locks go.
    fn next_of_chain(&self, reactor: &Reactor, state: &mut State) -> Option<Arc<Bed>> {
        if state.on_its_way || reactor.waiting() == 0 {
            return None;
        }
        let idle = state.idle.pop();
        let starts = idle.is_none() && state.started < state.most;
        if starts {
            self.call(Call::Start(state.started));
            state.started += 1;
        }
        state.on_its_way = starts || idle.is_some();
        state.moved = reactor.now();
        idle
    }

    /// Since when a thread has been on its way, and none has pulled a request.
    pub(super) fn stalled(&self) -> Option<Instant> {
        let state = self.state();
        state.on_its_way.then_some(state.moved)
    }

    /// Whether the worker has become tired since the last call.
    pub(super) fn take_tired(&self) -> bool {
        self.tired.swap(false, Ordering::SeqCst)
    }

    // ---- the main thread's side

    /// There are no more threads to be had.
    pub(super) fn not_started(&self, seat: usize, reason: &str) {
        let mut reactor = self.seats.reactor.lock();
        let mut state = self.state();
        state.started -= 1;
        state.on_its_way = false;
        if seat == 0 {
            return self.call(Call::End(Err(format!("cannot start a thread: {reason}"))));
        }
        log::error!("cannot start a thread: {reason}; the worker goes on with {seat}");
        state.most = seat;
        reactor.set_slots(seat);
    }

    /// Ends the threads; how many are left, because the application has them.
    pub(super) fn end(&self) -> usize {
        let reactor = self.seats.reactor.lock();
        let mut state = self.state();
        state.ending = true;
        let idle = std::mem::take(&mut state.idle);
        drop(reactor);
        idle.iter().for_each(|bed| bed.wake());
        let until = Instant::now() + ENDING;
        while state.started > self.seats.taken() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.left.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.started
    }

    // ---- the threads' side

    /// A thread's life.
    pub(super) fn work(self: &Arc<Self>, py: Python<'_>, seat: usize) {
        let _leaver = Leaver(self);
        let bed = Bed::new();
        let mut kit = Kit::default();
        let mut woken = Woken::Yes;
        self.seats.sit(seat, bed.clone());
        loop {
            match self.next(seat, &bed, woken) {
                Next::Serve(exchange) => {
                    woken = Woken::No;
                    self.serve(py, seat, &mut kit, exchange);
                }
                Next::Sleep => {
                    py.detach(|| bed.sleep());
                    woken = Woken::Yes;
                }
                Next::End => return,
            }
        }
    }

    /// To be called with the GIL.
    fn next(&self, seat: usize, bed: &Arc<Bed>, woken: Woken) -> Next {
        let mut reactor = self.seats.reactor.lock();
        let pulled = reactor.pull();
        let mut state = self.state();
        if woken == Woken::Yes {
            state.on_its_way = false;
        }
        let rested = if reactor.waiting() == 0 { state.resting.take() } else { None };
        let mut chained = None;
        let next = match pulled {
            Some(exchange) => {
                state.moved = reactor.now();
                self.seats.begin(seat, &exchange);
                // Nobody has had the reactor in between: the client is still there.
                if let Some(head) = reactor.head(exchange.id) {
                    self.board.begin(head.method(), head.path());
                }
                chained = self.next_of_chain(&reactor, &mut state);
                Next::Serve(exchange)
            }
            None if state.ending => Next::End,
            None => {
                state.idle.push(bed.clone());
                Next::Sleep
            }
        };
        drop((state, reactor));
        rested.into_iter().chain(chained).for_each(|bed| bed.wake());
        next
    }

    fn serve(&self, py: Python<'_>, seat: usize, kit: &mut Kit, mut exchange: Exchange) {
        self.bridge.run(py, kit, &mut exchange);
        fork::end_if_forked(py);
        let served = self.seats.end(py, seat);
        self.board.end();
        if self.tired_after == Some(served) {
            self.tired.store(true, Ordering::SeqCst);
            self.seats.reactor.wake();
        }
    }
}

/// However a thread ends, it is not counted any more.
struct Leaver<'a>(&'a Pool);

impl Drop for Leaver<'_> {
    fn drop(&mut self) {
        self.0.state().started -= 1;
        self.0.left.notify_all();
        if thread::panicking() {
            self.0.call(Call::End(Err("a thread has panicked".into())));
        }
    }
}
