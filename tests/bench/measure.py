"""Runs one server on one core, under load from another core."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from . import processes, wrk
from .servers import ENVIRONMENT

START = 30  # seconds until a server has to answer
WARM_UP = 1  # seconds
#: Seconds that a crowd is measured for at least: nothing is answered at first, since all wait, and
#: what is under way at the end does not count. Of two seconds this would be a twentieth.
CROWD = 8


@dataclass(frozen=True)
class Sample:
    """One round. Microseconds of CPU for each request, milliseconds of latency, MiB of memory."""

    rate: float
    user: float
    system: float
    p50: float
    p99: float
    pss: float
    errors: int

    @property
    def cpu(self):
        return self.user + self.system


class Failed(Exception):
    """A server does not do what the workload asks for."""


def cores(command):
    """One for the server, one for wrk."""
    found = sorted(os.sched_getaffinity(0))[:2]
    if len(found) < 2:
        sys.exit(f"{command} needs two cores: one for the server, one for wrk")
    return found


@contextlib.contextmanager
def started(server, workload, core):
    """The server in a session of its own; yields its process and its port."""
    port = free_port()
    with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as stdin:
        stdin.write(workload.answer)
        stdin.seek(0)
        process = subprocess.Popen(
            ["taskset", "--cpu-list", str(core), *server.arguments(workload.app, port)],
            cwd=workload.folder,
            env=ENVIRONMENT,
            stdin=stdin,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            await_listening(process, port)
            yield process, port
        except Failed as failed:
            log.seek(0)
            end = log.read().decode(errors="replace").strip().splitlines()[-3:]
            raise Failed("; ".join([f"{server.name}: {failed}", *end])) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def await_listening(process, port):
    deadline = time.monotonic() + START
    while True:
        if process.poll() is not None:
            raise Failed(f"ended with exit code {process.returncode}")
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        if time.monotonic() > deadline:
            raise Failed(f"does not listen after {START} s")
        time.sleep(0.02)


def check(workload, port):
    """Fast is not enough: every path has to be answered with the right bytes, and twice."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START)
    for path in 2 * sorted(set(workload.paths)):
        try:
            connection.request(workload.method, path, workload.body or None, workload.headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"{path} fails: {error!r}") from error
        if response.status != 200 or body != workload.answer:
            raise Failed(f"{path} gets {response.status} and {len(body)} bytes, which is wrong")
    connection.close()


@contextlib.contextmanager
def beside(workload, port, core):
    """Two clients that ask for what is served beside, meanwhile."""
    if not workload.beside:
        yield
        return
    url = f"http://127.0.0.1:{port}{workload.beside}"
    options = ["--threads", "1", "--connections", "2", "--duration", "1h", "--timeout", wrk.TIMEOUT]
    process = subprocess.Popen(
        ["taskset", "--cpu-list", str(core), "wrk", *options, url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError("wrk has not gone on with what is asked for beside")
    finally:
        process.kill()
        process.wait()


def measure(server, workload, seconds, cores):
    """One round; `cores` are those of the server and of wrk."""
    if workload.crowd:
        seconds = max(seconds, CROWD)
    with started(server, workload, cores[0]) as (process, port):
        check(workload, port)
        with beside(workload, port, cores[1]):
            wrk.run(workload, port, WARM_UP, cores[1])
            # What that left behind is over when its turn has come.
            check(workload, port)
            before = processes.cpu(process.pid)
            load = wrk.run(workload, port, seconds, cores[1])
            spent = processes.cpu(process.pid) - before
        if not load.requests:
            raise Failed("answers nothing under load")
        return Sample(
            rate=load.requests / load.seconds,
            user=spent.user / load.requests * 1e6,
            system=spent.system / load.requests * 1e6,
            p50=load.p50,
            p99=load.p99,
            pss=processes.pss(process.pid),
            errors=load.errors,
        )
