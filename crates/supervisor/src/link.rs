//! The master as its children see it: a mold's link, a worker's pipes, and the fork between the
//! two.
//!
//! A mold reports, gets a plan, says that it is ready, and then does what it is ordered: it waits
//! in [`MoldLink::order`] and forks workers. A worker talks through two pipes: `ready`, on which
//! its first word is its pid, its second that it serves, and a third, perhaps, that it wants to be
//! replaced; and the lifeline, on which nothing is ever written: EOF is the master's death.
//!
//! Deliberately absent: reconnecting. A child whose link is gone leaves.
//!
//! Who may call: the main thread of a child that [`run`](crate::run) returned in;
//! [`MoldLink::fork`] only while that is the process's one thread.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, getpid, read};
use serde::{Deserialize, Serialize};

use crate::death::Ending;
use crate::scoreboard::{Scoreboard, Slot};
use crate::signals::{self, Signals};
use crate::sys::{self, Blocked};
use crate::wire::{self, Received, Socket};
use crate::worker::{RETIRE, WorkerId};
use crate::{Error, Refusal};

/// What the master tells a mold. `Plan` carries a memory file; `Fork` the `ready` pipe and
/// the listeners, of which a mold keeps no copy: they would be open when the workers have closed
/// theirs.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum ToMold {
    Plan,
    Fork(WorkerId),
    Reopen,
    News(News),
}

/// What a mold tells the master. `Report` carries a memory file, and says whether the mold wants
/// [`News`].
#[derive(Serialize, Deserialize, Debug)]
pub(crate) enum ToMaster {
    Report { news: bool },
    Ready,
    Failed { code: i32, message: String },
}

/// On the `ready` pipe after the pid.
pub(crate) const READY: u8 = b'R';
/// On the `ready` pipe after `READY`, with a byte that says why.
pub(crate) const TIRED: u8 = b'T';
/// A failure's message is one sentence; this is for the one that is not. Escaped, it still fits a
/// message.
const LONGEST_TEXT: usize = 16 * 1024;

/// What the server lives through, told to the mold of the generation that serves if it wants to
/// know.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub enum News {
    /// The first worker ever is ready.
    Serving,
    /// A worker is no more; no process where none came of its fork.
    Died {
        /// Its number.
        worker: WorkerId,
        /// Its process, which is reaped.
        pid: Option<i32>,
    },
    /// How many workers there are to be has been decided.
    Workers {
        /// From now on.
        now: u16,
        /// Until now; `None` the first time.
        before: Option<u16>,
    },
    /// The server stops: its workers first, then this mold. No more clients are to be let in.
    Stopping,
}

/// What runs around the forks of a mold; for CPython the three functions that `os.fork` calls
/// (`PyOS_BeforeFork`, `PyOS_AfterFork_Parent`, `PyOS_AfterFork_Child`).
pub trait ForkHooks {
    /// In the mold, before it forks.
    fn before(&self) {}
    /// In the mold, afterwards, whether or not the fork succeeded.
    fn parent(&self) {}
    /// In the new worker. (The intermediate child of the double fork runs no hook.)
    fn child(&self) {}
}

/// No hooks.
impl ForkHooks for () {}

/// A worker that the master wants, with its end of the `ready` pipe.
#[derive(Debug)]
pub struct Seat {
    worker: WorkerId,
    ready: OwnedFd,
    listeners: Vec<OwnedFd>,
}

impl Seat {
    /// The number of the worker.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }
}

/// What a mold is to do.
#[derive(Debug)]
pub enum Order {
    /// Call [`MoldLink::fork`].
    Fork(Seat),
    /// Open the log files anew.
    Reopen,
    /// Take note.
    News(News),
    /// The generation is over, or the master is gone: leave quietly.
    Leave,
}

/// In which process [`MoldLink::fork`] returns.
#[derive(Debug)]
pub enum Forked {
    /// In the mold, also when the fork failed (the master knows, and orders again).
    Mold(MoldLink),
    /// In the new worker.
    Worker(WorkerLink),
}

/// A mold's side of its link.
#[derive(Debug)]
pub struct MoldLink {
    generation: u32,
    socket: Socket,
    lifeline: OwnedFd,
    scoreboard: Scoreboard,
}

impl MoldLink {
    pub(crate) fn new(
        generation: u32,
        socket: Socket,
        lifeline: OwnedFd,
        scoreboard: Scoreboard,
    ) -> Self {
        Self { generation, socket, lifeline, scoreboard }
    }

