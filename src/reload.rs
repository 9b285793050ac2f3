//! `--reload`: a worker's second thread, which sees that a source file was saved
//! and asks the master for a reload, as an operator would, with HUP.
//!
//! Of the workers of a generation one watches, which is who has the lock of a
//! file in memory; when it ends, the next one does.
//!
//! It never touches Python. It watches folders and not loaded modules, since
//! many of those are loaded by the first request, and one that is new or broken
//! is not loaded at all.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use glob::Pattern;
use log::Level;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{F_WRLCK, flock};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::getppid;
use serve_config::Settings;

/// The most folders that are watched. The system has a limit of its own.
const FOLDERS: usize = 4_000;
/// A save is often several changes; this long none must follow, for at most so long.
const QUIET: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(1);

/// The lock on all of the file. It is a process's, and goes with it.
#[expect(clippy::cast_possible_truncation, reason = "it is 1, and the field a short")]
const WHOLE: flock = flock { l_type: F_WRLCK as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };

/// What is told about a folder: whole files, and new folders.
fn changes() -> AddWatchFlags {
    AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_ONLYDIR
}

struct Watcher {
    inotify: Inotify,
    folders: HashMap<WatchDescriptor, PathBuf>,
    /// Files that count beside those of Python.
    extra: Vec<Pattern>,
}

/// Whether this worker has been told to end.
static LEAVING: AtomicBool = AtomicBool::new(false);

/// This worker ends: what is saved from now on is another one's to tell.
pub(crate) fn leave() {
    LEAVING.store(true, Ordering::Relaxed);
}

/// What the workers of a generation agree by who watches. To be made before they
/// are forked.
pub(crate) fn turn() -> Result<OwnedFd, String> {
    memfd_create(c"reload", MFdFlags::MFD_CLOEXEC).map_err(failed)
}

/// What is to be watched.
struct Scope {
    here: PathBuf,
    /// The folders that count beside it.
    roots: Vec<PathBuf>,
    /// Files that count beside those of Python.
    extra: Vec<Pattern>,
}

/// Whether the names of other files to watch are ones.
pub(crate) fn check(settings: &Settings) -> Result<(), String> {
    for text in &settings.reload_extra_files {
        Pattern::new(text).map_err(|error| {
            format!("{}: '{text}': {}", settings.place("reload_extra_files"), error.msg)
        })?;
    }
    Ok(())
}

/// Watches the working directory, `paths` and the files that `extra` names from
/// now on, or from when no other worker does, until the process ends.
pub(crate) fn watch(paths: &[String], extra: &[String], turn: OwnedFd) -> Result<(), String> {
    let scope = Scope::of(paths, extra)?;
    // Before the worker is ready: what is saved from then on is seen.
    let watcher = match fcntl(&turn, FcntlArg::F_SETLK(&WHOLE)) {
        Ok(_) => Some(scope.watcher(Level::Info)?),
        Err(Errno::EAGAIN | Errno::EACCES) => None,
        Err(errno) => return Err(failed(errno)),
    };
    let run = move || {
        // Signals are the main thread's.
        if let Err(errno) = SigSet::all().thread_block() {
            log::warn!("{}", failed(errno));
        }
        match watcher.map_or_else(|| scope.watcher_at(&turn), Ok) {
            Ok(watcher) => watcher.run(),
            Err(reason) => log::error!("{reason}"),
        }
    };
    let spawned = thread::Builder::new().name("reload".into()).spawn(run);
    spawned.map(drop).map_err(|error| format!("--reload: {error}"))
}

fn failed(errno: Errno) -> String {
    format!("--reload: {errno}")
}

impl Scope {
    fn of(paths: &[String], extra: &[String]) -> Result<Self, String> {
        let here = std::env::current_dir().map_err(|error| format!("--reload: {error}"))?;
        let in_full = |path: &String| here.join(path);
        let pattern = |path: &String| {
            let path = in_full(path);
            Pattern::new(&path.to_string_lossy())
                .map_err(|error| format!("--reload-extra-file {}: {error}", path.display()))
        };
        let mut roots: Vec<_> = paths.iter().map(in_full).collect();
        roots.extend(extra.iter().map(|path| fixed_part(&in_full(path))));
        let extra = extra.iter().map(pattern).collect::<Result<_, _>>()?;
        Ok(Self { here, roots, extra })
    }

