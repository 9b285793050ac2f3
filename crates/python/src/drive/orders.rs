//! What a worker is told from outside, and who carries it out.

use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serve_net::{Heirs, Shared};

use super::Options;
use crate::farewell::Farewell;

/// What a worker is told from outside between two requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Finish what is there, then end; others serve on.
    Retire,
    /// Finish what is there, then end; so do all others.
    Stop,
    /// End now.
    Quit,
}

/// The side of the process the driver listens to. Called by both threads of a
/// worker, by one at a time.
pub trait Control: Send {
    /// Descriptors that become readable when [`Control::orders`] has something.
    fn watched(&self) -> Vec<BorrowedFd<'_>>;
    /// What has arrived since the last call.
    fn orders(&mut self) -> Vec<Order>;
    /// Everything is set up; the first request can come.
    fn ready(&mut self);
    /// It is time for a successor. The worker serves on until it is told to stop.
    fn tired(&mut self);
    /// The same, because a request whose time is over does not end.
    fn stuck(&mut self);
}

/// The master's orders, carried out by whichever thread hears them.
pub(crate) struct Orders<'a> {
    control: Mutex<&'a mut dyn Control>,
    /// Where the interpreter says that a signal of the application has come.
    wakeup: UnixStream,
    idle_grace: Duration,
    graceful_timeout: Duration,
    farewell: Arc<Farewell>,
    quit: AtomicBool,
}

impl<'a> Orders<'a> {
    pub(super) fn new(
        control: &'a mut dyn Control,
        wakeup: UnixStream,
        options: &Options,
        farewell: Arc<Farewell>,
    ) -> Self {
        let Options { idle_grace, graceful_timeout, .. } = *options;
        let quit = AtomicBool::new(false);
        Self { control: Mutex::new(control), wakeup, idle_grace, graceful_timeout, farewell, quit }
    }

    pub(super) fn control(&self) -> MutexGuard<'_, &'a mut dyn Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what has been ordered.
    pub(crate) fn obey(&self, reactor: &Shared) {
        // Only the wake-up counted; the loop runs the handlers.
        while matches!((&self.wakeup).read(&mut [0; 64]), Ok(1..)) {}
        let orders = self.control().orders();
        for order in orders {
            match order {
                Order::Retire => self.drain(reactor, Heirs::Some),
                Order::Stop => self.drain(reactor, Heirs::None),
                Order::Quit => {
                    self.farewell.say_and_leave();
                    self.quit.store(true, Ordering::SeqCst);
                }
            }
        }
        // The main thread, if it is not the one that calls, has to look.
        reactor.wake();
    }

    fn drain(&self, reactor: &Shared, heirs: Heirs) {
        self.farewell.announce(self.graceful_timeout);
        reactor.lock().drain(self.idle_grace, heirs);
    }

    pub(super) fn is_quit(&self) -> bool {
        self.quit.load(Ordering::SeqCst)
    }
}
