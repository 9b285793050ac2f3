"""The command `serve`, also as `python -m serve`."""

import os
import sys

from serve import _serve


def main() -> int:
    """Does what the command line says; returns the exit code.

    A master, and every mold and worker that it forks, comes back from here at its end.
    """
    # What `python script` puts there is the script's folder: no place for applications.
    if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(sys.argv[0])):
        del sys.path[0]
    return _serve.main(sys.argv)


if __name__ == "__main__":
    sys.exit(main())