    /// The number of this generation, from 1.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Tells the master the configuration as it was evaluated: any bytes, for
    /// [`Site::plan`](crate::Site::plan). With `news`, orders include [`Order::News`], and the mold
    /// outlives the workers.
    ///
    /// # Errors
    /// [`Error::System`] when the master is gone or memory is short.
    pub fn report(&self, config: &[u8], news: bool) -> Result<(), Error> {
        let file = wire::blob(config)?;
        self.socket.send(&ToMaster::Report { news }, &[file.as_fd()])
    }

    /// Waits for the plan. `None`: leave quietly.
    ///
    /// # Errors
    /// [`Error::System`] and [`Error::Link`].
    pub fn plan(&self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            match self.socket.receive()? {
                Received::Message(ToMold::Plan, mut fds) if !fds.is_empty() => {
                    return wire::unblob(fds.remove(0)).map(Some);
                }
                // No log file is open before there is a plan, and nothing is news.
                Received::Message(ToMold::Reopen | ToMold::News(_), _) | Received::Nothing => {}
                Received::Message(other, _) => {
                    return Err(Error::Link(format!("{other:?} instead of a plan")));
                }
                Received::End => return Ok(None),
            }
        }
    }

    /// Tells the master that workers can be forked now.
    ///
    /// # Errors
    /// [`Error::System`] when the master is gone.
    pub fn ready(&self) -> Result<(), Error> {
        self.socket.send(&ToMaster::Ready, &[])
    }

    /// Tells the master why this generation cannot be; the mold is expected to leave. `message` is
    /// one sentence.
    ///
    /// # Errors
    /// [`Error::System`] when the master is gone.
    pub fn failed(self, refusal: Refusal) -> Result<(), Error> {
        let Refusal { code, mut message } = refusal;
        let end =
            (0..=LONGEST_TEXT.min(message.len())).rev().find(|at| message.is_char_boundary(*at));
        message.truncate(end.unwrap_or(0));
        self.socket.send(&ToMaster::Failed { code, message }, &[])
    }

    /// Waits for the next order.
    ///
    /// # Errors
    /// [`Error::System`] and [`Error::Link`].
    pub fn order(&self) -> Result<Order, Error> {
        loop {
            match self.socket.receive()? {
                Received::Message(ToMold::Fork(worker), mut fds) if !fds.is_empty() => {
                    let ready = fds.remove(0);
                    return Ok(Order::Fork(Seat { worker, ready, listeners: fds }));
                }
                Received::Message(ToMold::Reopen, _) => return Ok(Order::Reopen),
                Received::Message(ToMold::News(news), _) => return Ok(Order::News(news)),
                Received::Message(other, _) => {
                    return Err(Error::Link(format!("{other:?} instead of an order")));
                }
                Received::Nothing => {}
                Received::End => return Ok(Order::Leave),
            }
        }
    }

    /// Forks the worker of a seat: twice, so that it becomes the master's child. Returns in both
    /// processes. Only while this process has one thread.
    ///
    /// A fork that fails is told to the master, which orders again later; it is not an error here.
    pub fn fork(self, seat: Seat, hooks: &dyn ForkHooks) -> Forked {
        hooks.before();
        let blocked = Blocked::all();
        // Made before the fork: here its failing costs nothing.
        let forked = signals::pipe()
            .map_err(|error| errno(&error))
            .and_then(|pipe| Ok((pipe, sys::fork(&blocked)?)));
        let failure = match forked {
            Ok((pipe, ForkResult::Child)) => {
                fork_again(&blocked);
                let link = WorkerLink::new(self, seat, pipe);
                blocked.restore();
                hooks.child();
                return Forked::Worker(link);
            }
            Ok((_, ForkResult::Parent { child })) => match sys::reap(child) {
                Ok((Ending::Code(code), _)) if code != 0 => Some(Errno::from_raw(code)),
                // Born or not is for the pipe to tell, also when nobody knows (an application that
                // ignores SIGCHLD reaps the intermediate child before us).
                _ => None,
            },
            Err(errno) => Some(errno),
        };
        blocked.restore();
        hooks.parent();
        if let Some(errno) = failure {
            say(&mut File::from(seat.ready), &(-(errno as i32)).to_ne_bytes());
        }
        Forked::Mold(self)
    }
}

/// In the intermediate child: forks the worker and ends, its exit code the errno. Returns in the
/// worker, and once that is the master's child: an application may ask for its parent.
fn fork_again(blocked: &Blocked) {
    let intermediate = getpid();
    match sys::fork(blocked) {
        Ok(ForkResult::Child) => sys::await_adoption(intermediate),
        Ok(ForkResult::Parent { .. }) => sys::leave(0),
        Err(errno) => sys::leave(errno as i32),
    }
}

