//! Which request each thread has, as the threads, the turner and the main thread
//! see it.
//!
//! Rules: a thread begins and ends the request at its seat, with the GIL. The
//! turner makes it overdue, once. The main thread raises `RequestTimeout` in it,
//! with the GIL: so the request that was meant is the one that is hit, and what
//! has not hit it by its end is taken back.

use std::cell::Cell;
use std::ffi::c_ulong;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;
use serve_net::{Exchange, ExchangeId, Reactor, Sent, Shared};

use super::pool::Bed;
use crate::drive::Host;
use crate::drive::running::{LONGEST, Patience, Running};

thread_local! {
    /// Which seat the thread has that runs.
    static SEAT: Cell<Option<usize>> = const { Cell::new(None) };
}

pub(super) struct Seats {
    pub(super) reactor: Shared,
    state: Mutex<State>,
    /// Threads that wait for their client to read.
    waiting: Mutex<Vec<(ExchangeId, Arc<Bed>)>>,
    /// Whether the GIL could be had.
    beaten: AtomicBool,
    /// Whether a request's time may be over sooner than was known.
    hurry: AtomicBool,
}

struct State {
    served: u64,
    seats: Vec<Seat>,
}

#[derive(Clone, Default)]
struct Seat {
    /// Python's name of the thread.
    ident: c_ulong,
    bed: Option<Arc<Bed>>,
    taken: Option<Taken>,
}

/// What a thread does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub(super) running: Running,
    pub(super) since: Instant,
    /// Its connection is the application's.
    pub(super) detached: bool,
    /// When its client was answered in the application's place.
    pub(super) over: Option<Instant>,
}

