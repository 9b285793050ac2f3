//! The only crate that sees CPython: starts the interpreter as a virtual
//! environment's own, loads the application, and answers requests with it
//! (PEP 3333).
//!
//! It knows the reactor (serve-net) and nothing of masters, molds or signals:
//! who forks, and when, is told to it. Everything here runs on the thread that
//! called [`Interpreter::start`], attached to the interpreter unless it says
//! otherwise.

mod alarm;
mod app;
mod built_in;
mod detach;
mod drive;
mod environ;
mod errors;
mod farewell;
mod file;
mod fork;
mod frames;
mod hooks;
mod input;
mod interpreter;
mod latin1;
mod logging;
mod module;
mod noted;
mod owners;
mod process;
mod request;
mod respond;
mod seen;
mod timeout;

pub use app::{
    App, Program, Refusal, closed_directories, evaluate_file, evaluate_module, insert_directories,
    load,
};
pub use drive::{Control, Driver, Options, Order, Worker, forked, has_gevent, patch, run};
pub use environ::Origin;
pub use fork::{Sockets, end_unless};
pub use hooks::{Hooks, Moment};
pub use interpreter::{Home, Interpreter};
pub use logging::{LogConfig, ask_to_reopen_logs, configure_logging, reopen_logs};
pub use process::{
    Preloaded, before_fork, forked_child, forked_parent, guard, prepare_mold, prepare_worker,
    set_environment, threads_run,
};
