//! Every setting, once.
//!
//! `table` has one row per setting; everything else reads it. What the user
//! typed becomes a [`Layer`] ([`parse_args`], [`from_env`], [`from_file`]):
//! each value is checked, nothing is done. [`resolve`] merges the layers into
//! the typed [`Settings`]. `--help`, `--print-config`, the reference
//! page, the schema, the man page and the completions are written from the same
//! rows.
//!
//! Adding a setting is one row in `table` and one field in `settings.rs`;
//! the tests say so when either is missing.
//!
//! This crate opens no socket, starts no process and knows no Python: a config
//! file in Python reaches it as the JSON its evaluation gave. Anyone may call
//! it; only [`cores()`], [`memory()`] and [`memory_limit`] read anything outside their arguments.

mod cgroup;
mod command;
mod cores;
mod error;
mod file;
mod kind;
mod merge;
mod migrating;
mod render;
mod schema;
mod settings;
mod suggest;
mod table;

pub use cgroup::{memory, memory_limit};
pub use command::{Action, Cli, command_line, parse_args};
pub use cores::{Cores, cores};
pub use error::Error;
pub use file::Document;
pub use merge::{Environment, Layer, Origin, Remark, from_env, from_file, resolve};
pub use migrating::migrating;
pub use render::reference;
pub use schema::schema;
pub use settings::{
    ForwardedStyle, HeaderMap, LogFile, LogForm, LogLevel, ProxyProtocol, Settings, WorkerClass,
    Workers,
};
