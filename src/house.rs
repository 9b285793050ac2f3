//! The master's side of a generation: merges its configuration, binds what it
//! asks for, and keeps what belongs to the server as a whole (sockets, pidfile,
//! log files).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use log::LevelFilter;
use nix::unistd::Pid;
use pyo3::Python;
use serve_config::{Document, LogFile, Origin, Remark, Settings, Workers};
use serve_net::{Address, Listener};
use serve_supervisor::{ForkHooks, Inherited, Launch, Options, Pidfile, Plan, Refusal, Site};

use crate::invocation::Invocation;
use crate::mold::Hooks;
use crate::privileges::Owner;
use crate::{candidates, check, engine, hand_off, logger, metrics, process};

/// The name in an upgrade of a socket that this server did not bind.
const PASSED: &str = "";

/// Where the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Under whoever has started it.
    Foreground,
    /// A daemon.
    Background,
    /// In the foreground, and the configuration file says that it shall not. It
    /// ends, to start again: a master with children cannot move.
    Misplaced,
}

/// Whose the sockets are, and the names in the file system.
#[derive(Debug)]
enum Share {
    /// This master's alone.
    Alone,
    /// A new master uses them, too, and will keep them.
    WithSuccessor,
    /// The master that has started this one has them, and may get them back.
    WithPredecessor,
}

pub(crate) struct House<'a> {
    invocation: &'a Invocation,
    place: Place,
    /// Around the forks of a process with an interpreter.
    hooks: Box<dyn ForkHooks + 'a>,
    share: Share,
    /// Ends when the master that has started this one does.
    predecessor: Option<OwnedFd>,
    /// Where that master hears that connections can be left to this one's workers.
    heir: Option<OwnedFd>,
    /// Sockets passed by the process that started us; then `bind` is ignored.
    inherited: Vec<Listener>,
    /// What is bound, by the text of `bind`.
    bound: BTreeMap<String, Listener>,
    /// What workers hand connections over by, of whatever generation they are.
    hand_off: Option<(OwnedFd, OwnedFd)>,
    /// Of the generation that serves.
    current: Option<Settings>,
    /// Of the generation that is coming up.
    coming: Option<Settings>,
    /// Where each hook of either was written, by name.
    current_hooks: BTreeMap<String, String>,
    coming_hooks: BTreeMap<String, String>,
    workers: u16,
    pidfile: Option<Pidfile>,
    /// The configuration file of the generation that was planned last.
    config: Option<String>,
    /// What has been said about the configuration.
    remarked: Vec<Remark>,
}

impl<'a> House<'a> {
    pub(crate) fn new(
        invocation: &'a Invocation,
        place: Place,
        python: Option<Python<'a>>,
    ) -> Self {
        Self {
            invocation,
            place,
            hooks: python.map_or_else(|| Box::new(()) as _, |py| Box::new(Hooks(py)) as _),
            share: Share::Alone,
            predecessor: None,
            heir: None,
            inherited: Vec::new(),
            bound: BTreeMap::new(),
            hand_off: None,
            current: None,
            coming: None,
            current_hooks: BTreeMap::new(),
            coming_hooks: BTreeMap::new(),
            workers: 0,
            pidfile: None,
            config: None,
            remarked: Vec::new(),
        }
    }

    /// A new master beside the one that has started it.
    pub(crate) fn succeed(
        invocation: &'a Invocation,
        from: Inherited,
        python: Option<Python<'a>>,
    ) -> Result<Self, String> {
        let mut house = Self::new(invocation, Place::Background, python);
        house.share = Share::WithPredecessor;
        house.predecessor = Some(from.lifeline);
        let (pair, listeners): (Vec<_>, Vec<_>) =
            from.listeners.into_iter().partition(|(name, _)| hand_off::is_end(name));
        house.hand_off = hand_off::known(pair);
        house.heir = from.ready.filter(|_| house.hand_off.is_some());
        for (name, fd) in listeners {
            let unusable = |error| format!("the socket {name} is unusable: {error}");
            if name == PASSED {
                house.inherited.push(Listener::adopted(fd).map_err(unusable)?);
                continue;
            }
            let listener = match Address::parse(&name) {
                Ok(Address::Fd(_)) => Listener::adopted(fd),
                _ => Listener::succeeded(fd),
            };
            house.bound.insert(name.clone(), listener.map_err(unusable)?);
        }
        Ok(house)
    }

    /// What the master must know before any configuration is evaluated.
    pub(crate) fn options(&self) -> Options {
        self.invocation.foreknown().map_or_else(
            |_| Options::default(),
            |settings| Options { boot_timeout: settings.boot_timeout },
        )
    }

