"""What the machine refuses, or someone does to the server, costs what it must and no more."""

import contextlib
import os
import re
import resource
import select
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import PATIENCE, Log, descriptors, is_in_state, read_all, read_stat, wait_until
from servers import GATED, WHO

ERROR = r" error: "


# ---- who was killed, and what is known of it


def asleep(pid):
    """Waits until the process waits for something to happen."""
    wait_until(lambda: is_in_state(pid, "S"), "the process to sleep")


@pytest.mark.parametrize("path", ["/wait", None])
def test_the_line_about_a_kill_says_what_is_known_of_the_worker(serve, path):
    server = serve(GATED).gate()
    (worker,) = server.worker_pids()
    for _ in range(3):
        assert server.served_by() == worker
    # A client has its answer before the worker is done with the request; not so the next client.
    assert server.raw(b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    running = "request=none"
    with server.connect() as client:
        if path:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            server.out.wait("began")
            running = rf'request="GET {path}" for=\d+(\.\d)?s'
        os.kill(worker, signal.SIGKILL)
        server.log.wait(
            rf"error: worker=1 pid={worker} gen=1 died.*: signal 9 \(SIGKILL\), not sent by the "
            rf"master.*; age=\d+(\.\d)?s peak_rss=[1-9]\d*MiB requests=3 {running}$"
        )


def cgroup_file(controller, name, unified):
    """A file of this process's cgroup, by its name in version 1 or else in 2; or None."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        names = {"": f"{path}/{unified}"}
        for one in controllers.split(","):
            # cpu and cpuacct are usually mounted as one, to which a link leads.
            names[one] = f"{one}{path}/{name}"
        file = Path("/sys/fs/cgroup", names.get(controller if controllers else "", "?").lstrip("/"))
        if file.is_file():
            return file
    return None


def oom_counter():
    """The file that the kernel counts this process's cgroup's out-of-memory kills in, or None."""
    counter = cgroup_file("memory", "memory.oom_control", "memory.events")
    return counter if counter and "oom_kill " in counter.read_text() else None


#: Files of its own over those of the system, for a command: root's, or in a namespace of users.
COVER = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]


def may_cover_files():
    command = [*COVER, "mount", "--bind", "/dev/null", "/proc/self/limits"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def limits(cores, mebibytes):
    """The files that a container platform limits a cgroup by, and their content; None: none."""
    files = {
        cgroup_file("cpu", "cpu.cfs_quota_us", "cpu.max"): f"{cores}00000 100000\n",
        cgroup_file("memory", "memory.limit_in_bytes", "memory.max"): f"{mebibytes << 20}\n",
    }
    return None if None in files else files


@pytest.mark.skipif(not limits(1, 1), reason="no cgroup limits processors and memory here")
@pytest.mark.skipif(not may_cover_files(), reason="unshare --mount is not permitted")
@pytest.mark.parametrize(
    ("cores", "mebibytes", "expected"),
    [
        (1, 256, r"workers=3: 2 x 1 core.* \+ 1 \(cgroup quota 1\.0 CPU"),
        (2, 128, r"workers=2: .*one for every 64 MiB of the cgroup's 128 MiB"),
    ],
)
def test_the_number_of_workers_is_that_of_the_cgroup(serve, cores, mebibytes, expected):
    """What a platform limits is covered by files of the test."""
    server = serve(WHO, start=False, workers=None)
    covered = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit; shift 2; done; shift'
    command = [*COVER, "sh", "-c", f'{covered}; exec "$@"', "sh"]
    for number, (file, text) in enumerate(limits(cores, mebibytes).items()):
        command += [str(server.write(f"limit-{number}", text)), str(file)]
    server.arguments = [*command, "--", *server.arguments]
    server.launch().log.wait(expected)


@pytest.mark.skipif(not oom_counter(), reason="no cgroup counts out-of-memory kills here")
@pytest.mark.skipif(not may_cover_files(), reason="unshare --mount is not permitted")
def test_memory_is_blamed_only_if_the_kernel_counted_a_kill(serve):
    """The counter that the server sees is a file of the test; the kills are real."""
    server = serve(WHO, start=False)
    counter = server.write("counter", "oom_kill 4\n")
    covered = 'mount --bind counter "$0" && exec "$@"'
    cover = [*COVER, "sh", "-c", covered, str(oom_counter())]
    server.arguments = [*cover, *server.arguments]
    server.start()
    others = r"nor by the kernel for want of memory \(the cgroup's oom_kill counter did not rise\)"
    kernel = r"sent by the kernel: memory ran out \(the cgroup's oom_kill counter rose\)"
    for number, (count, expected) in enumerate([(4, others), (5, kernel), (5, others)], 1):
        counter.write_text(f"oom_kill {count}\n")
        (worker,) = server.worker_pids()
        os.kill(worker, signal.SIGKILL)
        server.log.wait(rf"pid={worker} .*signal 9 \(SIGKILL\).*{expected}")
        server.log.wait(r"ready in=", count=1 + number)


def test_a_server_that_was_suspended_kills_nobody(serve):
    """As a laptop's lid does it: for longer than the timeout and what comes on top of it."""
    server = serve(GATED, "--timeout", "0.5").gate()
    (worker,) = server.worker_pids()
    with server.connect() as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        server.out.wait("began")
        for pid in (server.pid, worker):
            os.kill(pid, signal.SIGSTOP)
            wait_until(lambda pid=pid: is_in_state(pid, "T"), "the process to stop")
        # Half a second, five of grace, and one that makes it a suspension.
        time.sleep(7)
        server.signal(signal.SIGCONT)
        server.log.wait(r"the master was stopped or suspended: for \S+ nobody is found too slow")
        os.kill(worker, signal.SIGCONT)
        # The worker's own clock has gone on.
        assert client.recv(65536).startswith(b"HTTP/1.1 504 ")
    assert server.served_by() == worker
    assert server.log.count(r"stuck|killed|died") == 0


def test_a_server_that_was_suspended_in_the_middle_of_its_work_kills_nobody(serve):
    """Opening a log that is a FIFO lasts until somebody reads it."""
    options = ["--timeout", "0.5", "--error-logfile", "log"]
    server = serve(GATED, *options, start=False).gate().launch()
    path, old = server.cwd / "log", server.cwd / "old"
    worker = serves(server)
    # The master opens its log once more before that.
    wait_until(lambda: "serves main:app" in path.read_text(), "the start to be over")
    path.rename(old)
    os.mkfifo(path)
    with server.connect() as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        server.out.wait("began")
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: is_in_state(worker, "T"), "the process to stop")
        server.signal(signal.SIGUSR1)
        wait_until(lambda: "reopening logs" in old.read_text(), "the master to reopen its log")
        time.sleep(7)
        # Its thread reads until the server has gone.
        log = Log(path.open(errors="replace"))
        log.wait(r"the master was stopped or suspended: for \S+ nobody is found too slow")
        os.kill(worker, signal.SIGCONT)
        assert client.recv(65536).startswith(b"HTTP/1.1 504 ")
    assert server.served_by() == worker
    assert log.count(r"stuck|killed|died") == 0


