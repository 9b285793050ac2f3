//! Every setting, once.
//!
//! `table` has one row per setting; everything else reads it. What the user
//! typed becomes a [`Layer`] ([`parse_args`], [`from_env`], [`from_json`]):
//! each value is checked, nothing is done. [`resolve`] merges the layers into
//! the typed [`Settings`]. `--help`, `--print-config` and the reference page
//! are written from the same rows.
//!
//! Adding a setting is one row in `table` and one field in `settings.rs`;
//! the tests say so when either is missing.
//!
//! This crate opens no socket, starts no process and knows no Python: a config
//! file in Python reaches it as the JSON its evaluation gave. Anyone may call
//! it; only [`cores()`] and [`memory_limit`] read anything outside their arguments.

mod cgroup;
mod command;
mod cores;
mod error;
mod kind;
mod merge;
mod render;
mod settings;
mod suggest;
mod table;

pub use cgroup::memory_limit;
pub use command::{Action, Cli, parse_args};
pub use cores::{Cores, cores};
pub use error::Error;
pub use merge::{Layer, Origin, from_env, from_json, resolve};
pub use render::reference;
pub use settings::{LogFile, LogLevel, Settings, WorkerClass, Workers};