/// Why a worker asks to be replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It has served as many requests as it should.
    Requests,
    /// A request whose time is over does not end.
    Stuck,
    /// It has a reason of its own.
    Other,
}

impl Reason {
    fn byte(self) -> u8 {
        match self {
            Self::Requests => b'N',
            Self::Stuck => b'S',
            Self::Other => b'O',
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Self {
        match byte {
            b'N' => Self::Requests,
            b'S' => Self::Stuck,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requests => "it has served its requests (max-requests)",
            Self::Stuck => "a request does not end although its time is over",
            Self::Other => "it asks for it",
        })
    }
}

/// How much a worker has told the master.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Told {
    Pid,
    Ready,
    Tired,
}

/// What a worker is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// URG: as [`Command::Stop`], while others serve on and can take what is idle here.
    Retire,
    /// TERM: finish what is there, then leave with exit code 0.
    Stop,
    /// INT or QUIT: leave as soon as possible, with exit code 0.
    Quit,
    /// USR1: open the log files anew.
    Reopen,
    /// The master is gone: nobody will take over, restart or stop this worker. Repeated by every
    /// `take`.
    Orphaned,
}

/// A worker's side of its pipes.
pub struct WorkerLink {
    worker: WorkerId,
    generation: u32,
    slot: &'static Slot,
    ready: File,
    told: Told,
    lifeline: OwnedFd,
    signals: Signals,
    listeners: Vec<OwnedFd>,
}

impl WorkerLink {
    /// In the new worker, with all signals blocked. The mold's socket is dropped: its EOF is the
    /// mold's death.
    fn new(mold: MoldLink, seat: Seat, pipe: (UnixStream, UnixStream)) -> Self {
        let MoldLink { generation, lifeline, scoreboard, .. } = mold;
        let signals = Signals::listen(pipe, &signals::WORKER)
            .expect("the master installed these handlers; one more action cannot fail");
        let slot = scoreboard.slot(seat.worker);
        slot.occupy(getpid(), generation);
        let mut ready = File::from(seat.ready);
        // From now on the master can signal this process, and it listens.
        say(&mut ready, &getpid().as_raw().to_ne_bytes());
        let (worker, listeners) = (seat.worker, seat.listeners);
        Self { worker, generation, slot, ready, told: Told::Pid, lifeline, signals, listeners }
    }

    /// This worker's number.
    pub fn id(&self) -> WorkerId {
        self.worker
    }

    /// The generation it belongs to.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Its place on the scoreboard, which it alone writes.
    pub fn slot(&self) -> &'static Slot {
        self.slot
    }

    /// The listeners in the plan's order, close-on-exec; none the second time.
    pub fn take_listeners(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.listeners)
    }

    /// Tells the master that this worker serves. Further calls do nothing.
    pub fn ready(&mut self) {
        if self.told < Told::Ready {
            self.told = Told::Ready;
            self.slot.ready();
            say(&mut self.ready, &[READY]);
        }
    }

    /// Asks the master to replace this worker: after [`WorkerLink::ready`], and once; further calls
    /// do nothing. It serves on until it is told to stop, which is when a successor is ready.
    pub fn tired(&mut self, reason: Reason) {
        if self.told == Told::Ready {
            self.told = Told::Tired;
            say(&mut self.ready, &[TIRED, reason.byte()]);
        }
    }

    /// Descriptors that become readable when [`WorkerLink::take`] has something to tell.
    pub fn watch_fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.signals.as_fd(), self.lifeline.as_fd()]
    }

    /// What the worker was told since the last call. Never waits.
    pub fn take(&mut self) -> Vec<Command> {
        let signals = self.signals.take().filter_map(|(signal, _)| match signal {
            RETIRE => Some(Command::Retire),
            Signal::SIGTERM => Some(Command::Stop),
            Signal::SIGINT | Signal::SIGQUIT => Some(Command::Quit),
            Signal::SIGUSR1 => Some(Command::Reopen),
            _ => None,
        });
        let mut commands: Vec<Command> = signals.collect();
        if read(&self.lifeline, &mut [0]) == Ok(0) {
            commands.push(Command::Orphaned);
        }
        commands
    }
}

impl fmt::Debug for WorkerLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fds = self.watch_fds().map(|fd| fd.as_raw_fd());
        f.debug_struct("WorkerLink")
            .field("worker", &self.worker)
            .field("generation", &self.generation)
            .field("watch_fds", &fds)
            .finish_non_exhaustive()
    }
}

/// A word to the master. That it cannot hear any more is what the link's EOF or the lifeline tells.
fn say(pipe: &mut File, word: &[u8]) {
    if let Err(error) = pipe.write_all(word) {
        log::debug!("the master is gone: {error}");
    }
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}
