"""Runs the real server as a real process, for tests.

The harness binds the socket itself and passes it down as a descriptor, so that parallel tests
never race for a port. Tests wait for log lines, bytes and exits, never for time to pass.
"""

import contextlib
import enum
import http.client
import os
import pwd
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path
from signal import SIGTERM

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Nobody but root may have a server become somebody else.
ME = pwd.getpwuid(os.geteuid()).pw_name
BINARY = os.environ.get("SERVE_BIN", str(ROOT / "target" / "debug" / "serve"))


def is_script(path):
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"#!"
    except FileNotFoundError:
        return False


#: For what only the binary does. Installed by pip, `serve` is a script of the Python it runs in.
embedded = pytest.mark.skipif(
    is_script(BINARY), reason="the interpreter is not the server's choice"
)

#: Long enough for a loaded machine; no test waits this long unless it fails.
PATIENCE = 30


#: What each class of workers is started with, for tests of what all of them promise.
CLASSES = {
    "sync": (),
    "threads": ("-k", "threads", "--threads", "4"),
    "async": ("-k", "async"),
}


class Log:
    """The lines a process writes, as they come."""

    def __init__(self, stream):
        self.lines = []
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream):
        for line in stream:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait(self, pattern, *, count=1, since=0, timeout=PATIENCE):
        """Waits until `count` lines after line number `since` match; returns the last match."""
        expression = re.compile(pattern)
        found, searched = [], since
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                # Each line once: a busy server writes thousands while somebody waits.
                new = self.lines[searched:]
                searched += len(new)
                found += filter(None, map(expression.search, new))
                if len(found) >= count:
                    return found[count - 1]
                left = deadline - time.monotonic()
                if left <= 0 or self._ended:
                    state = "ended" if self._ended else f"{timeout} s passed"
                    raise AssertionError(
                        f"{state} without {count} x {pattern!r} in:\n{self.text()}"
                    )
                self._changed.wait(left)

    def count(self, pattern):
        return sum(bool(re.search(pattern, line)) for line in self.lines)

    def text(self):
        return "\n".join(self.lines)

    def drain(self):
        """Waits for the end of the stream."""
        self._thread.join(PATIENCE)


