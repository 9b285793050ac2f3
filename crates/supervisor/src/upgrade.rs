//! A new binary on the same sockets: how one master starts the next (SIGUSR2), and what the next
//! one finds.
//!
//! The running generation goes on forking from its own mapped code, so a package that is replaced on
//! disk mixes no versions; only the new master executes what the path leads to now. It is the old
//! one's child, and gets the listeners, a lifeline whose EOF is the old one's end, and a pipe to say
//! that it serves. What the table makes of it is `table/upgrade`.
//!
//! Who may call: [`Inherited::take`] the process that was started, once and early.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::unistd::{
    AccessFlags, ForkResult, Pid, access, chdir, execve, getpid, getppid, pipe2, read, write,
};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::sys::{self, Blocked};

/// How the new master hears of its inheritance.
const VARIABLE: &str = "SERVE_UPGRADE";
/// These speak of the old master's process, and are not passed on.
const PERSONAL: [&str; 5] =
    [VARIABLE, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];
/// The exit code of a child that could not execute the binary, as in a shell.
const CANNOT_EXECUTE: i32 = 127;

/// What a new master is started with.
#[derive(Debug)]
pub struct Launch {
    /// The file to execute.
    pub program: PathBuf,
    /// All of them, the program's name first.
    pub arguments: Vec<OsString>,
    /// Where it is started.
    pub directory: PathBuf,
    /// The sockets it inherits, each under a name that it will know.
    pub listeners: Vec<(String, OwnedFd)>,
}

impl Launch {
    /// This process's own command line once more, from the directory that it was started in. The
    /// program is what the first argument leads to now.
    ///
    /// # Errors
    /// A sentence, when that is no program.
    pub fn again(directory: &Path, listeners: Vec<(String, OwnedFd)>) -> Result<Self, String> {
        let arguments: Vec<OsString> = env::args_os().collect();
        let name = arguments.first().ok_or("this process was started without a name")?;
        let program = find(name, directory, env::var_os("PATH").as_deref())
            .ok_or_else(|| format!("there is no program {} any more", name.display()))?;
        Ok(Self { program, arguments, directory: directory.to_owned(), listeners })
    }
}

/// As a shell finds a command.
fn find(name: &OsStr, directory: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    let runs = |file: &PathBuf| file.is_file() && access(file, AccessFlags::X_OK).is_ok();
    if name.as_bytes().contains(&b'/') {
        return Some(directory.join(name)).filter(runs);
    }
    env::split_paths(path?).map(|place| directory.join(place).join(name)).find(runs)
}

/// The variable's value.
#[derive(Serialize, Deserialize)]
struct Passed {
    master: i32,
    lifeline: RawFd,
    /// Not known to every version.
    ready: Option<RawFd>,
    listeners: Vec<(String, RawFd)>,
}

/// A new master on its way: whether its binary could be executed is known when it ends.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: Pid,
    program: PathBuf,
    /// The errno of execve(2), if it failed.
    failure: OwnedFd,
    /// Its word that it serves.
    pub(crate) ready: OwnedFd,
}

impl Started {
    /// Whether it has just said that it serves, and that connections can be left to it.
    pub(crate) fn serves(&self) -> bool {
        read(&self.ready, &mut [0]) == Ok(1)
    }

    /// Why the new master, which has ended, never began.
    pub(crate) fn failure(&self) -> Option<String> {
        let mut errno = [0; 4];
        let told = read(&self.failure, &mut errno) == Ok(errno.len());
        let errno = Errno::from_raw(i32::from_ne_bytes(errno));
        told.then(|| format!("cannot execute {}: {}", self.program.display(), errno.desc()))
    }
}

/// Starts a new master. `lifeline` ends when this process does.
pub(crate) fn start(launch: Launch, lifeline: &OwnedFd) -> Result<Started, Error> {
    let Launch { program, arguments, directory, listeners } = launch;
    let pipe = || {
        pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .map_err(Error::system("make a pipe for a new master"))
    };
    let ((failure, tell), (ready, say_ready)) = (pipe()?, pipe()?);
    let passed = Passed {
        master: getpid().as_raw(),
        lifeline: lifeline.as_raw_fd(),
        ready: Some(say_ready.as_raw_fd()),
        listeners: listeners.iter().map(|(name, fd)| (name.clone(), fd.as_raw_fd())).collect(),
    };
    let passed = serde_json::to_string(&passed).map_err(|error| Error::Link(error.to_string()))?;
    let file = c_string(program.clone().into_os_string())?;
    let arguments = arguments.into_iter().map(c_string).collect::<Result<Vec<_>, _>>()?;
    let environment = environment(&passed)?;
    let blocked = Blocked::all();
    match sys::fork(&blocked) {
        Ok(ForkResult::Child) => {
            let keep = listeners.iter().map(|(_, fd)| fd).chain([lifeline, &say_ready]);
            sys::default_signals();
            sys::unblock_all();
            let executed = keep
                .map(|fd| fcntl(fd.as_fd(), FcntlArg::F_SETFD(FdFlag::empty())))
                .collect::<Result<Vec<_>, _>>()
                .and_then(|_| chdir(&directory))
                .and_then(|()| execve(&file, &arguments, &environment));
            let errno = executed.map_or_else(|errno| errno, |never| match never {});
            // That nobody reads it any more changes nothing: the exit code says the rest.
            write(&tell, &(errno as i32).to_ne_bytes()).ok();
            sys::leave(CANNOT_EXECUTE)
        }
        Ok(ForkResult::Parent { child }) => {
            blocked.restore();
            Ok(Started { pid: child, program, failure, ready })
        }
        Err(errno) => {
            blocked.restore();
            Err(Error::System { doing: "fork a new master", errno })
        }
    }
}

