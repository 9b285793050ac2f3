//! A worker: loads the application and serves with it until it is told to stop.

use std::env;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pyo3::Python;
use serve_config::{Settings, Workers};
use serve_http::Limits;
use serve_net::{Board, Company, Listener, Reactor};
use serve_python::{App, Control, Driver, Moment, Options, Order, Origin, Sockets, Worker};
use serve_supervisor::{Command, Reason, Slot, WorkerLink, monotonic_ms};

use crate::mold::Cast;
use crate::trust::{proxy, trust};
use crate::{engine, logger, logs, metrics, mold, reload};

/// How long a kept-alive connection may still bring a request to a worker that
/// stops. Closing it at once would cut off a client that is just writing one.
const IDLE_GRACE: Duration = Duration::from_secs(1);

/// The most memory for large request bodies in a worker.
const BODY_POOL: usize = 128 << 20;

const SOFTWARE: &str = concat!("serve/", env!("CARGO_PKG_VERSION"));

/// Serves; returns the exit code.
pub(crate) fn run(py: Python<'_>, mut link: WorkerLink, cast: Cast) -> i32 {
    logger::become_role("worker");
    logger::forked();
    let sockets = Sockets::new(link.take_listeners());
    if let Err(refusal) = prepare(py, cast.driver, &sockets) {
        return refuse(&refusal);
    }
    let hooks = cast.hooks.clone();
    mold::tell(py, hooks.as_deref(), Moment::Forked);
    let code = work(py, &mut link, cast, &sockets);
    mold::tell(py, hooks.as_deref(), Moment::Leaving);
    code
}

fn work(py: Python<'_>, link: &mut WorkerLink, mut cast: Cast, sockets: &Sockets) -> i32 {
    let settings = &cast.settings;
    let app = match cast.app.take().map_or_else(|| load(py, settings), Ok) {
        Ok(app) => app,
        Err(refusal) => return refuse(&refusal),
    };
    mold::tell(py, cast.hooks.as_deref(), Moment::Loaded(&app));
    if let Some(turn) = cast.turn.take()
        && let Err(reason) = reload::watch(&settings.pythonpath, &settings.reload_extra_files, turn)
    {
        log::error!("{reason}");
    }
    match serve(py, link, &cast, sockets.take(), app) {
        Ok(()) => 0,
        Err(reason) => {
            log::error!("worker={} cannot go on: {reason}", link.id());
            1
        }
    }
}

fn prepare(py: Python<'_>, driver: Driver, sockets: &Sockets) -> Result<(), serve_python::Refusal> {
    if driver == Driver::Greenlets {
        serve_python::forked(py)?;
    }
    serve_python::prepare_worker(py, sockets.clone())
}

/// Loads the application that the settings name.
pub(crate) fn load(py: Python<'_>, settings: &Settings) -> Result<App, serve_python::Refusal> {
    let directory = env::current_dir().map_err(|error| serve_python::Refusal {
        code: 3,
        message: format!("cannot find the working directory: {error}"),
        traceback: None,
    })?;
    let (spec, pid) = (settings.wsgi_app.as_deref().unwrap_or_default(), process::id());
    let loaded = serve_python::load(py, spec, &directory);
    serve_python::end_unless(py, pid);
    loaded
}

/// One message: the sentence, and Python's account below it.
pub(crate) fn refuse(refusal: &serve_python::Refusal) -> i32 {
    match &refusal.traceback {
        Some(traceback) => log::error!("{}\n{}", refusal.message, traceback.trim_end()),
        None => log::error!("{}", refusal.message),
    }
    refusal.code
}

fn serve(
    py: Python<'_>,
    link: &mut WorkerLink,
    cast: &Cast,
    mut sockets: Vec<OwnedFd>,
    app: App,
) -> Result<(), String> {
    let Cast { settings, driver, hooks, .. } = cast;
    let pair = sockets.split_off(sockets.len().saturating_sub(2));
    let listeners = sockets.into_iter().map(Listener::adopted).collect::<Result<Vec<_>, _>>();
    let listeners = listeners.map_err(|error| format!("a listener is unusable: {error}"))?;
    let options = Options {
        driver: *driver,
        origins: listeners.iter().map(Origin::from).collect(),
        multiprocess: settings.workers != Workers::Count(1),
        software: SOFTWARE.to_owned(),
        idle_grace: IDLE_GRACE,
        graceful_timeout: settings.graceful_timeout,
        timeout: settings.timeout,
        request_timeout: settings.request_timeout,
        tired_after: tired_after(settings),
        worker: format!("worker={} gen={}", link.id(), link.generation()),
        hooks: hooks.clone(),
    };
    let access = logs::access(settings, link.id().number())?;
    let statsd = metrics::connect(settings);
    let broken = |error| format!("the event loop cannot start: {error}");
    let mut reactor = Reactor::new(reactor_options(cast)?, listeners, access).map_err(broken)?;
    if let Some(statsd) = statsd {
        reactor.measure(statsd);
    }
    let company = if options.multiprocess { Company::Some } else { Company::None };
    if let Ok([put, take]) = <[OwnedFd; 2]>::try_from(pair) {
        reactor.share(put, take, company).map_err(broken)?;
    }
    let board = Arc::new(Seat(link.slot()));
    let mut master = Master { link, quit: false };
    let worker = Worker { app, options: &options, board, control: &mut master };
    let served = serve_python::run(py, reactor, worker);
    if master.quit {
        mold::tell(py, hooks.as_deref(), Moment::Quitting);
    }
    served
}