    fn watcher(&self, level: Level) -> Result<Watcher, String> {
        let mut watcher = Watcher {
            inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
                .map_err(failed)?,
            folders: HashMap::new(),
            extra: self.extra.clone(),
        };
        watcher.add(&self.here);
        for root in &self.roots {
            watcher.add(root);
        }
        let (here, count) = (self.here.display(), watcher.folders.len());
        let folders = if count == 1 { "folder" } else { "folders" };
        log::log!(level, "watching *.py in {here} and below, {count} {folders}");
        Ok(watcher)
    }

    /// Waits until it is this worker's turn.
    fn watcher_at(&self, turn: &OwnedFd) -> Result<Watcher, String> {
        loop {
            match fcntl(turn, FcntlArg::F_SETLKW(&WHOLE)) {
                // Said once is enough, and in a reload it soon ends.
                Ok(_) => return self.watcher(Level::Debug),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }
}

/// The folder of a pattern, up to its first wildcard.
fn fixed_part(pattern: &Path) -> PathBuf {
    let fixed = |part: &Path| !part.to_string_lossy().contains(['*', '?', '[']);
    let folder = pattern.ancestors().skip(1).find(|part| fixed(part));
    folder.unwrap_or(Path::new("/")).to_path_buf()
}

/// Not an application's own: hidden, made by Python, or an environment.
fn foreign(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.')
        || ["__pycache__", "node_modules"].contains(&name.as_ref())
        || folder.join("pyvenv.cfg").exists()
}

impl Watcher {
    /// Adds a folder and those in it; a file that counts among what is there.
    fn add(&mut self, root: &Path) -> Option<PathBuf> {
        let (mut todo, mut found) = (vec![root.to_path_buf()], None);
        while let Some(folder) = todo.pop() {
            if self.folders.len() >= FOLDERS {
                log::warn!("--reload watches {FOLDERS} folders, and not {}", folder.display());
                break;
            }
            match self.inotify.add_watch(&folder, changes()) {
                Ok(descriptor) => self.folders.insert(descriptor, folder.clone()),
                Err(errno) => {
                    log::warn!("--reload cannot watch {}: {errno}", folder.display());
                    continue;
                }
            };
            // A folder that vanishes meanwhile has nothing to watch.
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    found = found.or_else(|| self.counts(&path).then_some(path));
                } else if !foreign(&path) {
                    todo.push(path);
                }
            }
        }
        found
    }

    fn counts(&self, file: &Path) -> bool {
        file.extension().is_some_and(|extension| extension == "py")
            || self.extra.iter().any(|pattern| pattern.matches_path(file))
    }

    fn run(mut self) {
        loop {
            let outcome = self.next_change().and_then(|changed| {
                if LEAVING.load(Ordering::Relaxed) {
                    return Ok(()); // The new generation watches.
                }
                log::info!("{} has changed", changed.display());
                Ok(kill(getppid(), Signal::SIGHUP)?)
            });
            if let Err(error) = outcome {
                log::error!("--reload has ended: {error}");
                return;
            }
        }
    }

    /// The first file of a save, when the save is over.
    fn next_change(&mut self) -> io::Result<PathBuf> {
        let changed = loop {
            if let Some(changed) = self.changed(None)? {
                break changed;
            }
        };
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && self.changed(Some(QUIET))?.is_some() {}
        Ok(changed)
    }

    /// Waits for an event; the file that counts among those that have come.
    fn changed(&mut self, wait: Option<Duration>) -> io::Result<Option<PathBuf>> {
        let wait = wait.map_or(Ok(PollTimeout::NONE), PollTimeout::try_from);
        let wait = wait.map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)], wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let events = match self.inotify.read_events() {
            Ok(events) => events,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        Ok(events.into_iter().filter_map(|event| self.judge(&event)).next_back())
    }

    fn judge(&mut self, event: &InotifyEvent) -> Option<PathBuf> {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return self.folders.values().next().cloned();
        }
        let path = self.folders.get(&event.wd)?.join(event.name.as_ref()?);
        if event.mask.contains(AddWatchFlags::IN_ISDIR) {
            // What is in it already may have come before it was watched.
            return if foreign(&path) { None } else { self.add(&path) };
        }
        let whole = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
        (self.counts(&path) && event.mask.intersects(whole)).then_some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_looked_for_from_its_first_wildcard() {
        for (pattern, folder) in [
            ("/app/settings.ini", "/app"),
            ("/app/templates/**/*.html", "/app/templates"),
            ("/app/*/x.css", "/app"),
            ("/*", "/"),
        ] {
            assert_eq!(fixed_part(Path::new(pattern)), Path::new(folder), "{pattern}");
        }
    }
}
