//! The seam between the reactor and an application: what is handed over, and
//! what comes back. Nothing here knows which application, or in which language.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use crate::Handle;
use crate::body::Body;
use crate::reactor::Reactor;
use crate::trust::Seen;

/// How long to wait until it is looked again whether the process has been forked, and how
/// often. Not for ever: what else is done before a fork may wait for a request, and that
/// for the reactor.
const FORK: Duration = Duration::from_micros(100);
const LOOKS: u32 = 100;

/// Which exchange of which connection. Stays unique when the connection's
/// place is taken by another one; then it names nothing any more.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExchangeId {
    pub(crate) key: usize,
    /// Of the connection.
    pub(crate) serial: u32,
    /// Of the exchange on its connection.
    pub(crate) number: u32,
}

/// A complete request, handed to the application. Its head stays with the
/// connection: [`Reactor::head`].
#[derive(Debug)]
pub struct Exchange {
    /// Names the exchange in every later call.
    pub id: ExchangeId,
    /// The whole body.
    pub body: Body,
    /// The client, as far as is believed.
    pub peer: Peer,
    /// Where the client has found the proxy, if that has introduced it (PROXY
    /// protocol) and knows.
    pub proxy: Option<SocketAddr>,
    /// What else is believed of the request.
    pub seen: Arc<Seen>,
    /// Index of the listener it came in by, in the order of
    /// [`Reactor::new`]'s list.
    pub listener: usize,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// An IP address and port; an IPv4 client of an IPv6 socket shows as IPv4.
    Tcp(SocketAddr),
    /// A unix socket's client has no address.
    Unix,
}

impl Peer {
    pub(crate) fn tcp(address: SocketAddr) -> Self {
        Self::Tcp(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) if address.port() == 0 => write!(f, "{}", address.ip()),
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// What became of data for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Sent {
    /// Written, or in the buffer.
    Taken,
    /// Taken as well, but the buffer is above its high-water mark: wait for
    /// [`Reactor::room`] before the next piece.
    Full,
    /// The client has gone; nothing more will reach it.
    Gone,
}

/// An application behind the reactor.
pub trait Gateway {
    /// Runs the application on a complete request. The reactor is not locked
    /// meanwhile.
    ///
    /// Every exchange must end in exactly one `respond`, `finish` or `fail` on
    /// the reactor, now or later, also when the client has gone meanwhile: until
    /// then it holds a slot.
    fn call(&mut self, exchange: Exchange);
}

/// A reactor that a driver, and the calls of an application, take turns with.
/// The lock is held for one step at a time, and never while the application
/// runs. A step may be to sleep: whoever else wants the reactor ends that sleep;
/// unless it is shared [`apart`](Shared::apart), then it sleeps without the lock.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Turns>);

#[derive(Debug)]
struct Turns {
    reactor: Mutex<Reactor>,
    /// Threads that wait for the lock.
    queue: AtomicUsize,
    /// A thread is about to fork the process.
    forking: AtomicBool,
    apart: bool,
    handle: Handle,
}

impl Shared {
    /// Shares `reactor`.
    pub fn new(reactor: Reactor) -> Self {
        Self::with(reactor, false)
    }

    /// Shares it among threads that act on it all the time, while one of them
    /// turns it: what they do ends the sleep of that one only if it leaves
    /// something to do before. They pull the requests themselves.
    pub fn apart(mut reactor: Reactor) -> Self {
        reactor.pulled = true;
        Self::with(reactor, true)
    }

    fn with(reactor: Reactor, apart: bool) -> Self {
        let handle = reactor.handle();
        let (queue, forking) = Default::default();
        Self(Arc::new(Turns { reactor: Mutex::new(reactor), queue, forking, apart, handle }))
    }

    /// The reactor, for one step. Waits no longer than a wake-up for a thread
    /// that sleeps with it.
    pub fn lock(&self) -> MutexGuard<'_, Reactor> {
        self.try_lock().unwrap_or_else(|| self.queue())
    }

