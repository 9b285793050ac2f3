//! The seam to whoever runs the master: what it must be told, and what it cannot know.
//!
//! Types only. Configuration stays bytes here, listeners stay descriptors.
//!
//! Who may call: the master calls a [`Site`], on its one thread.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::unistd::Pid;

use crate::mold::Settings;
use crate::worker::{MAX_WORKERS, Ms};
use crate::{ForkHooks, Launch, Refusal};

/// What the master must know before any configuration is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long evaluating the first configuration may take; zero: for ever. Its plan says the
    /// rest.
    pub boot_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { boot_timeout: Duration::from_secs(60) }
    }
}

/// What a generation needs.
#[derive(Debug)]
pub struct Plan {
    /// How many workers, `1..=`[`MAX_WORKERS`].
    pub workers: u16,
    /// A worker whose heartbeat is older than this and [`Plan::kill_grace`] together is aborted and
    /// replaced; `None` or zero: never.
    pub timeout: Option<Duration>,
    /// What a worker has to help itself once `timeout` has passed, before the master steps in.
    pub kill_grace: Duration,
    /// How long a worker may take to finish what it has.
    pub graceful_timeout: Duration,
    /// How long loading the application may take, and how long a worker may take to be ready; zero:
    /// for ever.
    pub boot_timeout: Duration,
    /// A worker this old is recycled (up to a tenth later, so that not all age at once); `None` or
    /// zero: never.
    pub max_worker_age: Option<Duration>,
    /// A worker with more resident memory, in bytes, is recycled; `None`: never.
    pub max_rss: Option<u64>,
    /// How much memory there is for all workers, in bytes: at nine tenths of it the largest is
    /// recycled. `None`: they are not weighed.
    pub memory_limit: Option<u64>,
    /// After TERM the workers serve on for this long, while [`Site::draining`] makes readiness say
    /// no, so that load balancers look elsewhere; then the stop begins.
    pub drain_delay: Duration,
    /// How many workers more than `workers` may exist during a reload; 0 is taken as 1.
    pub max_surge: u16,
    /// Whether the workers may need what their mold has started, as long as they live: it leaves
    /// after them.
    pub keep_mold: bool,
    /// The configuration for the mold: any bytes.
    pub blob: Vec<u8>,
    /// The sockets for the mold, in this order; at most 250. Closed here once they are sent.
    pub listeners: Vec<OwnedFd>,
}

/// One worker, and the defaults that suit most; for `..Plan::default()`.
impl Default for Plan {
    fn default() -> Self {
        Self {
            workers: 1,
            timeout: Some(Duration::from_secs(30)),
            kill_grace: Duration::from_secs(5),
            graceful_timeout: Duration::from_secs(30),
            boot_timeout: Duration::from_secs(60),
            max_worker_age: None,
            max_rss: None,
            memory_limit: None,
            drain_delay: Duration::ZERO,
            max_surge: 1,
            keep_mold: false,
            blob: Vec::new(),
            listeners: Vec::new(),
        }
    }
}

impl Plan {
    pub(crate) fn settings(&self) -> Result<Settings, Refusal> {
        if !(1..=MAX_WORKERS).contains(&self.workers) {
            let message =
                format!("workers = {}: must be between 1 and {MAX_WORKERS}", self.workers);
            return Err(Refusal { code: 2, message });
        }
        Ok(Settings {
            workers: self.workers,
            timeout: self.timeout.filter(|timeout| !timeout.is_zero()).map(ms),
            kill_grace: ms(self.kill_grace),
            graceful: ms(self.graceful_timeout),
            boot: boot_limit(self.boot_timeout),
            max_age: self.max_worker_age.filter(|age| !age.is_zero()).map(ms),
            max_rss: self.max_rss,
            memory: self.memory_limit,
            drain: ms(self.drain_delay),
            surge: self.max_surge.max(1),
            keep_mold: self.keep_mold,
            news: false,
        })
    }
}

/// What the master cannot know: configuration, sockets, files. Called in the master, on its one
/// thread, which serves nothing else meanwhile.
pub trait Site {
    /// A mold has evaluated its configuration: merge it, bind what it asks for.
    ///
    /// # Errors
    /// The generation cannot be: at the first start the server ends with the code; at a reload the
    /// old one serves on.
    fn plan(&mut self, generation: u32, report: &[u8]) -> Result<Plan, Refusal>;
    /// The generation is the one that serves now.
    fn settled(&mut self, generation: u32);
    /// The generation was given up, however far it had come (its `plan` may have failed, or never
    /// have been called): undo what was done for it. Not called when the server stops meanwhile.
    fn abandoned(&mut self, generation: u32);
    /// What a mold's fork needs before and after it, where the master's own process has an
    /// interpreter.
    fn fork_hooks(&self) -> &dyn ForkHooks {
        &()
    }
    /// SIGUSR1: open the master's log files anew.
    fn reopen_logs(&mut self);
    /// The first worker ever is ready; after the first `settled`.
    fn serving(&mut self);
    /// No reload is on its way, and so many workers are wanted.
    fn steady(&mut self, _workers: u16) {}
    /// TERM was heard, and [`Plan::drain_delay`] begins: readiness has to say no from now on, and
    /// nothing else changes yet.
    fn draining(&mut self) {}
    /// SIGUSR2: what to start a new master with, [`Launch::again`] for example.
    ///
    /// # Errors
    /// A sentence: there is no upgrade.
    fn upgrade(&mut self) -> Result<Launch, String> {
        Err("this server cannot be upgraded".to_owned())
    }
    /// A new master runs beside this one: what both use (sockets in the file system) is no longer
    /// this one's alone.
    fn upgraded(&mut self, _pid: Pid) {}
    /// The new master has gone, and this one serves on as before.
    fn upgrade_over(&mut self) {}
    /// In a new master, asked once, at the start: the old one's lifeline
    /// ([`Inherited::lifeline`](crate::Inherited::lifeline)).
    fn predecessor(&mut self) -> Option<OwnedFd> {
        None
    }
    /// In a new master: the old one has gone, so this one is the server now.
    fn promoted(&mut self) {}
    /// A signal ends the server: called once, when the workers are about to be told. Not called
    /// when the first start fails.
    fn stopping(&mut self) {}
}

/// Zero is no limit.
pub(crate) fn boot_limit(span: Duration) -> Ms {
    ms(if span.is_zero() { Duration::MAX } else { span })
}

/// Whole milliseconds; "for ever" stays far from overflow when it is added to the clock.
fn ms(span: Duration) -> Ms {
    Ms::try_from(span.as_millis()).unwrap_or(Ms::MAX).min(Ms::MAX / 4)
}