# ---- systemd


@pytest.fixture
def notified(tmp_path):
    """What systemd has: a socket, and its path."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(PATIENCE)
        yield systemd, {"NOTIFY_SOCKET": str(path)}


def heard(systemd):
    message = systemd.recv(4096).decode()
    return dict(line.split("=", 1) for line in message.splitlines())


def test_systemd_hears_of_start_reload_and_stop(serve, notified):
    systemd, environment = notified
    server = serve(WHO, env=environment, workers=2)
    assert heard(systemd)["READY"] == "1"
    before = time.monotonic_ns() // 1000
    server.signal(signal.SIGHUP)
    reloading = heard(systemd)
    assert reloading["RELOADING"] == "1"
    # Milliseconds are what the master counts in.
    assert before - 1000 <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    ready = heard(systemd)
    assert ready["READY"] == "1" and "gen=2" in ready["STATUS"]
    server.signal(signal.SIGTERM)
    assert heard(systemd)["STOPPING"] == "1"
    assert server.wait() == 0


def test_systemd_hears_that_a_reload_has_ended_even_if_badly(serve, notified):
    systemd, environment = notified
    server = serve(WHO, env=environment)
    assert heard(systemd)["READY"] == "1"
    server.write("main.py", "def (")
    server.signal(signal.SIGHUP)
    assert heard(systemd)["RELOADING"] == "1"
    ready = heard(systemd)
    assert ready["READY"] == "1" and "gen=1" in ready["STATUS"]


def test_the_start_that_fails_is_never_ready(serve, notified):
    systemd, environment = notified
    server = serve("def (", env=environment, start=False).launch()
    assert server.wait() == 3
    assert select.select([systemd], [], [], 0)[0] == []


def test_systemd_s_watchdog_is_fed_as_long_as_the_master_lives(serve, notified):
    systemd, environment = notified
    server = serve(WHO, env={**environment, "WATCHDOG_USEC": "400000"})
    # A start that takes long is not a master that hangs.
    while "READY" not in heard(systemd):
        pass
    for _ in range(4):
        assert heard(systemd) == {"WATCHDOG": "1"}
    server.signal(signal.SIGSTOP)
    wait_until(lambda: is_in_state(server.pid, "T"), "the master to stop")
    while select.select([systemd], [], [], 0)[0]:
        heard(systemd)
    assert select.select([systemd], [], [], 1)[0] == [], "nobody feeds it in the master's name"
    server.signal(signal.SIGCONT)
    assert heard(systemd) == {"WATCHDOG": "1"}


def test_nobody_to_notify_is_one_line(serve, tmp_path):
    server = serve(WHO, env={"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    server.signal(signal.SIGHUP)
    server.log.wait(r"gen=2 serves")
    assert server.served_by()
    assert server.stop() == 0
    assert server.log.count("cannot notify systemd") == 1


# ---- descriptors


def test_a_worker_without_descriptors_recovers(serve):
    server = serve(WHO)
    (worker,) = server.worker_pids()
    assert server.served_by() == worker
    before = descriptors(worker)
    limit = 1 + max(before)
    _, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (limit + 5, hard))
    short = r"warning: cannot accept connections: .*raise the limit"
    with ExitStack() as stack:
        for _ in range(30):
            client = stack.enter_context(server.connect())
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Half: ")
        server.log.wait(short)
    assert server.served_by() == worker
    wait_until(lambda: 0 < len(descriptors(worker)) <= len(before), "the connections to be closed")
    assert server.log.count(ERROR) == 0
    again = r"info: connections are accepted again"

    def said():
        server.served_by()
        return server.log.count(again)

    wait_until(said, "the end of it to be logged")
    # Once per episode. On a busy machine there may be two: the worker, or the clients' end, is
    # held up for longer than the second after which one is over.
    told = [line for line in server.log.lines if re.search(f"{short}|{again}", line)]
    assert all(re.search(again if number % 2 else short, line) for number, line in enumerate(told))


# ---- logs


def test_an_access_log_on_a_full_disk_costs_no_request(serve):
    server = serve(WHO, "--access-logfile", "/dev/full")
    (worker,) = server.worker_pids()
    assert server.served_by() == worker
    server.log.wait(r"error: access log: cannot write: No space left on device")
    for _ in range(5):
        assert server.served_by() == worker
    assert server.stop() == 0
    assert server.log.count(ERROR) == 1


def test_a_limit_of_files_sizes_costs_no_request(serve):
    """As a full disk, that takes a part of a line before it takes none; and not by SIGXFSZ."""
    server = serve(WHO, "--access-logfile", "access.log", start=False)
    # Enough for the files in memory by which a mold is told its settings.
    server.arguments = ["prlimit", "--fsize=65536", *server.arguments]
    server.start(workers=1)
    long = "/?" + "x" * 4000
    workers = {int(server.get(long)[2]) for _ in range(20)}
    assert workers == set(server.worker_pids())
    server.log.wait(r"error: access log: cannot write: File too large")
    log = server.cwd / "access.log"
    assert log.stat().st_size == 65536
    log.write_text("")
    server.served_by()
    server.log.wait(r"info: access log: it can be written again")
    # The line that was broken ends; and those of the last long requests may have come after all.
    whole = r'\n(127\.0\.0\.1 .*"GET /\?x+ .*\n)*127\.0\.0\.1 .*"GET / HTTP/1.1" 200 .*\n'
    wait_until(lambda: re.fullmatch(whole, log.read_text()), "the log to go on")
    assert server.stop() == 0
    assert server.log.count(ERROR) == 1


def serves(server):
    """Without a log, a start is seen from outside."""

    def answers():
        with contextlib.suppress(OSError):
            return server.get()[0] == 200

    wait_until(answers, "the server to answer")
    return int(server.get()[2])


def check_life(server):
    """Serves, replaces a worker, reloads and stops; without a word."""
    worker = serves(server)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: worker not in server.session(), "the worker to die")
    worker = serves(server)
    server.signal(signal.SIGHUP)
    wait_until(lambda: serves(server) != worker, "the reload")
    assert server.stop() == 0


def test_an_error_log_on_a_full_disk_does_not_end_the_server(serve):
    check_life(serve(WHO, "--error-logfile", "/dev/full", start=False).launch())


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_at_the_start(serve, closed):
    server = serve(GATED, "--access-logfile", "-", start=False)
    server.arguments = ["sh", "-c", f'exec "$@" {closed}', "sh", *server.arguments]
    check_life(server.launch())


def test_a_reader_of_the_log_that_goes_away_does_not_end_the_server(serve):
    """`serve 2>&1 | head`: a write gets EPIPE, and must not get SIGPIPE."""
    server = serve(WHO, "--access-logfile", "-", start=False)
    server.arguments = ["sh", "-c", '"$@" 2>&1 | head -n 1', "sh", *server.arguments]
    server.launch()
    worker = serves(server)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: worker not in server.session(), "the worker to die")
    serves(server)


# ---- bodies

LENGTH = """
    def app(environ, start_response):
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(len(body)).encode()]
"""


def test_a_body_that_cannot_be_spooled_is_answered_500(serve):
    server = serve(LENGTH, env={"TMPDIR": "/nowhere"})
    whole = [b"x" * 1000] * 1000
    assert server.get("/", "POST", b"".join(whole))[::2] == (200, b"1000000"), "it needs no file"
    # Without a length nobody knows how much memory it will take.
    status, headers, _ = server.get("/", "POST", iter(whole))
    assert (status, headers["Connection"]) == (500, "close")
    server.log.wait(r"error: cannot keep a request body in /nowhere: No such file")
    assert server.get("/", "POST", b"x" * 1000)[::2] == (200, b"1000")
    assert server.stop() == 0
    assert server.log.count(ERROR) == 1


def test_bodies_that_are_not_large_need_no_files(serve):
    """However many there are."""
    server = serve(LENGTH, env={"TMPDIR": "/nowhere"})
    # More than any body pool has.
    each, count = 500_000, 300
    head = f"POST / HTTP/1.0\r\nContent-Length: {each}\r\n\r\n".encode()
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(count)]
        for client in clients:
            client.sendall(head + b"x" * (each - 1))
        server.log.wait("warning: cannot keep request bodies in /nowhere.*stay in memory")
        for client in clients:
            client.sendall(b"x")
            assert read_all(client).endswith(b"\r\n\r\n500000")
    assert server.stop() == 0
    assert server.log.count(" (warning|error): ") == 1


# ---- process 1

#: Leaves a process behind, whose parent ends at once: /orphan says which. /alive?pid looks for it.
PARENT = """
    import os, subprocess

    def app(environ, start_response):
        body = b""
        if environ["PATH_INFO"] == "/orphan":
            script = "(read line < gate) > /dev/null & echo $!"
            body = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE).stdout.strip()
        elif environ["PATH_INFO"] == "/parent":
            with open("/proc/" + environ["QUERY_STRING"] + "/stat") as file:
                body = file.read().split()[3].encode()
        elif environ["PATH_INFO"] == "/alive":
            body = str(os.path.exists("/proc/" + environ["QUERY_STRING"])).encode()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body]
"""

UNSHARE = [*COVER, "--pid", "--fork", "--mount-proc"]


def may_unshare():
    try:
        return subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not may_unshare(), reason="unshare --pid --fork --mount-proc is not permitted")
def test_as_process_1_it_reaps_orphans_and_hears_term(serve):
    server = serve(PARENT, start=False).gate()
    server.arguments = [*UNSHARE, *server.arguments]
    server.launch().log.wait(r"master\[1\] info: worker=1 pid=\d+ gen=1 ready")
    orphan = server.get("/orphan")[2].decode()
    parent = server.get(f"/parent?{orphan}")[2]
    assert parent == b"1", "it is the server's now"
    server.open_gate()
    wait_until(lambda: server.get(f"/alive?{orphan}")[2] == b"False", "the orphan to be reaped")
    (master,) = [pid for pid in server.session() if read_stat(pid)["ppid"] == server.pid]
    os.kill(master, signal.SIGTERM)
    assert server.wait() == 0
    server.log.wait(r"SIGTERM.*stopping")
    server.still_alone()
    assert server.log.count(ERROR) == 0