class Server:
    """A server process.

    `app` is the source of a module `main` (dedented and written to the working directory), or None
    when `cwd` already holds it. `options` are further command-line arguments.
    """

    def __init__(
        self, app=None, *options, cwd=None, spec="main:app", workers=1, bind=True, env=None
    ):
        self._temporary = None if cwd else tempfile.TemporaryDirectory(prefix="serve-test-")
        self.cwd = Path(cwd or self._temporary.name)
        if app is not None:
            self.write("main.py", app)
        self.listener = None
        arguments = [BINARY]
        if bind:
            self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
            arguments += ["--bind", f"fd://{self.listener.fileno()}"]
        if workers is not None:
            arguments += ["--workers", str(workers)]
        arguments += [str(option) for option in options]
        if spec:
            arguments.append(spec)
        self.arguments = arguments
        self.process = None
        self.log = None
        # Unbuffered, a print has several writes, and those of two workers mix.
        python = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": ""}
        self._env = {**os.environ, **python, **(env or {})}

    def write(self, name, source):
        """Writes a file into the working directory, whole at once."""
        path = self.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".new")
        temporary.write_text(textwrap.dedent(source))
        temporary.replace(path)
        return path

    # ---- life

    def launch(self):
        """Starts the process, and returns at once."""
        self.process = subprocess.Popen(
            self.arguments,
            cwd=self.cwd,
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            pass_fds=[self.listener.fileno()] if self.listener else [],
            start_new_session=True,
        )
        self.log = Log(self.process.stderr)
        self.out = Log(self.process.stdout)
        return self

    def start(self, workers=None):
        """Starts it and waits until all workers are ready."""
        self.launch()
        self.log.wait(r"worker=\d+ .* ready in=", count=workers or self.workers)
        return self

    @property
    def workers(self):
        return int(self.arguments[self.arguments.index("--workers") + 1])

    def __enter__(self):
        return self.start()

    def __exit__(self, *exception):
        self.close()

    def close(self):
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            for pid in self.session():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.log.drain()
            self.out.drain()
            self.process.stdout.close()
            self.process.stderr.close()
        if self.listener is not None:
            self.listener.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=PATIENCE):
        """Waits for the end; returns the exit code."""
        code = self.process.wait(timeout)
        self.log.drain()
        self.out.drain()
        return code

    def stop(self, number=SIGTERM):
        """Signals the master, waits, and checks that nobody is left."""
        self.signal(number)
        code = self.wait()
        wait_until(lambda: not self.session(), "every process of the server to end")
        return code

    # ---- processes

    @property
    def pid(self):
        return self.process.pid

    def session(self):
        """Pids of all living processes this server consists of (it leads a session of its own)."""
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        return [pid for pid in pids if self.is_part(pid)]

    def is_part(self, pid):
        """Whether a process is alive, and one of the server's."""
        # Asked of every process of the machine, over and over: only ours are looked at closely.
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == self.process.pid:
                stat = read_stat(pid)
                return stat is not None and stat["state"] != "Z"
        return False

    def worker_pids(self):
        """Pids of the workers alive, by the log and by the system."""
        named = re.findall(r"worker=\d+ pid=(\d+) .*ready in=", self.log.text())
        return [pid for pid in map(int, named) if self.is_part(pid)]

    # ---- requests

    @property
    def address(self):
        return self.listener.getsockname()

    def connect(self, timeout=PATIENCE):
        connection = socket.create_connection(self.address, timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def http(self, timeout=PATIENCE):
        """A kept-alive client connection (http.client)."""
        return http.client.HTTPConnection(*self.address, timeout=timeout)

    def get(self, path="/", method="GET", body=None, headers=None):
        """One request on a connection of its own: (status, headers, body)."""
        connection = self.http()
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def raw(self, data, *, shut=False):
        """Sends bytes as they are; returns everything until the server closes."""
        with self.connect() as connection:
            connection.sendall(data)
            if shut:
                connection.shutdown(socket.SHUT_WR)
            return read_all(connection)


def read_all(connection):
    received = bytearray()
    while piece := connection.recv(65536):
        received += piece
    return bytes(received)


#: What a look at a process meets when it ends, or a descriptor of it is closed, in that moment.
#: The descriptors of a zombie are root's, so that others may not even list them.
GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


class Segments(enum.IntEnum):
    """What the kernel counts of a connection, by its place in TCP_INFO (tcp(7))."""

    #: Sent, and not acknowledged yet.
    UNACKED = 24
    CAME = 140
    CAME_WITH_DATA = 152


def segments(connection, which):
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 200)
    return struct.unpack_from("I", info, which)[0]


def read_proc(pid, name):
    """The text of a file in the process's directory of /proc; None if it has ended."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except GONE:
        return None


def read_stat(pid):
    """State, parent and session of a process; None if it has ended."""
    text = read_proc(pid, "stat")
    if text is None:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return {"state": fields[0], "ppid": int(fields[1]), "session": int(fields[3])}


def is_in_state(pid, state):
    """Whether a process is there and in a state: S sleeps, T was stopped, Z has ended."""
    return (read_stat(pid) or {}).get("state") == state


def descriptors(pid):
    """{number: what it is} of the descriptors of a process; none if it has ended."""
    found = {}
    with contextlib.suppress(*GONE):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(*GONE):
                found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def wait_until(condition, what, timeout=PATIENCE):
    """For states of the system that nothing announces."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(0.005)


def run(*options, cwd, env=None, timeout=PATIENCE):
    """Runs the command to its end: (exit code, stdout, stderr)."""
    done = subprocess.run(
        [BINARY, *map(str, options)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        start_new_session=True,
    )
    return done.returncode, done.stdout, done.stderr


if sys.platform != "linux":
    raise RuntimeError("the tests need Linux")
