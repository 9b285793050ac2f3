//! What can go wrong in supervision, in words for the person who runs the server.
//!
//! A system error names the call and the object it was for. Failing forks are not here: the master
//! logs them and tries again later.

use std::path::PathBuf;
use std::{fmt, io};

use nix::errno::Errno;
use nix::unistd::Pid;

/// An error of the supervisor.
#[derive(Debug)]
pub enum Error {
    /// A system call failed.
    System {
        /// What was being done, with the call's name: `"fork a mold"`.
        doing: &'static str,
        /// What the system answered.
        errno: Errno,
    },
    /// The master and a mold did not understand each other: a bug of this server, never of its
    /// user.
    Link(String),
    /// The pidfile names another process that is alive.
    PidfileHeld {
        /// The pidfile.
        path: PathBuf,
        /// The process it names.
        pid: Pid,
    },
    /// The pidfile cannot be read, written or removed.
    Pidfile {
        /// The pidfile.
        path: PathBuf,
        /// What the system answered.
        error: io::Error,
    },
}

impl Error {
    /// For `map_err`: a failed call with what it was for.
    pub(crate) fn system(doing: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self::System { doing, errno }
    }

    /// The same for the standard library's errors.
    pub(crate) fn io(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::System {
            doing,
            errno: error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { doing, errno } => write!(f, "cannot {doing}: {}", errno.desc()),
            Self::Link(what) => {
                write!(f, "the master and a mold disagree: {what}; this is a bug, please report it")
            }
            Self::PidfileHeld { path, pid } => write!(
                f,
                "the pidfile {} belongs to pid {pid}, which is running: stop it, choose another \
                 pidfile, or remove the file if that process is not this server",
                path.display()
            ),
            Self::Pidfile { path, error } => write!(f, "the pidfile {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for Error {}
