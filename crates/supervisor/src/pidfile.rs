//! The pidfile: the master's pid and a newline, for whoever wants to signal it.
//!
//! Written whole or not at all (a temporary file beside it, then rename(2)). Two servers that start
//! in the same moment can both see a stale file; the sockets they bind decide then, this file does
//! not.
//!
//! Removing is explicit, not done by `Drop`: the master's children hold copies and must not remove
//! it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{AccessFlags, Pid, access, getpid};

use crate::Error;

/// A pidfile that holds this process's pid.
#[derive(Debug)]
pub struct Pidfile {
    path: PathBuf,
}

impl Pidfile {
    /// Writes this process's pid, mode 0644. A file that names no living process is replaced.
    ///
    /// # Errors
    /// [`Error::PidfileHeld`] when it names a process that lives and is not this one;
    /// [`Error::Pidfile`] when it cannot be read or written.
    pub fn write(path: &Path) -> Result<Self, Error> {
        Self::check(path)?;
        let failed = |error| Error::Pidfile { path: path.to_owned(), error };
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.tmp", getpid()));
        let temporary = PathBuf::from(name);
        write_whole(&temporary).and_then(|()| fs::rename(&temporary, path)).map_err(|error| {
            // The first error is the one to tell; there may be nothing to remove.
            fs::remove_file(&temporary).ok();
            failed(error)
        })?;
        Ok(Self { path: path.to_owned() })
    }

    /// Whether [`Pidfile::write`] would be refused because of who holds it, or could not be made
    /// where it shall be; writes nothing.
    ///
    /// # Errors
    /// As [`Pidfile::write`].
    pub fn check(path: &Path) -> Result<(), Error> {
        let failed = |error| Error::Pidfile { path: path.to_owned(), error };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        access(folder.unwrap_or(Path::new(".")), AccessFlags::W_OK | AccessFlags::X_OK)
            .map_err(|errno| failed(errno.into()))?;
        match holder(path).map_err(failed)? {
            Some(pid) if pid != getpid() && lives(pid) => {
                Err(Error::PidfileHeld { path: path.to_owned(), pid })
            }
            _ => Ok(()),
        }
    }

    /// Moves the file to where it is looked for, whatever was there: a new master takes the old
    /// one's place when that has gone.
    ///
    /// # Errors
    /// [`Error::Pidfile`] when it cannot be moved; it stays where it was then.
    pub fn rename(&mut self, path: &Path) -> Result<(), Error> {
        fs::rename(&self.path, path)
            .map_err(|error| Error::Pidfile { path: path.to_owned(), error })?;
        self.path = path.to_owned();
        Ok(())
    }

    /// Removes the file if it still holds this process's pid; another server's is left alone.
    ///
    /// # Errors
    /// [`Error::Pidfile`] when it cannot be read or removed. A file that is gone already is no
    /// error.
    pub fn remove(self) -> Result<(), Error> {
        let removed = match holder(&self.path) {
            Ok(Some(pid)) if pid == getpid() => fs::remove_file(&self.path),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        removed.map_err(|error| Error::Pidfile { path: self.path, error })
    }
}

fn write_whole(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    writeln!(file, "{}", getpid())
}

/// The pid in the file; `None` when there is no file or no pid in it.
fn holder(path: &Path) -> io::Result<Option<Pid>> {
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            Ok(text.trim().parse().ok().filter(|pid| *pid > 0).map(Pid::from_raw))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// EPERM is another user's process: alive.
fn lives(pid: Pid) -> bool {
    kill(pid, None) != Err(Errno::ESRCH)
}

#[cfg(test)]
mod tests {
    use nix::unistd::getppid;

    use super::*;

    /// A path in a directory of its own.
    fn place(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("serve-pidfile-{}-{name}", getpid()));
        fs::create_dir_all(&directory).unwrap();
        directory.join("serve.pid")
    }

    #[test]
    fn is_written_whole_and_removed() {
        let path = place("plain");
        let pidfile = Pidfile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", getpid()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "no temporary file stays"
        );
        pidfile.remove().unwrap();
        fs::remove_dir(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_living_process_keeps_it() {
        let path = place("held");
        fs::write(&path, format!("{}\n", getppid())).unwrap();
        let error = Pidfile::write(&path).unwrap_err();
        assert!(matches!(error, Error::PidfileHeld { pid, .. } if pid == getppid()), "{error}");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_stale_or_senseless_one_is_replaced() {
        let path = place("stale");
        // Above the highest pid there is (PID_MAX_LIMIT is 2^22).
        for old in ["2147483646\n", "", "-1\n", "0", "nonsense", &format!("{}\n", getpid())] {
            fs::write(&path, old).unwrap();
            Pidfile::write(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", getpid()));
        }
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn another_server_s_file_is_not_removed() {
        let path = place("other");
        let pidfile = Pidfile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        pidfile.remove().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_new_master_takes_the_old_one_s_place() {
        let path = place("rename");
        fs::write(&path, format!("{}\n", getppid())).unwrap();
        let mut pidfile = Pidfile::write(&path.with_extension("pid.2")).unwrap();
        pidfile.rename(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", getpid()));
        pidfile.remove().unwrap();
        fs::remove_dir(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_directory_that_does_not_exist_is_named() {
        let error = Pidfile::write(Path::new("/nonexistent/serve.pid")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the pidfile /nonexistent/serve.pid: No such file or directory (os error 2)"
        );
    }
}
