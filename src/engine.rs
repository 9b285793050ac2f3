//! What a worker class comes to in the application's environment.

use pyo3::Python;
use serve_config::{Settings, WorkerClass};
use serve_python::{Driver, Refusal};

/// Exit code: the configuration is wrong.
const CONFIGURATION: i32 = 2;

/// The most threads of an `async` worker without gevent; more would only fight
/// for the interpreter.
const STAND_INS: usize = 256;

/// Chooses the driver and prepares the interpreter for it. To be called before
/// anything of the application is imported.
pub(crate) fn prepare(py: Python<'_>, settings: &Settings) -> Result<Driver, Refusal> {
    match settings.class() {
        WorkerClass::Sync => Ok(Driver::Sync),
        WorkerClass::Threads => Ok(threads(usize::from(settings.threads), settings)),
        WorkerClass::Async | WorkerClass::Gevent if serve_python::has_gevent(py)? => {
            serve_python::patch(py)?;
            Ok(Driver::Greenlets)
        }
        WorkerClass::Gevent => Err(Refusal {
            code: CONFIGURATION,
            message: "the worker class 'gevent' needs gevent, which this Python environment does \
                      not have: pip install gevent"
                .to_owned(),
            traceback: None,
        }),
        WorkerClass::Async => {
            let count = settings.worker_connections.min(STAND_INS);
            log::info!(
                "class=async runs with up to {count} threads, since this Python environment has \
                 no gevent (pip install gevent)"
            );
            Ok(threads(count, settings))
        }
    }
}

/// What `threading.stack_size` takes at least.
const SMALLEST_STACK: u64 = 32 * 1024;

/// Whether threads can have the stack that they are to have.
pub(crate) fn check(settings: &Settings) -> Result<(), String> {
    match settings.thread_stack_size {
        Some(size) if size < SMALLEST_STACK => Err(format!(
            "{}: {size} bytes are less than the 32k that Python needs",
            settings.place("thread_stack_size")
        )),
        _ => Ok(()),
    }
}

fn threads(count: usize, settings: &Settings) -> Driver {
    let stack = settings.thread_stack_size.and_then(|size| usize::try_from(size).ok());
    Driver::Threads { count, stack }
}

/// How many requests such a worker may have at once.
pub(crate) fn slots(driver: Driver, settings: &Settings) -> usize {
    match driver {
        Driver::Sync => 1,
        Driver::Threads { count, .. } => count,
        Driver::Greenlets => settings.worker_connections,
    }
}

/// As the start tells it: `threads threads=4`.
pub(crate) fn name(settings: &Settings) -> String {
    match settings.class() {
        WorkerClass::Threads => format!("threads threads={}", settings.threads),
        class => class.to_string(),
    }
}

/// Tells of a class that is not the one that was asked for.
pub(crate) fn explain(settings: &Settings, generation: u32) {
    if (settings.worker_class, settings.class()) == (WorkerClass::Sync, WorkerClass::Threads) {
        log::info!(
            "gen={generation} class=threads, since a sync worker has one thread and threads={}",
            settings.threads
        );
    }
}
