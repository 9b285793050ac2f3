"""How a request that takes too long is told so.

The relay, a thread that never touches Python, sends the main thread a signal. Its handler in C
writes the stacks of all threads, whoever holds the interpreter's lock; then Python calls the
handler below as soon as the main thread runs bytecode again.
"""

import _signal
import faulthandler

MESSAGE = "the request took too long; its client has been answered 504"


def raise_in_request(set_handler, signum, exception, is_due):
    """The handler in Python. `is_due` says whether the request that runs is the one meant.

    `set_handler` is signal.signal without its guard: the application must not take this signal.
    """

    def handler(signum, frame):
        if is_due():
            raise exception(MESSAGE)

    set_handler(signum, handler)


def write_stacks(signum, file):
    """The handler in C, which comes first and calls the one that was there.

    Chained, it is installed without SA_RESTART: a system call that blocks the request ends.
    """
    faulthandler.register(signum, file=file, all_threads=True, chain=True)


def wake_by(fd):
    """Each signal that has a handler in Python writes a byte there."""
    _signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
