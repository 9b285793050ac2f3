//! What the command `serve` does, for the two ways to start it: the binary,
//! which brings an interpreter along, and the extension module, which runs in
//! one (`crates/wheel`).
//!
//! Wiring only. This is the one file that talks to the terminal directly.

mod candidates;
mod check;
mod configuration;
mod daemon;
mod engine;
mod hand_off;
mod house;
mod invocation;
mod logger;
mod logs;
mod metrics;
mod mold;
mod privileges;
mod process;
mod python_logging;
mod reload;
mod syslog;
mod tls;
mod trust;
mod worker;

use std::ffi::OsString;

use pyo3::Python;
use serve_config::Action;
use serve_supervisor::{Inherited, Outcome, Scoreboard};

use crate::house::{House, Place};
use crate::invocation::Invocation;

/// Does what the command line says; returns the exit code. The first argument is
/// the command's name. `python` is the interpreter that this process runs in, if
/// it does; it must have one thread and have run nothing of the application.
///
/// Returns in the master and, as they are its forks, in molds and workers; but
/// not in a worker that leaves threads behind in an interpreter that is not ours.
pub fn run(arguments: impl IntoIterator<Item = OsString>, python: Option<Python<'_>>) -> i32 {
    let invocation = match Invocation::read(arguments) {
        Ok(invocation) => invocation,
        Err(error) => return refuse(&error),
    };
    let code = match &invocation.action {
        Action::Show(text) => say(text),
        Action::CheckConfig => check::config(&invocation),
        Action::PrintConfig => check::print(&invocation),
        Action::Run => supervise(&invocation, python),
    };
    if python.is_some() && serve_python::threads_run() {
        leave(code);
    }
    code
}

/// The end of a worker whose threads are in the application: the interpreter
/// that has called us would wait for them.
#[expect(clippy::exit, reason = "going back would be waiting")]
fn leave(code: i32) -> ! {
    std::process::exit(code)
}

fn supervise(invocation: &Invocation, python: Option<Python<'_>>) -> i32 {
    logger::start("master");
    if let Err(error) = serve_net::keep_descriptors() {
        log::error!("cannot see which descriptors are open (/proc/self/fd): {error}");
        return 1;
    }
    match Inherited::take() {
        // It is wherever its predecessor is.
        Ok(Some(inherited)) => {
            let house = House::succeed(invocation, inherited, python);
            house.map_or_else(complain, |house| serve(invocation, house).unwrap_or_default())
        }
        Ok(None) => begin(invocation, python),
        Err(error) => failed(&error),
    }
}

fn begin(invocation: &Invocation, python: Option<Python<'_>>) -> i32 {
    let house = |place| House::new(invocation, place, python);
    let foreground =
        if invocation.daemon() { None } else { serve(invocation, house(Place::Foreground)) };
    foreground.unwrap_or_else(|| {
        daemon::start(|| serve(invocation, house(Place::Background)).unwrap_or_default())
    })
}

/// In the master until the end, and in every mold and worker from their fork on.
/// `None`: it should be a daemon, as only the configuration file could tell.
fn serve(invocation: &Invocation, mut house: House<'_>) -> Option<i32> {
    let scoreboard = match Scoreboard::map() {
        Ok(scoreboard) => scoreboard,
        Err(error) => return Some(failed(&error)),
    };
    match serve_supervisor::run(scoreboard, &house.options(), &mut house) {
        Ok(Outcome::Exit(code)) => {
            let place = house.leave();
            if place == Place::Misplaced {
                return None;
            }
            logger::dismiss(code);
            Some(code)
        }
        Ok(Outcome::Mold(link)) => {
            // The mold gets its sockets from the master, by the plan.
            drop(house);
            Some(mold::run(invocation, link))
        }
        Err(error) => Some(failed(&error)),
    }
}

fn failed(error: &serve_supervisor::Error) -> i32 {
    complain(error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "for map_or_else")]
fn complain(reason: String) -> i32 {
    log::error!("{reason}");
    1
}

#[expect(clippy::print_stderr, reason = "before there is a logger, a refusal is a message")]
fn refuse(error: &serve_config::Error) -> i32 {
    eprintln!("serve: {error}");
    2
}

#[expect(clippy::print_stdout, reason = "what was asked for is the command's output")]
fn say(text: &str) -> i32 {
    print!("{text}");
    0
}