    /// The reactor, if no other thread has it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, Reactor>> {
        match self.0.reactor.try_lock() {
            Ok(reactor) => Some(reactor),
            // A panic in one step has ended one connection at most; the others
            // are still served.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Whether another thread waits for the reactor: no time to sleep with it.
    pub fn is_wanted(&self) -> bool {
        self.0.queue.load(Ordering::SeqCst) > 0
    }

    /// [`Reactor::wait`], but without sleep while another thread waits for the
    /// reactor.
    ///
    /// # Errors
    /// Those of epoll_wait(2).
    pub fn wait(&self, limit: Option<Duration>) -> io::Result<()> {
        let mut reactor = self.lock_to_turn();
        if !self.0.apart {
            return reactor.wait(if self.is_wanted() { Some(Duration::ZERO) } else { limit });
        }
        let Some((mut sleeper, limit)) = reactor.fall_asleep(limit) else { return Ok(()) };
        drop(reactor);
        let slept = sleeper.poll(limit);
        self.lock().wake_up(sleeper, slept)
    }

    /// Works through what [`Shared::wait`] found. Complete requests stay, for
    /// [`Reactor::pull`]; whoever wants the reactor gets it in between.
    pub fn stir(&self) {
        let mut reactor = self.lock_to_turn();
        reactor.expire();
        while reactor.step() {
            if self.is_wanted() {
                drop(reactor);
                thread::yield_now();
                reactor = self.lock_to_turn();
            }
        }
        reactor.settled();
    }

    /// The thread that calls is about to fork the process: until it says
    /// [`Shared::forked`], no other has the reactor for long.
    pub fn fork(&self) {
        self.0.forking.store(true, Ordering::SeqCst);
        self.0.queue.fetch_add(1, Ordering::SeqCst);
        drop(self.lock());
    }

    /// In the process that has forked.
    pub fn forked(&self) {
        self.0.queue.fetch_sub(1, Ordering::SeqCst);
        self.0.forking.store(false, Ordering::SeqCst);
    }

    /// As [`Shared::lock`]; who turns the reactor is in no hurry.
    #[expect(clippy::disallowed_methods, reason = "to fork the process takes a moment, no more")]
    fn lock_to_turn(&self) -> MutexGuard<'_, Reactor> {
        for _ in 0..LOOKS {
            if !self.0.forking.load(Ordering::SeqCst) {
                break;
            }
            thread::sleep(FORK);
        }
        self.lock()
    }

    /// Ends the sleep of whoever sleeps with the reactor, or the next such sleep.
    pub fn wake(&self) {
        if let Err(error) = self.0.handle.wake() {
            log::warn!("cannot wake the event loop: {error}");
        }
    }

    /// The order matters: who is about to sleep either sees that it is wanted,
    /// or is woken, since the poller remembers a wake-up that comes early.
    #[cold]
    fn queue(&self) -> MutexGuard<'_, Reactor> {
        self.0.queue.fetch_add(1, Ordering::SeqCst);
        if !self.0.apart {
            self.wake();
        }
        let reactor = self.0.reactor.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.queue.fetch_sub(1, Ordering::SeqCst);
        reactor
    }

    /// One turn for drivers that do not care where they sleep: waits for at most
    /// `limit` and hands every complete request to `gateway`.
    ///
    /// # Errors
    /// Those of epoll_wait(2).
    pub fn turn(&self, limit: Option<Duration>, gateway: &mut impl Gateway) -> io::Result<()> {
        self.wait(limit)?;
        loop {
            let Some(exchange) = self.lock().next() else { return Ok(()) };
            gateway.call(exchange);
        }
    }
}

/// Where a worker shows what it is doing, for whoever watches it from outside.
/// Called by the thread that runs the application; must be cheap.
pub trait Board: Send + Sync {
    /// The loop came round, or a long step made progress.
    fn awake(&self);
    /// The loop is about to wait for events: not stuck, however long it lasts.
    fn asleep(&self);
    /// The application is called.
    fn begin(&self, method: &[u8], path: &[u8]);
    /// The application has finished.
    fn end(&self);
    /// Of several requests this one is with the application for the longest.
    fn longest(&self, age: Duration, method: &[u8], path: &[u8]);
    /// The application wants more time: no sign of life for `by` is no delay.
    fn extend(&self, by: Duration);
}

/// Nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct NoBoard;

impl Board for NoBoard {
    fn awake(&self) {}
    fn asleep(&self) {}
    fn begin(&self, _: &[u8], _: &[u8]) {}
    fn end(&self) {}
    fn longest(&self, _: Duration, _: &[u8], _: &[u8]) {}
    fn extend(&self, _: Duration) {}
}
