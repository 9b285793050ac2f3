//! The signal with which the relay reaches the main thread, whatever that is
//! doing. nix has no types for real-time signals.
//!
//! Three handlers are chained: faulthandler's writes the stacks into a memory
//! file; ours notes that it has done so; CPython's makes the interpreter call
//! the one in Python.
//!
//! An [`Alarm`] is made by the main thread; the relay rings it.

use std::fs::File;
use std::io::{self, Seek};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libc::c_int;

/// How long to wait for the stacks. A thread that the kernel does not let go
/// (a disk that hangs) writes none.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often to look for them.
const TICK: Duration = Duration::from_millis(1);

/// How often the handler ran.
static HEARD: AtomicU32 = AtomicU32::new(0);
/// CPython's handler, an `extern "C" fn(c_int)`.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The number of the signal; the lower ones of its kind are the application's.
pub(crate) fn signal() -> c_int {
    libc::SIGRTMAX() - 2
}

extern "C" fn note(signal: c_int) {
    HEARD.fetch_add(1, Ordering::SeqCst);
    let next = NEXT.load(Ordering::SeqCst);
    if next > libc::SIG_IGN {
        // SAFETY: it was installed as the handler of a signal without
        // SA_SIGINFO, so this is its type (sigaction(2)).
        let next = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(next) };
        next(signal);
    }
}

/// See the module's description.
pub(crate) struct Alarm {
    thread: libc::pthread_t,
    stacks: File,
}

impl Alarm {
    /// Reaches the thread that calls this, until the process ends.
    ///
    /// # Errors
    /// Those of memfd_create(2) and sigaction(2).
    pub(crate) fn new() -> io::Result<Self> {
        let mut old = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: the structure is plain data, and all zero is valid: no flags,
        // an empty mask. `note` does only what is allowed in a handler (atomics,
        // and CPython's handler). The descriptor is new, and nobody else's.
        unsafe {
            let mut action = std::mem::zeroed::<libc::sigaction>();
            action.sa_sigaction = note as *const () as usize;
            checked(libc::sigaction(signal(), &raw const action, old.as_mut_ptr()))?;
            NEXT.store(old.assume_init().sa_sigaction, Ordering::SeqCst);
            let fd = checked(libc::memfd_create(c"stacks".as_ptr(), libc::MFD_CLOEXEC))?;
            Ok(Self { thread: libc::pthread_self(), stacks: File::from_raw_fd(fd) })
        }
    }

    /// Where the stacks are to be written.
    pub(crate) fn stacks(&self) -> BorrowedFd<'_> {
        self.stacks.as_fd()
    }

    /// Signals the thread; returns the stacks that were written because of it.
    ///
    /// # Errors
    /// When the thread does not react, or what the system says.
    pub(crate) fn ring(&self) -> io::Result<String> {
        self.stacks.set_len(0)?;
        (&self.stacks).rewind()?;
        let before = HEARD.load(Ordering::SeqCst);
        // SAFETY: the thread lives: it is the main thread, which ends last.
        match unsafe { libc::pthread_kill(self.thread, signal()) } {
            0 => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
        let until = Instant::now() + PATIENCE;
        while HEARD.load(Ordering::SeqCst) == before {
            if Instant::now() > until {
                return Err(io::Error::other("the thread does not react to a signal"));
            }
            thread::sleep(TICK);
        }
        let mut text = vec![0; usize::try_from(self.stacks.metadata()?.len()).unwrap_or(0)];
        self.stacks.read_exact_at(&mut text, 0)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// This thread, and those it starts, hear no signals until this is dropped.
pub(crate) struct Blocked(libc::sigset_t);

impl Blocked {
    pub(crate) fn all() -> Self {
        let mut all = MaybeUninit::uninit();
        let mut old = MaybeUninit::uninit();
        // SAFETY: both sets are ours, the first is filled before it is read, and
        // pthread_sigmask(3) fails only on a bad first argument.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
            Self(old.assume_init())
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: restores what pthread_sigmask(3) gave.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}
