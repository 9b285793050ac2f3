//! The one door into a reactor from another thread.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use mio::Waker;

use crate::Reactor;

type Job = Box<dyn FnOnce(&mut Reactor) + Send>;

/// Runs work on the reactor's thread, from anywhere: a thread that has finished
/// an exchange answers it with `handle.run(move |reactor| reactor.respond(…))`.
#[derive(Clone)]
pub struct Handle {
    jobs: Arc<Mutex<Vec<Job>>>,
    waker: Arc<Waker>,
}

impl Handle {
    pub(crate) fn new(waker: Waker) -> Self {
        Self { jobs: Arc::default(), waker: Arc::new(waker) }
    }

    /// Queues `job` for the reactor's next turn and wakes it.
    ///
    /// # Errors
    /// When the wake-up descriptor fails; the job then waits for the next event.
    pub fn run(&self, job: impl FnOnce(&mut Reactor) + Send + 'static) -> io::Result<()> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(job));
        self.wake()
    }

    /// Ends the reactor's sleep, or its next one.
    ///
    /// # Errors
    /// When the wake-up descriptor fails.
    pub fn wake(&self) -> io::Result<()> {
        self.waker.wake()
    }

    pub(crate) fn take(&self) -> Vec<Job> {
        std::mem::take(&mut *self.jobs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
