//! The master's loop: wait, tell the table what happened, do what it says.
//!
//! Decides nothing about children; that is the table's. Everything it hears comes through one poll:
//! its signals, the links of the molds, the `ready` pipes of booting workers. It never waits for a
//! child anywhere else.
//!
//! Rule: what a child said is heard before its death is. A dead child is looked at first, then its
//! pipe or link is emptied, and only then it is reaped; until then its pid cannot be another's.
//!
//! No field has a `Drop` with an effect outside this process: a child drops its copy of all this.

mod health;
mod succession;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid, getpid, pipe2};

use crate::cgroup::OomKills;
use crate::clock::{Clock, Lapse};
use crate::link::{MoldLink, ToMaster, ToMold};
use crate::memory::Scales;
use crate::mold::Settings;
use crate::notify::Notify;
use crate::ready::{ReadyPipe, Word};
use crate::scoreboard::{Scoreboard, monotonic_ms};
use crate::signals::{self, Signals};
use crate::site;
use crate::sys::{self, Blocked};
use crate::table::{Action, Child, Event, Refusal, Table};
use crate::upgrade::Started;
use crate::wire::{self, Received, Socket};
use crate::worker::{Ms, WorkerId};
use crate::{Error, Options, Site};

/// How, and in which process, [`run`] returns.
#[derive(Debug)]
pub enum Outcome {
    /// In the master: all children are gone, end with this code.
    Exit(i32),
    /// In a new mold. Drop everything that belongs to the master, its copies of sockets above all.
    Mold(MoldLink),
}

/// Supervises until the server ends. Returns once in the master and once in every mold.
///
/// # Errors
/// [`Error::System`] when the master, or a new mold, cannot set itself up, or the master cannot poll.
pub fn run(
    scoreboard: Scoreboard,
    options: &Options,
    site: &mut dyn Site,
) -> Result<Outcome, Error> {
    sys::outlive_file_limit().map_err(Error::system("ignore SIGXFSZ (sigaction)"))?;
    let mut master = Master::new(scoreboard, options, site)?;
    let me = getpid();
    match master.supervise()? {
        End::Exit(code) => {
            let Master { lifeline: (_, end), .. } = master;
            // It ends with the process: a new master must not take over the pidfile, or a socket's
            // path, while this one still removes its own.
            std::mem::forget(end);
            Ok(Outcome::Exit(code))
        }
        End::Mold(link, blocked) => {
            // The master's registrations, pipes and links go before the first signal is let in.
            drop(master);
            let set_up = sys::die_with(me).and_then(|()| sys::default_for_python());
            blocked.restore();
            set_up.map_err(Error::system("set up a mold (prctl, sigaction)"))?;
            Ok(Outcome::Mold(link))
        }
    }
}

/// [`Outcome`], with signals still blocked in the child.
enum End {
    Exit(i32),
    Mold(MoldLink, Blocked),
}

const SIGNALS: Token = Token(0);
/// Above the molds' tokens.
const PREDECESSOR: Token = Token(usize::MAX - 1);
const NEW_MASTER: Token = Token(usize::MAX - 2);
/// Above the workers' tokens.
const MOLDS: usize = 1 << 16;

fn mold_token(generation: u32) -> Token {
    Token(MOLDS + generation as usize)
}

fn worker_token(worker: WorkerId) -> Token {
    Token(1 + worker.index())
}

struct Master<'a> {
    table: Table,
    site: &'a mut dyn Site,
    scoreboard: Scoreboard,
    poll: Poll,
    clock: Clock,
    signals: Signals,
    /// Read by every child; the write end is the master's alone, and its EOF the master's death.
    lifeline: (OwnedFd, OwnedFd),
    /// The old master's lifeline, in a new master as long as there is an old one.
    predecessor: Option<OwnedFd>,
    /// The new master that this one has started.
    started: Option<Started>,
    links: BTreeMap<u32, Socket>,
    /// The listeners of each generation, for workers that are still to come.
    listeners: BTreeMap<u32, Vec<OwnedFd>>,
    pipes: BTreeMap<WorkerId, ReadyPipe>,
    /// Heard, and not yet told to the table.
    events: VecDeque<Event>,
    oom_kills: OomKills,
    scales: Scales,
    notify: Notify,
    /// When a heartbeat has to be looked at, or a weight.
    pulse: Option<Ms>,
    /// Workers whose heartbeat was found too old: which one it was, and when to look again.
    suspects: BTreeMap<WorkerId, (Ms, Ms)>,
}

