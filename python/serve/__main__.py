"""The command `serve`, also as `python -m serve`."""

import _signal
import os
import sys

from serve import _serve


def main() -> int:
    """Does what the command line says; returns the exit code.

    A master, and every mold and worker that it forks, comes back from here at its end.
    """
    # The server has its own handlers; this one would raise KeyboardInterrupt at the end.
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    open_streams()
    # What `python script` puts there is the script's folder: no place for applications.
    if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(sys.argv[0])):
        del sys.path[0]
    return _serve.main(sys.argv)


def open_streams() -> None:
    """A standard stream that is closed leads nowhere from now on: its number must not become
    that of a socket, nor an application find None where it writes to.
    """
    for number, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        if getattr(sys, name) is None:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            # Open for as long as the process is.
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    sys.exit(main())
