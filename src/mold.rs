//! A mold: starts Python, evaluates the configuration, perhaps loads the
//! application, and forks workers when the master says so.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use pyo3::{Bound, PyAny, Python};
use serve_config::{Document, Settings, Workers};
use serve_net::Tls;
use serve_python::{App, Driver, Home, Interpreter, Moment, Preloaded, Refusal};
use serve_supervisor::{ForkHooks, Forked, MoldLink, News, Order};

use crate::configuration::Read;
use crate::invocation::Invocation;
use crate::privileges::Owner;
use crate::{configuration, engine, house, logger, process, python_logging, reload, tls, worker};

/// CPython's own hooks around a fork.
pub(crate) struct Hooks<'py>(pub(crate) Python<'py>);

impl ForkHooks for Hooks<'_> {
    fn before(&self) {
        serve_python::before_fork(self.0);
    }
    fn parent(&self) {
        serve_python::forked_parent(self.0);
    }
    fn child(&self) {
        serve_python::forked_child(self.0);
    }
}

/// What a generation is made of, once the master has decided.
pub(crate) struct Cast {
    pub(crate) settings: Settings,
    pub(crate) driver: Driver,
    /// With a certificate.
    pub(crate) tls: Option<Tls>,
    /// Loaded here when it is preloaded.
    pub(crate) app: Option<App>,
    /// The configuration's.
    pub(crate) hooks: Option<Arc<serve_python::Hooks>>,
    /// With `--reload`, by what its workers agree who watches.
    pub(crate) turn: Option<OwnedFd>,
}

/// Calls the hook that waits for this, if there is one.
pub(crate) fn tell(py: Python<'_>, hooks: Option<&serve_python::Hooks>, moment: Moment<'_>) {
    if let Some(hooks) = hooks {
        hooks.tell(py, moment);
    }
}

/// Runs a mold, and in their processes the workers it forks; returns the exit
/// code.
pub(crate) fn run(invocation: &Invocation, link: MoldLink) -> i32 {
    logger::become_role("mold");
    let interpreter = match start(invocation) {
        Ok(interpreter) => interpreter,
        Err(reason) => return give_up(link, 2, reason),
    };
    let code = interpreter.enter(|py| work(py, invocation, link));
    interpreter.finish();
    code
}

/// The interpreter, as the command line and the environment choose it; the
/// configuration file cannot, since it is read by it.
pub(crate) fn start(invocation: &Invocation) -> Result<Interpreter, String> {
    let settings = invocation.foreknown().map_err(|error| error.to_string())?;
    let app = settings.wsgi_app.as_deref().unwrap_or_default();
    let arguments = ["serve", app];
    if let Some(interpreter) = Interpreter::around(settings.python.as_deref(), &arguments)? {
        return Ok(interpreter);
    }
    let home = Home::find(settings.python.as_deref(), &settings.place("python"))?;
    if home.executable.is_none() {
        log::warn!(
            "no python of this version is on PATH: sys.executable stays empty, so multiprocessing cannot spawn"
        );
    }
    Interpreter::start(&home, &arguments)
}

fn work(py: Python<'_>, invocation: &Invocation, link: MoldLink) -> i32 {
    let collected = match evaluate(py, invocation).and_then(|read| collect(py, read)) {
        Ok(collected) => collected,
        Err(refusal) => return refuse(link, refusal),
    };
    let Collected { document, hooks, logging } = collected;
    if let Err(error) = link.report(document.to_json().as_bytes(), hooks.is_some()) {
        return lost(&error);
    }
    let planned = py.detach(|| link.plan());
    let blob = match planned {
        Ok(Some(plan)) => plan,
        Ok(None) => return 0,
        Err(error) => return lost(&error),
    };
    let (settings, tls) = match settle(invocation, &blob) {
        Ok(settled) => settled,
        Err(reason) => return give_up(link, 2, reason),
    };
    // gevent patches the standard library before anything is imported for the application.
    let is_first = link.generation() == 1;
    let prepared = furnish(py, &settings).and_then(|()| {
        let driver = engine::prepare(py, &settings)?;
        python_logging::configure(py, &settings, logging, is_first)?;
        serve_python::prepare_mold(py)?;
        Ok((driver, resolve(py, hooks, &document, &settings)?))
    });
    let (driver, hooks) = match prepared {
        Ok(prepared) => prepared,
        Err(refusal) => return refuse(link, refusal),
    };
    if is_first {
        tell(py, hooks.as_deref(), Moment::Starting);
    }
    let app = match settings.preload_app.then(|| preload(py, &settings)).transpose() {
        Ok(app) => app,
        Err(refusal) => return refuse(link, refusal),
    };
    if !is_first {
        tell(py, hooks.as_deref(), Moment::Reloading);
    }
    if let Err(error) = link.ready() {
        return lost(&error);
    }
    let turn = settings.reload.then(reload::turn).transpose().unwrap_or_else(|reason| {
        log::error!("{reason}");
        None
    });
    obey(py, link, Cast { settings, driver, tls, app, hooks, turn })
}

/// What the configuration file says.
pub(crate) fn evaluate<'py>(
    py: Python<'py>,
    invocation: &Invocation,
) -> Result<Read<'py>, Refusal> {
    serve_python::guard(py)?;
    let pid = std::process::id();
    let read = configuration::read(py, invocation);
    serve_python::end_unless(py, pid);
    read
}

