//! Signals as readable descriptors, on top of signal-hook.
//!
//! signal-hook installs its handler once per signal and process, and a fork inherits it with the
//! list of what to do. So a child drops the master's [`Signals`] first: that takes the master's
//! actions off the list (nothing is written to its pipe) and leaves handlers that do nothing, which
//! is what a mold wants; a program that the child executes starts with the default actions all the
//! same.
//!
//! SIGPIPE is not touched: Rust ignores it at start-up, and so does Python. SIGXFSZ is ignored.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

use crate::worker::RETIRE;

/// What the master listens to.
pub(crate) const MASTER: [Signal; 10] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGWINCH,
    Signal::SIGCHLD,
];

/// What a worker listens to. It inherits handlers that do nothing for the rest of the master's,
/// except SIGCHLD.
pub(crate) const WORKER: [Signal; 5] =
    [RETIRE, Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1];

/// A pipe for [`Signals`]. Made apart from them because a mold makes it before the fork, where
/// failing is harmless.
pub(crate) fn pipe() -> io::Result<(UnixStream, UnixStream)> {
    UnixStream::pair()
}

pub(crate) struct Signals(SignalDelivery<UnixStream, WithOrigin>);

impl Signals {
    pub(crate) fn listen(
        (read, write): (UnixStream, UnixStream),
        to: &[Signal],
    ) -> io::Result<Self> {
        let numbers = to.iter().map(|signal| *signal as i32);
        SignalDelivery::with_pipe(read, write, WithOrigin::default(), numbers).map(Self)
    }

    /// The signals that came since the last call, and who sent them, if a process did.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = (Signal, Option<Pid>)> {
        self.0.pending().filter_map(|origin| {
            let signal = Signal::try_from(origin.signal).ok()?;
            let from = origin.process.map(|process| Pid::from_raw(process.pid));
            (!is_terminal_noise(signal, origin.cause)).then_some((signal, from))
        })
    }
}

/// The kernel's own SIGWINCH says that the terminal was resized, its TTIN and TTOU that a
/// background job used the terminal; only a process that sends them means the server.
fn is_terminal_noise(signal: Signal, cause: Cause) -> bool {
    matches!(signal, Signal::SIGWINCH | Signal::SIGTTIN | Signal::SIGTTOU)
        && !matches!(cause, Cause::Sent(_))
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.get_read().as_raw_fd()
    }
}
