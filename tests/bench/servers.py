"""Who is compared, and how each of them is started: one worker, no access log, else defaults."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APPS = Path(__file__).parent / "apps"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
BINARY = os.environ.get("SERVE_BIN", str(TARGET / "serve"))
FIXED = os.environ.get("SERVE_FIXED", str(TARGET / "examples" / "fixed"))

NO_PYTHON = "no-python"


@dataclass(frozen=True)
class Server:
    """A way to serve. Of `command`, {app} and {port} are filled in."""

    name: str
    command: str
    #: The distribution it comes from; None is ours.
    package: str | None = None
    #: Whether it is set up for a thousand requests at once.
    crowd: bool = False

    @property
    def is_ours(self):
        return self.package is None

    def arguments(self, app, port):
        names = {"app": app, "port": port, "python": sys.executable, "venv": sys.prefix}
        names |= {"serve": BINARY, "fixed": FIXED}
        return [part.format(**names) for part in self.command.split()]

    def does(self, workload):
        return workload.crowd == self.crowd and (workload.bare or self.name != NO_PYTHON)

    def missing(self):
        """Why it cannot be compared here, or None."""
        program = self.arguments("", 0)[0]
        if not shutil.which(program, path=SEARCH):
            return f"there is no {program}"
        if self.is_ours:
            return self._refused()
        try:
            metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return f"{self.package} is not installed"
        return None

    def version(self):
        return metadata.version(self.package) if self.package else None

    def _refused(self):
        """Whether our binary does not know the worker class."""
        if self.name == NO_PYTHON:
            return None
        command = [*self.arguments("bare:hello", 0), "--print-config"]
        run = subprocess.run(command, cwd=APPS, env=ENVIRONMENT, capture_output=True, text=True)
        return run.stderr.strip().splitlines()[0] if run.returncode else None


SEARCH = f"{sys.prefix}/bin:{os.environ['PATH']}"
ENVIRONMENT = {**os.environ, "VIRTUAL_ENV": sys.prefix, "PATH": SEARCH, "PYTHONPATH": str(APPS)}


def ours(name, options, **more):
    common = "--workers 1 --log-level warning --bind 127.0.0.1:{port}"
    return Server(name, f"{{serve}} {common} {options} {{app}}", **more)


def gunicorn(name, options, **more):
    common = "-m gunicorn --workers 1 --log-level warning --bind 127.0.0.1:{port}"
    return Server(name, f"{{python}} {common} {options} {{app}}", "gunicorn", **more)


def launched(name):
    return Server(name, f"{{python}} {APPS}/launch.py {name} {{app}} {{port}}", name)


SERVERS = [
    Server(NO_PYTHON, "{fixed} 127.0.0.1:{port}"),
    ours("serve-sync", "-k sync"),
    ours("serve-threads", "-k threads --threads 4"),
    ours("serve-async", "-k async"),
    launched("bjoern"),
    launched("fastwsgi"),
    Server(
        "granian",
        "{python} -m granian --interface wsgi --workers 1 --blocking-threads 1 --no-ws "
        "--log-level warning --port {port} {app}",
        "granian",
    ),
    Server(
        "uwsgi",
        "uwsgi --http11-socket 127.0.0.1:{port} --processes 1 --master --need-app --die-on-term "
        "--disable-logging --virtualenv {venv} --wsgi {app}",
        "uWSGI",
    ),
    Server(
        "waitress", "{python} -m waitress --listen=127.0.0.1:{port} --threads=4 {app}", "waitress"
    ),
    launched("cheroot"),
    gunicorn("gunicorn-sync", "-k sync"),
    gunicorn("gunicorn-gthread", "-k gthread --threads 4"),
    gunicorn("gunicorn-gevent", "-k gevent"),
    # For a thousand requests at once. gunicorn's limit counts connections.
    ours("serve-async-1000", "-k async --worker-connections 1000", crowd=True),
    ours("serve-threads-1000", "-k threads --threads 1000", crowd=True),
    gunicorn("gunicorn-gevent-1000", "-k gevent --worker-connections 2000", crowd=True),
    gunicorn(
        "gunicorn-gthread-1000",
        "-k gthread --threads 1000 --worker-connections 2000",
        crowd=True,
    ),
]