impl<'a> Master<'a> {
    fn new(
        scoreboard: Scoreboard,
        options: &Options,
        site: &'a mut dyn Site,
    ) -> Result<Self, Error> {
        let signals = signals::pipe().and_then(|pipe| Signals::listen(pipe, &signals::MASTER));
        let signals = signals.map_err(Error::io("listen to signals"))?;
        sys::unblock_all();
        sys::adopt_orphans().map_err(Error::system("adopt orphans (prctl)"))?;
        let poll = Poll::new().map_err(Error::io("make a poll"))?;
        watch(&poll, signals.as_raw_fd(), SIGNALS).map_err(Error::io("poll signals"))?;
        let predecessor = site.predecessor();
        if let Some(lifeline) = &predecessor {
            watch(&poll, lifeline.as_raw_fd(), PREDECESSOR)
                .map_err(Error::io("poll a lifeline"))?;
        }
        let lifeline =
            pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(Error::system("make a pipe"))?;
        Ok(Self {
            table: Table::new(site::boot_limit(options.boot_timeout)),
            site,
            scoreboard,
            poll,
            clock: Clock::new(monotonic_ms()),
            signals,
            lifeline,
            predecessor,
            started: None,
            links: BTreeMap::new(),
            listeners: BTreeMap::new(),
            pipes: BTreeMap::new(),
            events: VecDeque::new(),
            oom_kills: OomKills::find(Path::new("/")),
            scales: Scales::new(Path::new("/proc")),
            notify: Notify::new(|name| std::env::var_os(name)),
            pulse: None,
            suspects: BTreeMap::new(),
        })
    }

