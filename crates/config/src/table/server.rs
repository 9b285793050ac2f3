//! The rows about the server itself: the application, sockets, processes
//! and what they may do.

use super::{APPLICATION, FROM_ZERO, PRIVILEGES, RECYCLING, Row, SOCKETS, WORKERS};
use crate::kind::Kind;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "wsgi_app",
        flags: &["APP"],
        platform_variable: None,
        value: "APP",
        kind: Kind::Text,
        default: None,
        group: APPLICATION,
        summary: "What to serve: MODULE:ATTRIBUTE, MODULE:FACTORY(...) or MODULE",
        details: "The WSGI application: `main:app` is the attribute `app` of the module `main`, \
            `main:create_app()` is what that call returns (a shell wants quotes around it). A \
            module alone means its attribute `application`, or else `app`. Modules are looked up \
            as Python does, the working directory first.",
        gunicorn: "In gunicorn, a module alone means its attribute `application` only.",
    },
    Row {
        name: "python",
        flags: &["--python"],
        platform_variable: None,
        value: "PATH",
        kind: Kind::Text,
        default: None,
        group: APPLICATION,
        summary: "Python interpreter or virtual environment of the application",
        details: "An interpreter such as `.venv/bin/python`, or the folder of a virtual environment. \
            When it is not set, the active virtual environment is used (`VIRTUAL_ENV`), else \
            the one that the server is installed in, else `python3` on the `PATH`. In a file it \
            has no effect: that is read by this Python.",
        gunicorn: "gunicorn does not have it: it runs under whichever Python starts it.",
    },
    Row {
        name: "chdir",
        flags: &["--chdir"],
        platform_variable: None,
        value: "DIR",
        kind: Kind::Text,
        default: None,
        group: APPLICATION,
        summary: "Change to this directory before loading the application",
        details: "The directory to work in: the application is imported from here, and relative \
            paths start here. When it is not set, it is the one that the server was started in.",
        gunicorn: "",
    },
    Row {
        name: "pythonpath",
        flags: &["--pythonpath"],
        platform_variable: None,
        value: "DIRS",
        kind: Kind::Items,
        default: Some(""),
        group: APPLICATION,
        summary: "Directories to look in first for modules",
        details: "Directories that come first in `sys.path`, before the working directory. On the \
            command line and in a text, commas separate.",
        gunicorn: "",
    },
    Row {
        name: "raw_env",
        flags: &["-e", "--env"],
        platform_variable: None,
        value: "NAME=VALUE",
        kind: Kind::Pairs,
        default: Some(""),
        group: APPLICATION,
        summary: "Set an environment variable for the application; repeatable",
        details: "Variables that the application finds in `os.environ`, set before it is loaded. A \
            config file gives a list of texts, the command line repeats the flag.",
        gunicorn: "In gunicorn, they are set in the master, too.",
    },
    Row {
        name: "preload_app",
        flags: &["--preload", "--no-preload"],
        platform_variable: None,
        value: "",
        kind: Kind::Switch,
        default: Some("false"),
        group: APPLICATION,
        summary: "Load the application once, before workers are forked",
        details: "The application is imported once and the workers are forked from that, which \
            starts them faster and shares memory between them. Connections and threads that the \
            import opens do not survive the fork: open them later. `--no-preload` on the \
            command line undoes what a file or a variable says.",
        gunicorn: "In gunicorn, a reload (HUP) with preload keeps the old code; here it loads the new. \
            `--no-preload` does not exist there.",
    },
    Row {
        name: "bind",
        flags: &["-b", "--bind"],
        platform_variable: Some("PORT"),
        value: "ADDRESS",
        kind: Kind::List,
        default: Some("127.0.0.1:8000"),
        group: SOCKETS,
        summary: "Listen on HOST:PORT or unix:PATH; repeatable",
        details: "One address or several: `HOST:PORT`, `[::1]:PORT`, `unix:PATH`, `unix:@NAME` (abstract) \
            or `fd://N` (a socket that was inherited). A config file gives a text or a list, the command line repeats \
            the flag; in a text, commas separate. When `PORT` is set, as many platforms do, the \
            default is `0.0.0.0:$PORT`.",
        gunicorn: "In gunicorn, a text is one address even if it has commas.",
    },
    Row {
        name: "backlog",
        flags: &["--backlog"],
        platform_variable: None,
        value: "N",
        kind: Kind::Count { least: 1, most: 2_147_483_647 },
        default: Some("2048"),
        group: SOCKETS,
        summary: "Connections that may wait to be accepted",
        details: "How many new connections the kernel keeps waiting while all workers are busy; more \
            are turned away. The kernel has a limit of its own (`net.core.somaxconn`).",
        gunicorn: "",
    },
    Row {
        name: "unix_socket_mode",
        flags: &["--unix-socket-mode"],
        platform_variable: None,
        value: "MODE",
        kind: Kind::Mode,
        default: Some("0660"),
        group: SOCKETS,
        summary: "Permissions of a unix socket, in octal",
        details: "Who may connect to a unix socket: with `0660` the user and the group that the server \
            runs as. Text is read as octal; in a Python file, `0o660` works too.",
        gunicorn: "gunicorn does not have it: the mode follows `umask`, whose default there lets \
            everybody connect.",
    },
    Row {
        name: "workers",
        flags: &["-w", "--workers"],
        platform_variable: Some("WEB_CONCURRENCY"),
        value: "N",
        kind: Kind::Workers,
        default: Some("auto"),
        group: WORKERS,
        summary: "Worker processes; auto is 2 x cores + 1",
        details: "How many processes serve requests. With `auto`, twice the number of cores and one \
            more, where the cores are those that the process may use: the cgroup's CPU quota and \
            the affinity mask are obeyed. Where the cgroup has a memory limit, there is at most one for every 64 MiB of it. The log says how the number was found. When `WEB_CONCURRENCY` is set, it is the default.",
        gunicorn: "In gunicorn the default is 1, and `auto` does not exist.",
    },
    Row {
        name: "pidfile",
        flags: &["-p", "--pid"],
        platform_variable: None,
        value: "FILE",
        kind: Kind::Text,
        default: None,
        group: WORKERS,
        summary: "Write the master's process id to this file",
        details: "Holds the master's process id, for sending signals. The file appears once the server \
            serves and is removed when it stops.",
        gunicorn: "In gunicorn the file appears before the first worker has started.",
    },
    Row {
        name: "proc_name",
        flags: &["-n", "--name"],
        platform_variable: None,
        value: "NAME",
        kind: Kind::Text,
        default: None,
        group: WORKERS,
        summary: "What ps and top call the processes",
        details: "The name of all processes of the server, as `ps -o comm`, `top` and `pgrep` show it. \
            The kernel keeps the first 15 bytes.",
        gunicorn: "In gunicorn it is part of a title that replaces the arguments, and needs the package \
            `setproctitle`.",
    },
    Row {
        name: "daemon",
        flags: &["-D", "--daemon", "--no-daemon"],
        platform_variable: None,
        value: "",
        kind: Kind::Switch,
        default: Some("false"),
        group: WORKERS,
        summary: "Run in the background",
        details: "The command returns when the server is ready to serve, with exit code 0; if the \
            start fails, with its exit code, after the same messages as without this. The server \
            then has no terminal, and nothing on its standard streams: name a file with \
            `--error-logfile`. Nothing restarts a server that has died; systemd, or a container \
            without this setting, does.",
        gunicorn: "In gunicorn, the command returns 0 before anything has been loaded, and mistakes \
            appear nowhere.",
    },
    Row {
        name: "max_surge",
        flags: &["--max-surge"],
        platform_variable: None,
        value: "N",
        kind: Kind::Count { least: 1, most: 500 },
        default: Some("1"),
        group: WORKERS,
        summary: "Workers that a reload may start beyond the number asked for",
        details: "A reload starts a new worker before it retires an old one. This is how many there \
            may be at one time above `workers`: more make the reload faster, and take the memory \
            of so many workers more.",
        gunicorn: "gunicorn does not have it: a reload starts all new workers at once.",
    },
    Row {
        name: "max_requests",
        flags: &["--max-requests"],
        platform_variable: None,
        value: "N",
        kind: Kind::Count { least: 0, most: 1_000_000_000 },
        default: Some("0"),
        group: RECYCLING,
        summary: "Replace a worker after this many requests; 0 is never",
        details: "A worker that has begun this many requests finishes them and is replaced, which \
            bounds what a leak of memory can do. The new worker serves before the old one stops, \
            and only one worker is replaced at a time. 0 means never.",
        gunicorn: "In gunicorn, a worker stops before its successor has started.",
    },
    Row {
        name: "max_requests_jitter",
        flags: &["--max-requests-jitter"],
        platform_variable: None,
        value: "N",
        kind: Kind::Count { least: 0, most: 1_000_000_000 },
        default: Some("0"),
        group: RECYCLING,
        summary: "Add up to this many requests, at random, for each worker",
        details: "Each worker adds a random number from 0 to this one to `max_requests`, so that they \
            do not all reach it at the same time.",
        gunicorn: "",
    },
    Row {
        name: "max_worker_age",
        flags: &["--max-worker-age"],
        platform_variable: None,
        value: "TIME",
        kind: FROM_ZERO,
        default: Some("0"),
        group: RECYCLING,
        summary: "Replace a worker that is this old; 0 is never",
        details: "A worker that has served for this long finishes its requests and is replaced, as \
            with `max_requests`. 0 means never.",
        gunicorn: "gunicorn does not have it.",
    },
    Row {
        name: "max_rss",
        flags: &["--max-rss"],
        platform_variable: None,
        value: "SIZE",
        kind: Kind::Size,
        default: Some("0"),
        group: RECYCLING,
        summary: "Replace a worker that holds this much memory; 0 is never",
        details: "A worker whose resident memory exceeds this finishes its requests and is replaced, \
            as with `max_requests`. Memory that workers share after `--preload` counts in each \
            of them. A size is a number of bytes, or has a unit: `512k`, `300M`, `1G` (powers of \
            1024). 0 means never.",
        gunicorn: "gunicorn does not have it.",
    },
    Row {
        name: "user",
        flags: &["-u", "--user"],
        platform_variable: None,
        value: "USER",
        kind: Kind::Account,
        default: None,
        group: PRIVILEGES,
        summary: "Run the application as this user",
        details: "The master stays what it was started as, root as a rule, so that it can bind ports \
            and open log files. Each mold becomes this user before it loads the application, \
            also with `--preload`, and so do its workers; there is no way back. New log files \
            and unix sockets become the user's. The config file is evaluated before that, with \
            the privileges of the master. A user that is not the present one needs root.",
        gunicorn: "In gunicorn, `--preload` imports the application as root, and a config file may run \
            hooks as root.",
    },
    Row {
        name: "group",
        flags: &["-g", "--group"],
        platform_variable: None,
        value: "GROUP",
        kind: Kind::Account,
        default: None,
        group: PRIVILEGES,
        summary: "Run the application as this group",
        details: "As `user`, for the group. When it is not set and `user` is, it is that user's own \
            group.",
        gunicorn: "In gunicorn, workers of a `user` without a `group` keep the group of root.",
    },
    Row {
        name: "initgroups",
        flags: &["--initgroups", "--no-initgroups"],
        platform_variable: None,
        value: "",
        kind: Kind::Switch,
        default: Some("false"),
        group: PRIVILEGES,
        summary: "Also be in all groups that the user is a member of",
        details: "With this, the application has the supplementary groups that the system knows for \
            `user`; without it, `group` is the only one.",
        gunicorn: "In gunicorn, workers without it keep the supplementary groups of root.",
    },
    Row {
        name: "umask",
        flags: &["-m", "--umask"],
        platform_variable: None,
        value: "MODE",
        kind: Kind::Mode,
        default: None,
        group: PRIVILEGES,
        summary: "Permissions that new files do not get, in octal",
        details: "The file mode creation mask of the application and of log files. When it is not set, \
            it is the one that the server was started with. A unix socket has \
            `unix_socket_mode`, whatever this says. Text is read as octal; in a Python file, \
            `0o027` works too.",
        gunicorn: "In gunicorn the default is 0, and it concerns unix sockets only.",
    },
];
