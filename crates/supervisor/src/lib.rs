//! The master: forks a mold per generation, watches the workers the mold forks, and replaces them.
//!
//! Two halves. `table` is a pure state machine, `step(now, Event) -> Vec<Action>`: it decides.
//! `master` is the rim: it waits, turns readiness into events and performs the actions. `sys` holds
//! the only system calls that need `unsafe`. A child sees the master through a [`MoldLink`] or a
//! [`WorkerLink`], and shares a [`Scoreboard`] with it.
//!
//! Deliberately absent: HTTP, Python, addresses and settings. A configuration is bytes that a mold
//! reports and a [`Site`] turns into a [`Plan`].
//!
//! Who may call: [`run`] is called once, by a process with one thread, because it forks.

mod cgroup;
mod clock;
mod daemon;
mod death;
mod error;
mod link;
mod master;
mod memory;
mod mold;
mod notify;
mod pidfile;
mod ready;
mod scoreboard;
mod signals;
mod site;
mod sys;
mod table;
mod upgrade;
mod wire;
mod worker;

pub use daemon::{Detached, detach};
pub use error::Error;
pub use link::{Command, ForkHooks, Forked, MoldLink, News, Order, Reason, Seat, WorkerLink};
pub use master::{Outcome, run};
pub use pidfile::Pidfile;
pub use scoreboard::{Request, Scoreboard, Slot, Snapshot, State, monotonic_ms};
pub use site::{Options, Plan, Site};
pub use table::Refusal;
pub use upgrade::{Inherited, Launch};
pub use worker::{MAX_WORKERS, WorkerId};