impl Seats {
    pub(super) fn new(reactor: Shared, count: usize) -> Self {
        let state = State { served: 0, seats: vec![Seat::default(); count] };
        Self {
            reactor,
            state: Mutex::new(state),
            waiting: Mutex::default(),
            beaten: AtomicBool::new(true),
            hurry: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(ExchangeId, Arc<Bed>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the thread that calls has, if it has something.
    fn here<T>(&self, act: impl FnOnce(&mut Taken) -> T) -> Option<T> {
        let seat = SEAT.get()?;
        self.state().seats[seat].taken.as_mut().map(act)
    }

    /// Seats whose thread has a request.
    pub(super) fn taken(&self) -> usize {
        self.state().seats.iter().filter(|seat| seat.taken.is_some()).count()
    }

    // ---- the threads' side

    /// The thread that calls has this seat.
    pub(super) fn sit(&self, seat: usize, bed: Arc<Bed>) {
        SEAT.set(Some(seat));
        // SAFETY: has no preconditions.
        let ident = unsafe { ffi::PyThread_get_thread_ident() };
        self.state().seats[seat] = Seat { ident, bed: Some(bed), taken: None };
    }

    /// The application gets a request.
    pub(super) fn begin(&self, seat: usize, exchange: &Exchange) {
        let mut state = self.state();
        let running = Running::new(state.served, exchange);
        state.seats[seat].taken =
            Some(Taken { running, since: Instant::now(), detached: false, over: None });
    }

    /// The application has finished it; how many requests that makes.
    pub(super) fn end(&self, _: Python<'_>, seat: usize) -> u64 {
        let mut state = self.state();
        let seat = &mut state.seats[seat];
        if let Some(taken) = seat.taken.take()
            && taken.running.patience == Patience::Raised
        {
            set_exception(seat.ident, None);
        }
        state.served += 1;
        state.served
    }

    // ---- the turner's side

    /// What all threads do now.
    pub(super) fn look(&self) -> Vec<(usize, Taken)> {
        let state = self.state();
        let seats = state.seats.iter().enumerate();
        seats.filter_map(|(seat, it)| Some((seat, it.taken?))).collect()
    }

    /// The time of a request is over; false when it has ended meanwhile, or got
    /// more time.
    pub(super) fn expire(&self, seat: usize, seen: &Taken) -> bool {
        let mut state = self.state();
        let Some(taken) = &mut state.seats[seat].taken else { return false };
        let expired = taken.running.expire(&seen.running);
        if expired {
            taken.over = Some(Instant::now());
        }
        expired
    }

    /// Wakes the threads whose client has read enough, or has gone.
    pub(super) fn make_room(&self) {
        if self.waiting().is_empty() {
            return;
        }
        let reactor = self.reactor.lock();
        self.waiting().retain(|(id, bed)| {
            let full = reactor.room(*id) == Sent::Full;
            if !full {
                bed.wake();
            }
            full
        });
    }

    /// Whether the GIL could be had since the last call.
    pub(super) fn take_beat(&self) -> bool {
        self.beaten.swap(false, Ordering::SeqCst)
    }

    /// Whether to look at the requests' time earlier than was planned.
    pub(super) fn take_hurry(&self) -> bool {
        self.hurry.swap(false, Ordering::SeqCst)
    }

    // ---- the main thread's side

    /// The GIL can be had.
    pub(super) fn beat(&self) {
        self.beaten.store(true, Ordering::SeqCst);
    }

    /// Raises `exception` in the overdue request of this number, if it still
    /// runs.
    pub(super) fn raise(&self, seat: usize, number: u64, exception: &Bound<'_, PyType>) {
        let mut state = self.state();
        let seat = &mut state.seats[seat];
        if let Some(taken) = &mut seat.taken
            && taken.running.number == number
            && taken.running.claim()
        {
            set_exception(seat.ident, Some(exception));
        }
    }

    /// Waits until there is room, without the GIL.
    fn await_room(&self, id: ExchangeId, bed: &Arc<Bed>) -> Sent {
        loop {
            let reactor = self.reactor.lock();
            match self.room_or_wait(&reactor, id, bed) {
                Sent::Full => {}
                sent => return sent,
            }
            drop(reactor);
            bed.sleep();
        }
    }

    fn room_or_wait(&self, reactor: &Reactor, id: ExchangeId, bed: &Arc<Bed>) -> Sent {
        let sent = reactor.room(id);
        if sent == Sent::Full {
            self.waiting().push((id, bed.clone()));
        }
        sent
    }
}

/// Makes the thread raise `exception` as soon as it runs bytecode, or takes that
/// back.
fn set_exception(ident: c_ulong, exception: Option<&Bound<'_, PyType>>) {
    let exception = exception.map_or(std::ptr::null_mut(), Bound::as_ptr);
    // `c_long` in older versions of Python; the same bits.
    let ident = ident as _;
    // SAFETY: callers have the GIL. The exception is borrowed, and the function
    // keeps a reference of its own.
    unsafe { ffi::PyThreadState_SetAsyncExc(ident, exception) };
}

impl Host for Seats {
    /// The turner says when.
    fn room(&self, py: Python<'_>, id: ExchangeId) -> PyResult<Sent> {
        let bed = SEAT.get().and_then(|seat| self.state().seats[seat].bed.clone());
        self.here(|taken| taken.running.pause());
        let bed = bed.unwrap_or_else(Bed::new);
        let sent = py.detach(|| self.await_room(id, &bed));
        self.here(|taken| taken.running.resume());
        Ok(sent)
    }

    fn is_overdue(&self, _: ExchangeId) -> bool {
        self.here(|taken| taken.running.patience != Patience::Lasts).unwrap_or(false)
    }

    fn detached(&self, _: ExchangeId, _: Option<String>) {
        self.here(|taken| taken.detached = true);
    }

    fn extend(&self, more: Duration) {
        match self.here(|taken| taken.running.extend(more.min(LONGEST))) {
            // The turner may be asleep until the old end, and the new one be sooner.
            Some(true) => {
                self.hurry.store(true, Ordering::SeqCst);
                self.reactor.wake();
            }
            Some(false) => {}
            None => log::warn!(
                "serve.extend_timeout was called by a thread that has no request; it gives nobody time"
            ),
        }
    }
}