/// What a configuration says, and what of it is Python's.
pub(crate) struct Collected<'py> {
    pub(crate) document: Document,
    pub(crate) hooks: Option<serve_python::Hooks>,
    /// Its `logconfig_dict`, which may hold what JSON cannot.
    pub(crate) logging: Option<Bound<'py, PyAny>>,
}

/// Keeps of a configuration what is needed later.
pub(crate) fn collect<'py>(py: Python<'py>, read: Read<'py>) -> Result<Collected<'py>, Refusal> {
    let logging = read.value("logconfig_dict");
    let names = read.names(py).map_err(|error| Refusal {
        code: 1,
        message: format!("cannot collect the hooks: {error}"),
        traceback: None,
    })?;
    let hooks = serve_python::Hooks::collect(py, &names)?;
    Ok(Collected { document: read.document, hooks, logging })
}

/// The hooks, if all of them can be called.
pub(crate) fn resolve(
    py: Python<'_>,
    hooks: Option<serve_python::Hooks>,
    document: &Document,
    settings: &Settings,
) -> Result<Option<Arc<serve_python::Hooks>>, Refusal> {
    let Some(mut hooks) = hooks else { return Ok(None) };
    // They are told how many, not that we choose.
    let mut told = settings.clone();
    told.workers = Workers::Count(house::crew(settings).0);
    hooks.resolve(py, &told.to_json(), &document.hooks())?;
    Ok(Some(Arc::new(hooks)))
}

/// What the application finds when it is loaded.
pub(crate) fn furnish(py: Python<'_>, settings: &Settings) -> Result<(), Refusal> {
    serve_python::set_environment(py, &settings.raw_env)?;
    serve_python::insert_directories(py, &settings.pythonpath)?;
    let Some(user) = &settings.user else { return Ok(()) };
    let closed = serve_python::closed_directories(py);
    if !closed.is_empty() {
        log::warn!(
            "{}: '{user}' may not read {}, where Python looks for modules",
            settings.place("user"),
            closed.join(" nor ")
        );
    }
    Ok(())
}

fn settle(invocation: &Invocation, blob: &[u8]) -> Result<(Settings, Option<Tls>), String> {
    let settings =
        Settings::from_json(&String::from_utf8_lossy(blob)).map_err(|error| error.to_string())?;
    invocation.enter(&settings)?;
    let owner = Owner::find(&settings)?;
    logger::belong_to(owner.as_ref());
    logger::apply(&settings)?;
    if settings.capture_output {
        logger::capture()?;
    }
    process::name(settings.proc_name.as_deref());
    // A private key is often root's alone.
    let tls = tls::load(&settings)?;
    // From here on nothing needs a privilege, and the application comes next.
    if let Some(owner) = owner {
        owner.assume()?;
        // The kernel forgets it when the ids change, and a mold must not outlive its master.
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| format!("prctl: {errno}"))?;
    }
    Ok((settings, tls))
}

fn preload(py: Python<'_>, settings: &Settings) -> Result<App, Refusal> {
    let app = worker::load(py, settings)?;
    let Preloaded { threads } = Preloaded::settle(py)?;
    if !threads.is_empty() {
        log::warn!(
            "the application started threads while it was preloaded ({}): workers will not have them; start them in the worker, or do without --preload",
            threads.join(", ")
        );
    }
    Ok(app)
}

fn obey(py: Python<'_>, mut link: MoldLink, cast: Cast) -> i32 {
    let hooks = cast.hooks.clone();
    let tell = |moment| tell(py, hooks.as_deref(), moment);
    let mut stopping = false;
    loop {
        match py.detach(|| link.order()) {
            Ok(Order::Fork(seat)) => {
                tell(Moment::Forking(seat.worker().number()));
                match link.fork(seat, &Hooks(py)) {
                    Forked::Mold(mine) => link = mine,
                    Forked::Worker(theirs) => return worker::run(py, theirs, cast),
                }
            }
            Ok(Order::Reopen) => {
                logger::reopen();
                serve_python::reopen_logs(py);
            }
            Ok(Order::News(news)) => match news {
                News::Serving => tell(Moment::Serving),
                News::Died { worker, pid } => tell(Moment::Died(worker.number(), pid)),
                News::Workers { now, before } => tell(Moment::Resized(now, before)),
                News::Stopping => stopping = true,
            },
            Ok(Order::Leave) => {
                if stopping {
                    tell(Moment::Exiting);
                }
                return 0;
            }
            Err(error) => return lost(&error),
        }
    }
}

/// The master says the sentence; where Python has more to say, it is said here.
fn refuse(link: MoldLink, refusal: Refusal) -> i32 {
    if let Some(traceback) = &refusal.traceback {
        log::error!("gen={}:\n{}", link.generation(), traceback.trim_end());
    }
    give_up(link, refusal.code, refusal.message)
}

fn give_up(link: MoldLink, code: i32, message: String) -> i32 {
    match link.failed(serve_supervisor::Refusal { code, message }) {
        Ok(()) => code,
        Err(error) => lost(&error),
    }
}

/// Without its master a mold has nobody to work for.
fn lost(error: &serve_supervisor::Error) -> i32 {
    log::debug!("{error}");
    1
}
