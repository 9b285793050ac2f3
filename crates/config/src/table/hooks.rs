//! The functions of a configuration that the server calls. They are no
//! settings: a config file alone gives them, as functions or import paths.

/// A hook.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hook {
    /// Its name in config files.
    pub(crate) name: &'static str,
    /// How gunicorn differs; empty: not at all.
    pub(crate) gunicorn: &'static str,
}

const fn hook(name: &'static str, gunicorn: &'static str) -> Hook {
    Hook { name, gunicorn }
}

const IN_MASTER: &str = "In gunicorn it runs in the master, as whoever has started it.";

/// All of them, in the order in which they are called.
pub(crate) static HOOKS: &[Hook] = &[
    hook("on_starting", IN_MASTER),
    hook("on_reload", "In gunicorn it runs in the master, and sees the old code."),
    hook("pre_fork", "In gunicorn it runs in the master, and `worker.age` counts reloads through."),
    hook("post_fork", "In gunicorn, one that raises ends the worker."),
    hook("post_worker_init", "In gunicorn, one that raises ends the worker."),
    hook("when_ready", "In gunicorn it runs before there is a worker."),
    hook("nworkers_changed", IN_MASTER),
    hook("pre_request", "In gunicorn, one that raises ends the request."),
    hook("post_request", ""),
    hook("worker_int", "In gunicorn it runs while requests do."),
    hook("worker_abort", "In gunicorn, the worker ends after it."),
    hook("worker_exit", ""),
    hook("child_exit", IN_MASTER),
    hook("on_exit", IN_MASTER),
];