    /// The end: nothing of ours stays in the file system.
    pub(crate) fn leave(mut self) -> Place {
        if let Some(Err(error)) = self.pidfile.take().map(Pidfile::remove) {
            log::warn!("{error}");
        }
        self.forsake();
        self.place
    }

    fn settings(&mut self, report: &[u8]) -> Result<Settings, Refusal> {
        let usage = |error: serve_config::Error| refusal(2, error.to_string());
        let document = Document::from_json(&String::from_utf8_lossy(report)).map_err(usage)?;
        let (file, remarks) = self.invocation.file(&document).map_err(usage)?;
        let settings = self.invocation.resolve(&file);
        let strays =
            self.place == Place::Foreground && settings.as_ref().is_ok_and(|given| given.daemon);
        if strays && self.current.is_none() {
            self.place = Place::Misplaced;
            // No failure: nothing has begun, and all of this is said in the background again.
            log::set_max_level(LevelFilter::Off);
            return Err(refusal(0, "it has to be a daemon".into()));
        }
        self.remark(remarks);
        if let (true, Ok(settings)) = (strays, &settings) {
            let sentence = "has no effect: a server becomes a daemon when it starts, and not later";
            let place = settings.place("daemon");
            self.remark(vec![Remark::Warning(format!("{place} {sentence}"))]);
        }
        self.coming_hooks = document.hooks();
        self.config = Some(document.origin).filter(|origin| !origin.is_empty());
        let settings = settings.map_err(usage)?;
        if settings.wsgi_app.is_none() {
            return Err(refusal(2, candidates::nameless(&self.invocation.directory)));
        }
        Ok(settings)
    }

    /// Says what is odd, and nothing twice, however often it is reloaded.
    fn remark(&mut self, remarks: Vec<Remark>) {
        for remark in remarks {
            if !self.remarked.contains(&remark) {
                logger::remark(&remark);
                self.remarked.push(remark);
            }
        }
    }

    /// Where and for whom files are made from now on.
    fn enter(&self, settings: &Settings) -> Result<Option<Owner>, Refusal> {
        let usage = |reason| refusal(2, reason);
        self.invocation.enter(settings).map_err(usage)?;
        let owner = Owner::find(settings).map_err(usage)?;
        logger::belong_to(owner.as_ref());
        Ok(owner)
    }

    fn listeners(
        &mut self,
        settings: &Settings,
        owner: Option<&Owner>,
    ) -> Result<Vec<OwnedFd>, Refusal> {
        if self.current.is_none() && self.bound.is_empty() && self.inherited.is_empty() {
            self.inherited = serve_net::inherited().map_err(|e| refusal(1, e.to_string()))?;
        }
        if !self.inherited.is_empty() {
            return duplicates(&self.inherited);
        }
        for text in &settings.bind {
            if !self.bound.contains_key(text) {
                self.bound.insert(text.clone(), bind(text, settings, owner)?);
            }
        }
        duplicates(settings.bind.iter().filter_map(|text| self.bound.get(text)))
    }

    /// The two ends of the hand-off, which follow the listeners in a plan.
    fn pair(&mut self) -> Result<[OwnedFd; 2], Refusal> {
        let failed = |error| refusal(1, format!("cannot make a socket pair: {error}"));
        let (put, take) = match self.hand_off.take() {
            Some(pair) => pair,
            None => serve_net::hand_off().map_err(failed)?,
        };
        let copies = put.try_clone().and_then(|copy| Ok([copy, take.try_clone()?]));
        self.hand_off = Some((put, take));
        copies.map_err(failed)
    }

    /// Lets go of sockets that neither generation's settings name.
    fn unbind(&mut self) {
        let named = |text: &String| {
            let all = [&self.current, &self.coming];
            all.into_iter().flatten().any(|settings| settings.bind.contains(text))
        };
        let (keep, drop): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.bound).into_iter().partition(|(text, _)| named(text));
        self.bound = keep;
        for listener in drop.values() {
            log::info!("no longer listening on {listener}");
            remove_socket(listener);
        }
    }

    /// This master's sockets end, unless another master serves on with them.
    fn forsake(&mut self) {
        for (_, listener) in std::mem::take(&mut self.bound) {
            if let Share::Alone = self.share {
                if let Err(error) = listener.narrow() {
                    log::debug!("{listener}: {error}");
                }
                remove_socket(&listener);
            }
        }
    }

    fn take_pidfile(&mut self, path: Option<&Path>) {
        if let Some(Err(error)) = self.pidfile.take().map(Pidfile::remove) {
            log::warn!("{error}");
        }
        match path.map(Pidfile::write).transpose() {
            Ok(pidfile) => self.pidfile = pidfile,
            Err(error) => log::error!("{error}"),
        }
    }
}