fn environment(passed: &str) -> Result<Vec<CString>, Error> {
    let inherited = env::vars_os().filter(|(name, _)| PERSONAL.iter().all(|it| name != it));
    let ours = (OsString::from(VARIABLE), OsString::from(passed));
    let joined = inherited.chain([ours]).map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        c_string(name)
    });
    joined.collect()
}

fn c_string(text: OsString) -> Result<CString, Error> {
    CString::new(text.into_vec()).map_err(|error| Error::Link(error.to_string()))
}

/// What a new master has from the old one.
#[derive(Debug)]
pub struct Inherited {
    /// The old master: alive, and this process's parent.
    pub master: Pid,
    /// The listening sockets under their names, close-on-exec as all others.
    pub listeners: Vec<(String, OwnedFd)>,
    /// Readable when the old master has gone; for [`Site::predecessor`](crate::Site::predecessor).
    pub lifeline: OwnedFd,
    /// Where the old master hears, by one byte, that this one serves, and that idle connections can
    /// be left to its workers. Closed without a word: that they cannot.
    pub ready: Option<OwnedFd>,
}

impl Inherited {
    /// What this process was started with, if it was started by an upgrade. The first call only; the
    /// descriptors are the caller's from then on.
    ///
    /// # Errors
    /// [`Error::System`] when a descriptor is not open.
    pub fn take() -> Result<Option<Self>, Error> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let passed = env::var(VARIABLE).ok().and_then(|text| parse(&text, getppid()));
        match passed {
            Some(passed) if !TAKEN.swap(true, Ordering::Relaxed) => Self::adopt(passed).map(Some),
            _ => Ok(None),
        }
    }

    fn adopt(passed: Passed) -> Result<Self, Error> {
        let (names, mut fds): (Vec<String>, Vec<RawFd>) = passed.listeners.into_iter().unzip();
        fds.push(passed.lifeline);
        fds.extend(passed.ready);
        let mut fds = sys::adopt(&fds).map_err(Error::system("take over descriptors (fcntl)"))?;
        let ready = passed.ready.and_then(|_| fds.pop());
        let lifeline = fds.pop().expect("it was pushed before");
        let listeners = names.into_iter().zip(fds).collect();
        Ok(Self { master: Pid::from_raw(passed.master), listeners, lifeline, ready })
    }
}

/// A server that an application of ours starts finds the variable, too, and is not meant.
fn parse(text: &str, parent: Pid) -> Option<Passed> {
    let passed: Passed = serde_json::from_str(text).ok()?;
    (passed.master == parent.as_raw()).then_some(passed)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_program_is_what_the_name_leads_to_now() {
        let place = env::temp_dir().join(format!("serve-upgrade-{}", getpid()));
        fs::create_dir_all(place.join("bin")).unwrap();
        let program = place.join("bin/serve");
        let path = Some(OsStr::new("nowhere:bin"));
        assert_eq!(find(OsStr::new("serve"), &place, path), None);
        fs::write(&program, "").unwrap();
        assert_eq!(find(OsStr::new("bin/serve"), &place, None), None, "not executable yet");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["serve", "bin/serve", program.to_str().unwrap()] {
            assert_eq!(find(OsStr::new(name), &place, path), Some(program.clone()), "{name}");
        }
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn only_a_child_of_the_old_master_is_meant() {
        let text = r#"{"master":700,"lifeline":5,"listeners":[["unix:/a b",4]]}"#;
        assert!(parse(text, Pid::from_raw(701)).is_none());
        let passed = parse(text, Pid::from_raw(700)).unwrap();
        assert_eq!(passed.ready, None, "an old version has no such thing");
        assert_eq!(passed.listeners, [("unix:/a b".to_owned(), 4)]);
        assert!(parse("nonsense", Pid::from_raw(700)).is_none());
    }
}
