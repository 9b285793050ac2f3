//! Becoming a daemon: a child in a session of its own that no terminal can reach, and the command
//! that started it, which stays until it has heard how that went.
//!
//! Two forks: the first child leads the new session and ends, so that the second leads none and can
//! never get a terminal. The pipe between the two that remain is a file each; what is said on it is
//! the caller's business.
//!
//! Who may call: a process with one thread, before it has children.

use std::fs::{File, OpenOptions};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, setsid};

use crate::Error;
use crate::death::Ending;
use crate::sys::{self, Blocked};

/// In which process [`detach`] returns.
#[derive(Debug)]
pub enum Detached {
    /// In the one that was started, with the end of the pipe to read; its end is the death of all
    /// who have the other.
    Starter(File),
    /// In the daemon: its standard streams are `/dev/null`.
    Daemon(File),
}

/// Forks a daemon. Returns in both processes.
///
/// # Errors
/// [`Error::System`] with the call that failed; also in the daemon, which then has to end.
pub fn detach() -> Result<Detached, Error> {
    let (read, write) =
        pipe2(OFlag::O_CLOEXEC).map_err(Error::system("make a pipe to a daemon"))?;
    let blocked = Blocked::all();
    match sys::fork(&blocked) {
        Ok(ForkResult::Child) => {
            // An errno is an exit code, too.
            match setsid().and_then(|_| sys::fork(&blocked)) {
                Ok(ForkResult::Child) => {}
                Ok(ForkResult::Parent { .. }) => sys::leave(0),
                Err(errno) => sys::leave(errno as i32),
            }
            blocked.restore();
            silence()?;
            Ok(Detached::Daemon(write.into()))
        }
        Ok(ForkResult::Parent { child }) => {
            let ending = sys::reap(child);
            blocked.restore();
            match ending {
                Ok((Ending::Code(code), _)) if code != 0 => Err(failed(Errno::from_raw(code))),
                Err(errno) => Err(failed(errno)),
                Ok(_) => sys::default_actions().map_err(failed),
            }?;
            Ok(Detached::Starter(read.into()))
        }
        Err(errno) => {
            blocked.restore();
            Err(failed(errno))
        }
    }
}

fn failed(errno: Errno) -> Error {
    Error::System { doing: "start a daemon (fork, setsid)", errno }
}

fn silence() -> Result<(), Error> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.map_err(Error::io("open /dev/null"))?;
    dup2_stdin(&null)
        .and_then(|()| dup2_stdout(&null))
        .and_then(|()| dup2_stderr(&null))
        .map_err(Error::system("let go of the terminal (dup2)"))
}