impl Site for House<'_> {
    fn plan(&mut self, generation: u32, report: &[u8]) -> Result<Plan, Refusal> {
        let settings = self.settings(report)?;
        let owner = self.enter(&settings)?;
        if self.current.is_none() {
            // Whatever goes wrong from here on should be where it is looked for.
            logger::apply(&settings).map_err(|reason| refusal(1, reason))?;
            if settings.daemon && settings.errorlog == LogFile::Standard {
                log::warn!(
                    "as a daemon the server has no stderr: name a file for its messages with --error-logfile"
                );
            }
        }
        let is_new = self.current.as_ref().is_none_or(|old| old.pidfile != settings.pidfile);
        if let (Some(path), Share::Alone, true) = (&settings.pidfile, &self.share, is_new) {
            let failed = |error| refusal(1, format!("{}: {error}", settings.place("pidfile")));
            Pidfile::check(Path::new(path)).map_err(failed)?;
        }
        check::values(&settings).map_err(|reason| refusal(2, reason))?;
        let mut listeners = self.listeners(&settings, owner.as_ref())?;
        listeners.extend(self.pair()?);
        let workers = workers(&settings, generation);
        engine::explain(&settings, generation);
        self.workers = workers;
        let plan = Plan {
            workers,
            timeout: settings.timeout,
            graceful_timeout: settings.graceful_timeout,
            boot_timeout: settings.boot_timeout,
            max_worker_age: settings.max_worker_age,
            max_rss: settings.max_rss,
            memory_limit: serve_config::memory_limit(Path::new("/")),
            drain_delay: settings.drain_delay,
            max_surge: settings.max_surge,
            keep_mold: settings.preload_app,
            blob: settings.to_json().into_bytes(),
            listeners,
            ..Plan::default()
        };
        self.coming = Some(settings);
        Ok(plan)
    }

    fn settled(&mut self, generation: u32) {
        let Some(settings) = self.coming.take() else { return };
        if let Err(reason) = logger::apply(&settings) {
            log::error!("gen={generation}: {reason}; the old file is kept");
        }
        process::name(settings.proc_name.as_deref());
        let hooks = std::mem::take(&mut self.coming_hooks);
        if let Some(old) = &self.current {
            let changes = [old.changes(&settings), changes(&self.current_hooks, &hooks)];
            changes.iter().flatten().for_each(|change| log::info!("gen={generation} {change}"));
        }
        self.current_hooks = hooks;
        let pidfile = settings.pidfile.as_ref().map(|path| match self.share {
            Share::WithPredecessor => PathBuf::from(format!("{path}.2")),
            Share::Alone | Share::WithSuccessor => PathBuf::from(path),
        });
        self.current = Some(settings);
        self.take_pidfile(pidfile.as_deref());
        self.unbind();
    }

    fn abandoned(&mut self, generation: u32) {
        self.coming = None;
        if let Some(settings) = self.current.clone() {
            self.unbind();
            if let Err(refusal) = self.enter(&settings) {
                log::error!("gen={generation}: {}", refusal.message);
            }
        }
    }

    fn fork_hooks(&self) -> &dyn ForkHooks {
        &*self.hooks
    }

    fn reopen_logs(&mut self) {
        logger::reopen();
    }

    /// The workers drain what is queued and close; with the master's own copies
    /// gone, the last of them makes the kernel refuse whoever comes later.
    fn stopping(&mut self) {
        self.inherited.clear();
        self.hand_off = None;
        self.forsake();
    }

    fn upgrade(&mut self) -> Result<Launch, String> {
        let copy = |name: &str, socket: BorrowedFd<'_>| {
            let copy = socket.try_clone_to_owned();
            copy.map(|fd| (name.to_owned(), fd))
                .map_err(|error| format!("cannot copy a socket: {error}"))
        };
        let passed = self.inherited.iter().map(|listener| copy(PASSED, listener.as_fd()));
        let bound = self.bound.iter().map(|(text, listener)| copy(text, listener.as_fd()));
        let ends = self.hand_off.iter().flat_map(|(put, take)| [put.as_fd(), take.as_fd()]);
        let pair = hand_off::names().into_iter().zip(ends).map(|(name, end)| copy(&name, end));
        let listeners = passed.chain(bound).chain(pair).collect::<Result<_, _>>()?;
        Launch::again(&self.invocation.directory, listeners)
    }

    fn upgraded(&mut self, _: Pid) {
        self.share = Share::WithSuccessor;
    }

    fn upgrade_over(&mut self) {
        self.share = Share::Alone;
    }

    fn predecessor(&mut self) -> Option<OwnedFd> {
        self.predecessor.take()
    }

    fn promoted(&mut self) {
        self.share = Share::Alone;
        let path = self.current.as_ref().and_then(|settings| settings.pidfile.as_ref());
        if let (Some(pidfile), Some(path)) = (&mut self.pidfile, path)
            && let Err(error) = pidfile.rename(Path::new(path))
        {
            log::error!("{error}");
        }
    }

    fn steady(&mut self, workers: u16) {
        metrics::workers(workers);
    }

    fn serving(&mut self) {
        if let Some(heir) = self.heir.take()
            && let Err(error) = File::from(heir).write_all(b"1")
        {
            log::debug!("the old master has gone: {error}");
        }
        let Some(settings) = &self.current else { return };
        let app = settings.wsgi_app.as_deref().unwrap_or_default();
        if let Workers::Count(count) = settings.workers {
            log::info!("workers={count}: {}", settings.origin("workers"));
        }
        let secure = settings.certfile.is_some();
        let listeners = self.inherited.iter().chain(self.bound.values());
        let places: Vec<String> = listeners.map(|listener| listener.place(secure)).collect();
        log::info!(
            "serve {} serves {app} at {} (workers={} class={} config={} pid={})",
            env!("CARGO_PKG_VERSION"),
            logger::strong(&places.join(" ")),
            self.workers,
            engine::name(settings),
            self.config.as_deref().unwrap_or("none"),
            std::process::id()
        );
        logger::dismiss(0);
    }
}

