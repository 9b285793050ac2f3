//! The system calls that need `unsafe`, and nothing else of the master.
//!
//! Rules: every fork happens with all signals blocked. The child makes itself at home (its own
//! handlers, no descriptor of the master's) and only then unblocks them, so a signal that arrives
//! in between waits and is never lost or answered by the wrong process.
//!
//! Who may call: only a process with one thread may `fork`.

use std::num::NonZeroUsize;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::prctl;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction,
};
use nix::unistd::{ForkResult, Pid, getppid};

use crate::death::Ending;
use crate::scoreboard::Slot;

/// All signals are blocked until this is restored.
#[must_use = "signals stay blocked until restore()"]
pub(crate) struct Blocked(SigSet);

impl Blocked {
    pub(crate) fn all() -> Self {
        let mut old = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut old))
            .expect("sigprocmask(2) fails only on a bad argument");
        Self(old)
    }

    pub(crate) fn restore(self) {
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.0), None)
            .expect("sigprocmask(2) fails only on a bad argument");
    }
}

/// Makes this process hear all signals, whatever a careless parent had blocked.
pub(crate) fn unblock_all() {
    Blocked(SigSet::empty()).restore();
}

/// Gives every signal its default action back, as a program expects that is to be executed: an
/// ignored one would stay ignored.
pub(crate) fn default_signals() {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL runs no code of ours. That KILL, STOP and the C library's own cannot be
        // set is no loss.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

/// Takes ownership of descriptors that the process that executed this one left open.
pub(crate) fn adopt(fds: &[RawFd]) -> nix::Result<Vec<OwnedFd>> {
    for fd in fds {
        // SAFETY: fcntl(2) takes any number, and sets a flag of a descriptor or fails.
        Errno::result(unsafe { libc::fcntl(*fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    }
    // SAFETY: they are open, and named to this process alone, which asks once.
    Ok(fds.iter().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }).collect())
}

/// fork(2). The witness shows that signals are blocked.
pub(crate) fn fork(_blocked: &Blocked) -> nix::Result<ForkResult> {
    // SAFETY: the callers (the master and a mold when it forks) have one thread, so the child's
    // copy of every lock is free and it may run any code. No safe wrapper exists because that
    // cannot be checked by a type.
    unsafe { nix::unistd::fork() }
}

/// Ends a forked child that has nothing to clean up: no exit handlers, no flushing of the parent's
/// buffers.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: _exit(2) takes any number and does not return.
    unsafe { libc::_exit(code) }
}

/// A worker is forked twice, by the mold and by its intermediate child; its parent must be the
/// master nevertheless.
pub(crate) fn adopt_orphans() -> nix::Result<()> {
    prctl::set_child_subreaper(true)
}

/// Returns when the parent, which is ending, is the parent no more; an ending that has only its
/// memory to give back is not worth being told of.
pub(crate) fn await_adoption(parent: Pid) {
    while getppid() == parent {
        std::thread::yield_now();
    }
}

/// A mold has no reason to outlive its master, and may be too busy importing to notice.
pub(crate) fn die_with(master: Pid) -> nix::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != master {
        // It died before the prctl(2): no signal will come.
        leave(0);
    }
    Ok(())
}

/// The application's subprocess module waits for its own children; it needs the default action.
///
/// Rust's own handler of SIGSEGV and SIGBUS tells of overflowing stacks. It takes the first such
/// signal that somebody *sends* for none, and Python's faulthandler would hand on to it.
pub(crate) fn default_for_python() -> nix::Result<()> {
    [Signal::SIGCHLD, Signal::SIGSEGV, Signal::SIGBUS].into_iter().try_for_each(default_action)
}

/// A process that was a master, and only waits for another now, is to end when it is told to.
pub(crate) fn default_actions() -> nix::Result<()> {
    let endings = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];
    endings.into_iter().try_for_each(default_action)
}

/// A write beyond the limit of a file's size (`ulimit -f`) fails like one to a full disk, instead
/// of ending the process. Children inherit it; a program that Python starts has the default.
pub(crate) fn outlive_file_limit() -> nix::Result<()> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { sigaction(Signal::SIGXFSZ, &ignore) }.map(drop)
}

fn default_action(signal: Signal) -> nix::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: SIG_DFL runs no code of ours.
    unsafe { sigaction(signal, &default) }.map(drop)
}

/// A dead child that is not reaped yet, if any. Its pid is still its own.
pub(crate) fn dead_child() -> Option<Pid> {
    // SAFETY: siginfo_t is plain data; all zero is how waitid(2) says "no child is dead" too.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the pointer is to a live siginfo_t. Not nix's: it makes an error of a death by a
    // real-time signal.
    uninterrupted(|| unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) }).ok()?;
    // SAFETY: waitid(2) fills the fields of a SIGCHLD, or leaves them zero.
    let pid = unsafe { info.si_pid() };
    (pid != 0).then_some(Pid::from_raw(pid))
}

/// Reaps a child, waiting for its end if need be: how it ended, and the most bytes it ever had
/// resident.
pub(crate) fn reap(pid: Pid) -> nix::Result<(Ending, u64)> {
    let mut status = 0;
    // SAFETY: rusage is plain data, for which all zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values. Not nix's: see above; nor has it wait4(2).
    uninterrupted(|| unsafe { libc::wait4(pid.as_raw(), &raw mut status, 0, &raw mut usage) })?;
    let ending = if libc::WIFEXITED(status) {
        Ending::Code(libc::WEXITSTATUS(status))
    } else {
        Ending::Signal(libc::WTERMSIG(status))
    };
    // In KiB (getrusage(2)).
    Ok((ending, u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024))
}

fn uninterrupted(mut call: impl FnMut() -> i32) -> nix::Result<i32> {
    loop {
        match Errno::result(call()) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// Takes ownership of descriptors that SCM_RIGHTS delivered.
pub(crate) fn own(fds: Vec<RawFd>) -> Vec<OwnedFd> {
    // SAFETY: recvmsg(2) has just made these descriptors for this process; nobody else knows them.
    fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// Memory that this process and all its descendants share, for ever.
pub(crate) fn map_shared(slots: NonZeroUsize) -> nix::Result<&'static [Slot]> {
    let length =
        slots.saturating_mul(NonZeroUsize::new(size_of::<Slot>()).expect("a slot has fields"));
    // SAFETY: a new anonymous mapping, placed by the kernel, touches nothing that exists.
    let memory = unsafe {
        mmap_anonymous(
            None,
            length,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_SHARED,
        )
    }?;
    // SAFETY: page-aligned, zero-filled (an all-zero Slot is valid: atomics only), `length` bytes,
    // never unmapped, and only ever accessed through atomics, in whichever process.
    Ok(unsafe { std::slice::from_raw_parts(memory.cast::<Slot>().as_ptr(), slots.get()) })
}
