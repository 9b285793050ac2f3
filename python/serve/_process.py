"""What a mold and a worker arrange in their interpreter before the application is imported."""

import _signal  # `signal` and its enums are for those who use them: that import takes its time
import atexit
import faulthandler
import gc
import io
import os
import sys

#: How a worker's relay reaches the main thread; see _timeout.py.
TIMEOUT = _signal.SIGRTMAX - 2

#: The server's own; an application that took one over would no longer be stopped or reloaded.
RESERVED = {
    getattr(_signal, name): name
    for name in (
        "SIGTERM",
        "SIGINT",
        "SIGQUIT",
        "SIGHUP",
        "SIGUSR1",
        "SIGUSR2",
        "SIGTTIN",
        "SIGTTOU",
        "SIGWINCH",
        "SIGURG",  # The master retires a worker by it.
    )
} | {TIMEOUT: "SIGRTMAX-2"}

#: What `signal.signal` calls.
set_handler = _signal.signal


def guard_signals(warn):
    """Has signal.signal leave the server's signals alone.

    `warn` is called with a sentence, once per signal.
    """
    warned = set()

    def signal(signalnum, handler, /):
        if signalnum not in RESERVED:
            return set_handler(signalnum, handler)
        if signalnum not in warned:
            warned.add(signalnum)
            warn(
                f"the application's handler for {RESERVED[signalnum]} is ignored: the server needs "
                "that signal; use atexit to clean up at the end"
            )
        return _signal.getsignal(signalnum)

    signal.__doc__ = set_handler.__doc__
    _signal.signal = signal


def show_prints():
    """What the application prints is seen line by line, in a file or a pipe, too, and what several
    workers print stays apart, as far as each print is one line.
    """
    stdout = sys.stdout
    if isinstance(stdout, io.TextIOWrapper) and not stdout.write_through:
        stdout.reconfigure(line_buffering=True)


def free_children(is_ours):
    """A process that the application forks is not the server's: the server's signals do to it what
    they do to any other, and do not reach the server in its parent's name. `is_ours` tells whether
    a fork is one of a worker.
    """

    def after_fork():
        if is_ours():
            return
        _signal.signal = set_handler
        for number in RESERVED:
            set_handler(number, _signal.SIG_DFL)

    os.register_at_fork(after_in_child=after_fork)


def set_environment(variables):
    for variable in variables:
        name, _, value = variable.partition("=")
        os.environ[name] = value


def enable_faulthandler():
    """A crash in C code, or an aborted worker, shows its Python stacks on stderr."""
    faulthandler.enable()


def share_memory():
    """Collects, and keeps what is left out of later collections: they would write to pages that
    workers share.

    To be called before workers are forked off a loaded application. Returns the names of threads
    the application has started; they do not survive a fork.
    """
    gc.collect()
    gc.freeze()
    threading = sys.modules.get("threading")
    if threading is None:
        return []
    main = threading.main_thread()
    return [thread.name for thread in threading.enumerate() if thread is not main]


def end_beside_threads():
    """The end of a process whose threads cannot be waited for: they are in the application."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