/// After how many requests this worker wants a successor. By chance, so that
/// workers that were started together do not end together.
fn tired_after(settings: &Settings) -> Option<u64> {
    // Not a hash map's keys: all workers inherit those from their mold.
    let mut chance = DefaultHasher::new();
    (process::id(), SystemTime::now()).hash(&mut chance);
    let least = settings.max_requests? as u64;
    Some(least + up_to(settings.max_requests_jitter as u64, chance.finish()))
}

fn up_to(most: u64, chance: u64) -> u64 {
    most.checked_add(1).map_or(chance, |count| chance % count)
}

fn reactor_options(cast: &Cast) -> Result<serve_net::Options, String> {
    let Cast { settings, driver, tls, .. } = cast;
    let unlimited = |limit: Option<usize>| limit.unwrap_or(usize::MAX);
    Ok(serve_net::Options {
        limits: Limits {
            request_line: settings.limit_request_line.unwrap_or(0),
            fields: unlimited(settings.limit_request_fields),
            field_size: unlimited(settings.limit_request_field_size),
            max_body: settings.max_body_size,
            ..Limits::default()
        },
        body_pool: body_pool(settings),
        keep_alive: settings.keepalive.unwrap_or(Duration::ZERO),
        header_timeout: settings.header_timeout,
        write_timeout: settings.write_timeout,
        slots: engine::slots(*driver, settings),
        notice_gone: *driver == Driver::Greenlets,
        queue_limit: settings.queue_limit,
        queue_timeout: settings.queue_timeout,
        trust: trust(settings)?,
        proxy: proxy(settings)?,
        tls: tls.clone(),
        request_ids: settings.request_id,
        ..serve_net::Options::default()
    })
}

/// Bytes of memory for large request bodies: a sixteenth of what there is goes to
/// those of all workers. More than a worker reads in a moment is of no use.
fn body_pool(settings: &Settings) -> usize {
    let root = Path::new("/");
    let workers = match settings.workers {
        Workers::Count(count) => count,
        Workers::Auto => serve_config::cores(root).workers(),
    };
    let share = serve_config::memory(root) / 16 / u64::from(workers.max(1));
    usize::try_from(share).unwrap_or(BODY_POOL).min(BODY_POOL)
}

/// The worker's place on the scoreboard.
struct Seat(&'static Slot);

impl Board for Seat {
    fn awake(&self) {
        self.0.awake(monotonic_ms());
    }
    fn asleep(&self) {
        self.0.asleep();
    }
    fn begin(&self, method: &[u8], path: &[u8]) {
        self.0.begin(monotonic_ms(), method, path);
    }
    fn end(&self) {
        self.0.end();
    }
    fn longest(&self, age: Duration, method: &[u8], path: &[u8]) {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.0.longest(monotonic_ms().saturating_sub(age), method, path);
    }
    fn extend(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.awake(monotonic_ms().saturating_add(by));
    }
}

/// The master, as this worker hears it.
struct Master<'a> {
    link: &'a mut WorkerLink,
    /// It has said so.
    quit: bool,
}

impl Control for Master<'_> {
    fn watched(&self) -> Vec<BorrowedFd<'_>> {
        self.link.watch_fds().to_vec()
    }

    fn orders(&mut self) -> Vec<Order> {
        let commands = self.link.take().into_iter();
        commands
            .inspect(|command| {
                if !matches!(command, Command::Reopen) {
                    reload::leave();
                }
            })
            .filter_map(|command| match command {
                Command::Retire => {
                    self.link.slot().retiring();
                    Some(Order::Retire)
                }
                Command::Stop => {
                    self.link.slot().retiring();
                    Some(Order::Stop)
                }
                Command::Quit => {
                    self.quit = true;
                    Some(Order::Quit)
                }
                Command::Reopen => {
                    logger::reopen();
                    serve_python::ask_to_reopen_logs();
                    None
                }
                Command::Orphaned => {
                    log::warn!("worker={} stops: the master has gone", self.link.id());
                    Some(Order::Stop)
                }
            })
            .collect()
    }

    fn ready(&mut self) {
        self.link.ready();
    }

    fn tired(&mut self) {
        self.link.tired(Reason::Requests);
    }

    fn stuck(&mut self) {
        self.link.tired(Reason::Stuck);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jitter_reaches_from_none_to_all_of_it() {
        let all: Vec<u64> = (0..4).map(|chance| up_to(3, chance)).collect();
        assert_eq!(all, [0, 1, 2, 3]);
        assert_eq!((up_to(0, 9), up_to(u64::MAX, 9)), (0, 9));
    }
}