    fn supervise(&mut self) -> Result<End, Error> {
        let mut ready = Events::with_capacity(64);
        loop {
            if let ControlFlow::Break(end) = self.turn(&ready) {
                return Ok(end);
            }
            let deadline =
                [self.table.deadline(), self.pulse, self.notify.due()].into_iter().flatten().min();
            self.clock.sleep(deadline);
            let left = |deadline: Ms| deadline.saturating_sub(monotonic_ms());
            let wait = deadline.map(|deadline| Duration::from_millis(left(deadline)));
            match self.poll.poll(&mut ready, wait) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(Error::io("poll")(error));
                }
                _ => {}
            }
        }
    }

    fn turn(&mut self, ready: &Events) -> ControlFlow<End> {
        self.hear_new_master();
        self.step()?;
        for event in ready {
            match event.token() {
                SIGNALS => self.hear_signals()?,
                PREDECESSOR => self.take_over(),
                NEW_MASTER => {} // Heard above.
                Token(number @ MOLDS..) => {
                    let generation = u32::try_from(number - MOLDS).expect("it was made of a u32");
                    self.hear_mold(generation);
                }
                token => {
                    let worker =
                        self.pipes.keys().find(|worker| worker_token(**worker) == token).copied();
                    worker.into_iter().for_each(|worker| self.hear_worker(worker));
                }
            }
            self.step()?;
        }
        self.oom_kills.look(monotonic_ms());
        self.notify.beat(monotonic_ms());
        self.take_pulses();
        self.weigh();
        self.events.push_back(Event::Tick);
        self.step()
    }

    /// Tells the table what was heard, and does what it says, until there is nothing new.
    fn step(&mut self) -> ControlFlow<End> {
        loop {
            if self.clock.look(monotonic_ms()) == Lapse::Away {
                self.events.push_front(Event::Overslept);
            }
            let Some(event) = self.events.pop_front() else { return ControlFlow::Continue(()) };
            for action in self.table.step(self.clock.now(), event) {
                self.perform(action)?;
            }
        }
    }

    fn hear_signals(&mut self) -> ControlFlow<End> {
        let signals: Vec<_> = self.signals.take().collect();
        for (signal, from) in signals {
            if signal == Signal::SIGCHLD {
                self.reap()?;
            } else {
                self.events.push_back(Event::Signal { signal, from });
            }
        }
        ControlFlow::Continue(())
    }

    fn reap(&mut self) -> ControlFlow<End> {
        while let Some(pid) = sys::dead_child() {
            self.hear_last_words(pid);
            self.step()?;
            match sys::reap(pid) {
                Ok((ending, peak)) => {
                    let remains = self.remains(pid, ending, peak);
                    self.events.push_back(Event::Exited { pid, ending, remains });
                }
                Err(errno) => {
                    log::error!("cannot reap pid={pid}: {}", errno.desc());
                    break;
                }
            }
            self.step()?;
        }
        ControlFlow::Continue(())
    }

    /// A dead child that the table does not know may be a worker whose first word, its pid, was not
    /// read yet.
    fn hear_last_words(&mut self, pid: Pid) {
        match self.table.child(pid) {
            Some(Child::Worker(worker)) => self.hear_worker(worker),
            Some(Child::Mold(generation)) => self.hear_mold(generation),
            Some(Child::NewMaster) => {}
            None => {
                let unread: Vec<WorkerId> = self.pipes.keys().copied().collect();
                unread.into_iter().for_each(|worker| self.hear_worker(worker));
            }
        }
    }

    fn hear_mold(&mut self, generation: u32) {
        while let Some(link) = self.links.get(&generation) {
            let event = match link.receive() {
                Ok(Received::Nothing) => return,
                Ok(Received::Message(ToMaster::Report { news }, fds)) => {
                    self.plan(generation, fds, news)
                }
                Ok(Received::Message(ToMaster::Ready, _)) => Event::MoldReady { generation },
                Ok(Received::Message(ToMaster::Failed { code, message }, _)) => {
                    Event::Refused { generation, refusal: Refusal { code, message } }
                }
                Ok(Received::End) => {
                    self.close_link(generation);
                    Event::HungUp { generation }
                }
                Err(error) => {
                    self.close_link(generation);
                    Event::Refused {
                        generation,
                        refusal: Refusal { code: 1, message: error.to_string() },
                    }
                }
            };
            self.events.push_back(event);
        }
    }

    /// Turns a report into a plan, and sends it to the mold.
    fn plan(&mut self, generation: u32, mut fds: Vec<OwnedFd>, news: bool) -> Event {
        let mut planned = || -> Result<Settings, Refusal> {
            let report = fds.pop().ok_or_else(|| Error::Link("a report without a file".into()));
            let report = report.and_then(wire::unblob).map_err(refusal)?;
            let plan = self.site.plan(generation, &report)?;
            let settings = Settings { news, ..plan.settings()? };
            let blob = wire::blob(&plan.blob).map_err(refusal)?;
            let link = self
                .links
                .get(&generation)
                .ok_or_else(|| refusal(Error::Link("no link".into())))?;
            link.send(&ToMold::Plan, &[blob.as_fd()]).map_err(refusal)?;
            self.listeners.insert(generation, plan.listeners);
            Ok(settings)
        };
        match planned() {
            Ok(settings) => Event::Planned { generation, settings },
            Err(refusal) => Event::Refused { generation, refusal },
        }
    }

    fn hear_worker(&mut self, worker: WorkerId) {
        let Some(pipe) = self.pipes.get_mut(&worker) else { return };
        let (words, end) = pipe.hear();
        self.events.extend(words.into_iter().map(|word| match word {
            Word::Pid(pid) => Event::Forked { worker, pid },
            Word::NotForked(message) => Event::NotForked { worker, message },
            Word::Ready => Event::Ready { worker },
            Word::Tired(reason) => Event::Tired { worker, reason: reason.to_string() },
        }));
        if end {
            self.close_pipe(worker);
        }
    }

    fn perform(&mut self, action: Action) -> ControlFlow<End> {
        match action {
            Action::ForkMold { generation } => return self.fork_mold(generation),
            Action::Order { worker, generation } => self.order(worker, generation),
            Action::Signal { pid, signal } => {
                // Not reaped, so the pid is still its own; a zombie takes signals without
                // complaint.
                if let Err(errno) = kill(pid, signal) {
                    log::error!("cannot send {signal} to pid={pid}: {}", errno.desc());
                }
            }
            Action::Unlisten { generation } => drop(self.listeners.remove(&generation)),
            Action::CloseMold { generation } => self.close_link(generation),
            Action::ReopenLogs => self.site.reopen_logs(),
            Action::ReopenMold { generation } => self.tell(generation, &ToMold::Reopen),
            Action::News { generation, news } => self.tell(generation, &ToMold::News(news)),
            Action::Settled { generation } => self.site.settled(generation),
            Action::Abandoned { generation } => self.site.abandoned(generation),
            Action::Serving => self.site.serving(),
            Action::Reloading => self.notify.reloading(monotonic_ms()),
            Action::Steady { generation, workers } => {
                self.notify.ready(&format!("gen={generation} serves, workers={workers}"));
                self.site.steady(workers);
            }
            Action::Draining => {
                self.say_goodbye();
                self.site.draining();
            }
            Action::Stopping => {
                self.say_goodbye();
                self.site.stopping();
                self.listeners.clear();
            }
            Action::Upgrade => {
                let event = self.upgrade().unwrap_or_else(|message| Event::NotUpgraded { message });
                self.events.push_back(event);
            }
            Action::UpgradeOver => {
                self.forget_new_master();
                self.site.upgrade_over();
            }
            Action::Forget { worker } => {
                self.close_pipe(worker);
                self.scoreboard.slot(worker).wipe();
            }
            Action::Log { level, text } => log::log!(level, "{text}"),
            Action::Exit(code) => return ControlFlow::Break(End::Exit(code)),
        }
        ControlFlow::Continue(())
    }

    fn fork_mold(&mut self, generation: u32) -> ControlFlow<End> {
        match self.try_fork_mold(generation) {
            Ok(ControlFlow::Continue(pid)) => {
                self.events.push_back(Event::MoldForked { generation, pid })
            }
            Ok(ControlFlow::Break(end)) => return ControlFlow::Break(end),
            Err(error) => {
                self.close_link(generation);
                self.events
                    .push_back(Event::MoldNotForked { generation, message: error.to_string() });
            }
        }
        ControlFlow::Continue(())
    }

    fn try_fork_mold(&mut self, generation: u32) -> Result<ControlFlow<End, Pid>, Error> {
        let (ours, its) = wire::pair()?;
        let lifeline = self.lifeline.0.try_clone().map_err(Error::io("duplicate the lifeline"))?;
        let link = MoldLink::new(generation, its, lifeline, self.scoreboard);
        watch(&self.poll, ours.as_raw_fd(), mold_token(generation))
            .map_err(Error::io("poll a link"))?;
        self.links.insert(generation, ours);
        let hooks = self.site.fork_hooks();
        hooks.before();
        let blocked = Blocked::all();
        let forked = sys::fork(&blocked);
        if let Ok(ForkResult::Child) = forked {
            hooks.child();
            return Ok(ControlFlow::Break(End::Mold(link, blocked)));
        }
        blocked.restore();
        hooks.parent();
        match forked {
            Ok(ForkResult::Parent { child }) => Ok(ControlFlow::Continue(child)),
            Ok(ForkResult::Child) => unreachable!("it has returned"),
            Err(errno) => Err(Error::System { doing: "fork a mold", errno }),
        }
    }

    fn order(&mut self, worker: WorkerId, generation: u32) {
        if let Err(error) = self.try_order(worker, generation) {
            self.events.push_back(Event::NotForked { worker, message: error.to_string() });
        }
    }

    fn try_order(&mut self, worker: WorkerId, generation: u32) -> Result<(), Error> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .map_err(Error::system("make a pipe for a worker"))?;
        let link = self
            .links
            .get(&generation)
            .ok_or_else(|| Error::Link("an order without a link".into()))?;
        watch(&self.poll, read.as_raw_fd(), worker_token(worker))
            .map_err(Error::io("poll a worker's pipe"))?;
        self.pipes.insert(worker, ReadyPipe::new(read));
        let listeners = self.listeners.get(&generation).into_iter().flatten();
        let fds: Vec<BorrowedFd<'_>> =
            [&write].into_iter().chain(listeners).map(AsFd::as_fd).collect();
        link.send(&ToMold::Fork(worker), &fds)
    }

    fn tell(&self, generation: u32, message: &ToMold) {
        if let Some(Err(error)) = self.links.get(&generation).map(|link| link.send(message, &[])) {
            log::warn!("gen={generation} mold: {error}");
        }
    }

    fn close_link(&mut self, generation: u32) {
        self.listeners.remove(&generation);
        if let Some(link) = self.links.remove(&generation) {
            self.unwatch(link.as_raw_fd());
        }
    }

    fn close_pipe(&mut self, worker: WorkerId) {
        if let Some(pipe) = self.pipes.remove(&worker) {
            self.unwatch(pipe.fd.as_raw_fd());
        }
    }

    /// Before a close, because a child that was just forked may still hold a copy, which would keep
    /// epoll reporting.
    fn unwatch(&self, fd: RawFd) {
        if let Err(error) = self.poll.registry().deregister(&mut SourceFd(&fd)) {
            log::error!("cannot stop polling fd={fd}: {error}");
        }
    }
}

fn watch(poll: &Poll, fd: RawFd, token: Token) -> io::Result<()> {
    poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)
}

fn refusal(error: Error) -> Refusal {
    Refusal { code: 1, message: error.to_string() }
}
