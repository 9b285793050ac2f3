"""`make bench-footprint`: how soon our server is there, and what it keeps in memory.

Each line is a figure and what it is to be at most. The server is the release build, with one
worker unless said otherwise, and the application is the smallest there is.
"""

import contextlib
import http.client
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from statistics import median

from . import processes, wrk
from .measure import check, free_port, started
from .servers import APPS, BINARY, ENVIRONMENT, SERVERS
from .workloads import WORKLOADS

HELLO = replace(
    next(workload for workload in WORKLOADS if workload.name == "hello"), app="tiny:hello"
)
SYNC = next(server for server in SERVERS if server.name == "serve-sync")
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
IDLE = 10_000
ROUNDS = 5
MANY = 1_000_000  # requests
SECONDS = 5


def main():
    if not shutil.which("wrk"):
        sys.exit("make bench-footprint needs wrk, the load generator: apt install wrk")
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        sys.exit("make bench-footprint needs two cores: one for the server, one for wrk")
    allow_descriptors(2 * IDLE)
    report("exec to the first answer, 4 workers", "ms", boot(), 50)
    report("SIGKILL of the only worker to the next answer", "ms", respawn(), 15)
    report("memory of a worker beyond Python's and the application's", "MiB", own_memory(), 6)
    each, slower = idle_connections(cores)
    report(f"memory of an idle connection, {IDLE:,} of them", "KiB", each, 3)
    report(f"CPU of a request beside {IDLE:,} idle connections", "%", slower, 5)
    report(f"growth of the worker over {MANY:,} requests", "MiB", growth(cores), 1)


def allow_descriptors(count):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(count + 1000, hard), hard))


def report(what, unit, value, most):
    print(f"{what:58} {value:8.1f} {unit:4} (at most {most})", flush=True)


@contextlib.contextmanager
def running(options):
    """A server on a free port; ends with what is left of its session."""
    port = free_port()
    command = [BINARY, *options.split(), "--log-level=warning", f"--bind=127.0.0.1:{port}"]
    process = subprocess.Popen(
        [*command, HELLO.app], cwd=APPS, env=ENVIRONMENT, start_new_session=True
    )
    try:
        yield process, port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def first_answer(port):
    """Asks until there is an answer; when that was."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/")
            if connection.getresponse().read() == HELLO.answer:
                return time.monotonic()
        connection.close()
        time.sleep(0.0005)


def boot():
    def once():
        start = time.monotonic()
        with running("--workers=4") as (_, port):
            return (first_answer(port) - start) * 1000

    return median(once() for _ in range(ROUNDS))


def respawn():
    def once():
        with running("--workers=1") as (process, port):
            first_answer(port)
            # One that dies at once is left alone for a while, lest it does so for ever.
            time.sleep(SECONDS)
            os.kill(worker_of(process.pid), signal.SIGKILL)
            start = time.monotonic()
            return (first_answer(port) - start) * 1000

    return median(once() for _ in range(ROUNDS))


def worker_of(master):
    """The one process that has the listening socket and two threads."""
    threads = {pid: len(os.listdir(f"/proc/{pid}/task")) for pid in processes.session(master)}
    (worker,) = [pid for pid, count in threads.items() if count > 1]
    return worker


def own_memory():
    """In MiB: of the worker, less that of the same interpreter with the same application."""
    program = "import sys, tiny; sys.stdout.write('.'); sys.stdout.flush(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=APPS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as alone:
        alone.stdout.read(1)
        bare = processes.pss(alone.pid)
        alone.stdin.close()
    with running("--workers=1") as (process, port):
        first_answer(port)
        for _ in range(1000):
            check(HELLO, port)
        return pss_of(worker_of(process.pid)) - bare


def pss_of(pid):
    return kib(pid, "smaps_rollup", "Pss:") / 1024


def kib(pid, name, field):
    rows = [row.split() for row in processes.read(pid, name).splitlines()]
    return next(int(row[1]) for row in rows if row[0] == field)


def idle_connections(cores):
    """KiB for each, and by how many percent a request becomes dearer beside them.

    Two servers in turns, one of which has them: minutes apart, these machines differ by more.
    """
    with (
        started(SYNC, HELLO, cores[0]) as (process, port),
        started(SYNC, HELLO, cores[0]) as (other, others_port),
        contextlib.ExitStack() as stack,
    ):
        first_answer(others_port)
        first_answer(port)
        worker = worker_of(process.pid)
        cost(process.pid, port, cores[1])
        before = pss_of(worker)
        for _ in range(IDLE):
            connection = socket.create_connection(("127.0.0.1", port), 30)
            stack.enter_context(connection)
            connection.sendall(REQUEST)
            answer = b""
            while not answer.endswith(HELLO.answer):
                answer += connection.recv(4096)
        each = (pss_of(worker) - before) * 1024 / IDLE
        turns = [
            cost(process.pid, port, cores[1]) / cost(other.pid, others_port, cores[1])
            for _ in range(ROUNDS)
        ]
    return each, (median(turns) - 1) * 100


def cost(pid, port, core):
    """Seconds of CPU for a request."""
    before = processes.cpu(pid)
    load = wrk.run(HELLO, port, SECONDS, core)
    spent = processes.cpu(pid) - before
    return (spent.user + spent.system) / load.requests


def growth(cores):
    """MiB that the worker's resident memory grows by, once it is warm."""
    with started(SYNC, HELLO, cores[0]) as (process, port):
        first_answer(port)
        worker = worker_of(process.pid)
        load(port, MANY / 10, cores[1])
        before = resident(worker)
        load(port, MANY, cores[1])
        return resident(worker) - before


def load(port, requests, core):
    while requests > 0:
        requests -= wrk.run(HELLO, port, SECONDS, core).requests


def resident(pid):
    return kib(pid, "status", "VmRSS:") / 1024


if __name__ == "__main__":
    main()