/// Which hooks have come and gone. One that stays may do something else now; that
/// is its file's to tell.
fn changes(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<String> {
    let gone = old.iter().filter(|(name, _)| !new.contains_key(*name));
    let come = new.iter().filter(|(name, _)| !old.contains_key(*name));
    let gone = gone.map(|(name, place)| format!("{name}: {place} -> None"));
    gone.chain(come.map(|(name, place)| format!("{name}: None -> {place}"))).collect()
}

fn bind(text: &str, settings: &Settings, owner: Option<&Owner>) -> Result<Listener, Refusal> {
    let address = check::address(settings, text).map_err(|reason| refusal(2, reason))?;
    let listener = Listener::bind(&address, settings.backlog, settings.unix_socket_mode)
        .map_err(|error| refusal(1, format!("{}: {error}", settings.place("bind"))))?;
    if let (Address::Unix(path), Some(owner)) = (&address, owner) {
        owner.give(path).map_err(|error| {
            remove_socket(&listener);
            refusal(1, format!("cannot change the owner of {}: {error}", path.display()))
        })?;
    }
    Ok(listener)
}

fn workers(settings: &Settings, generation: u32) -> u16 {
    let (count, why) = crew(settings);
    if let Some(why) = why {
        log::info!("gen={generation} {why}");
    }
    count
}

/// How many workers that makes, and why, unless somebody has said so.
pub(crate) fn crew(settings: &Settings) -> (u16, Option<String>) {
    match settings.workers {
        Workers::Count(count) => (count, None),
        // Who waits for a reload does not want to wait for many workers.
        Workers::Auto if settings.reload && *settings.origin("workers") == Origin::Default => {
            (1, Some("workers=1: --reload".into()))
        }
        Workers::Auto => {
            let cores = serve_config::cores(Path::new("/"));
            (cores.workers(), Some(cores.to_string()))
        }
    }
}

fn duplicates<'a>(
    listeners: impl IntoIterator<Item = &'a Listener>,
) -> Result<Vec<OwnedFd>, Refusal> {
    let copies = listeners.into_iter().map(|listener| listener.as_fd().try_clone_to_owned());
    copies.collect::<Result<_, _>>().map_err(|e| refusal(1, format!("cannot copy a socket: {e}")))
}

fn remove_socket(listener: &Listener) {
    if let Some(path) = listener.path()
        && let Err(error) = fs::remove_file(path)
    {
        log::warn!("cannot remove the socket {}: {error}", path.display());
    }
}

fn refusal(code: i32, message: String) -> Refusal {
    Refusal { code, message }
}

#[cfg(test)]
mod tests {
    /// Two crates that do not know each other must agree.
    #[test]
    fn every_number_of_workers_that_is_accepted_can_be_had() {
        assert_eq!(serve_config::Workers::MOST, serve_supervisor::MAX_WORKERS);
    }
}
