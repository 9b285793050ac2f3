"""A reload brings what is new, loses nothing, and does no harm when what is new is broken."""

import http.client
import os
import signal
import socket
import time

import pytest
from harness import wait_until
from load import Load
from servers import GATED


def app(answer):
    """The source of an application that answers this."""
    return f"""
        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"{answer}"]
    """


def reload(server, generation):
    """Reloads, and waits until this generation is the only one."""
    server.signal(signal.SIGHUP)
    alone(server, generation)


def alone(server, generation):
    """Waits until a generation serves and the one before has left.

    Until then a retiring worker may still answer what was queued.
    """
    old = server.log.wait(rf"gen={generation} serves with workers=\d+; gen=(\d+) leaves")[1]
    wait_until(lambda: not server.workers_of(old), "the old workers to leave")


PRELOAD = pytest.mark.parametrize("options", [[], ["--preload"]], ids=["", "preload"])

# ---- new code


@PRELOAD
def test_a_reload_brings_new_code(serve, options):
    server = serve(app("old"), *options, workers=2)
    before = set(server.worker_pids())
    assert server.get()[2] == b"old"
    server.write("main.py", app("new, and longer"))
    reload(server, 2)
    assert [server.get()[2] for _ in range(4)] == [b"new, and longer"] * 4
    wait_until(lambda: not before & set(server.session()), "the old workers to leave")
    assert len(server.worker_pids()) == 2
    wait_until(lambda: len(server.mold_pids()) == 1, "the old mold to leave")
    assert server.log.count(r" (warning|error): ") == 0
    assert server.stop() == 0


@PRELOAD
def test_reload_loses_no_request(serve, options):
    server = serve(app("0"), *options, workers=2)
    with Load(server) as load:
        for version in (1, 2, 3):
            server.write("main.py", app(str(version)))
            reload(server, version + 1)
            reloaded = time.monotonic()
            load.wait_for_answers(50)
    assert (load.failures, load.retried) == ([], 0)
    assert set(load.answers) == {b"0", b"1", b"2", b"3"}
    assert set(load.answers_since(reloaded)) == {b"3"}
    assert server.log.count(r" (warning|error): ") == 0
    load.report("three reloads")


def test_a_stop_after_a_reload_under_load_leaves_nobody(serve):
    server = serve(app("0"), workers=2)
    with Load(server) as load:
        server.signal(signal.SIGHUP)
        load.wait_for_answers(20)
    assert server.stop() == 0


def test_a_request_in_flight_survives_a_reload(serve):
    server = serve(GATED).gate()
    (old,) = server.worker_pids()
    with server.connect() as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        server.out.wait(r"began")
        server.signal(signal.SIGHUP)
        server.log.wait(r"gen=2 serves with workers=1; gen=1 leaves")
        new = server.served_by()
        assert new != old
        server.open_gate()
        received = b""
        while piece := client.recv(65536):
            received += piece
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"\r\n\r\n%d" % old)


def test_two_reloads_at_once_are_two_reloads(serve):
    server = serve(app("old"), workers=2)
    server.signal(signal.SIGHUP)
    server.log.wait(rf"SIGHUP from pid={os.getpid()}: reloading$")
    server.signal(signal.SIGHUP)
    alone(server, 3)
    assert server.get()[2] == b"old"
    assert len(server.worker_pids()) == 2
    wait_until(lambda: len(server.session()) == 4, "the old generations to leave")
    assert server.stop() == 0


def test_many_reloads_in_a_burst_end_with_the_newest_code(serve):
    server = serve(app("old"), workers=2)
    server.write("main.py", app("new, and longer"))
    for _ in range(20):
        server.signal(signal.SIGHUP)
    alone(server, 2)
    assert server.get()[2] == b"new, and longer"
    assert server.stop() == 0


# ---- broken code


@PRELOAD
@pytest.mark.parametrize(
    "broken, reason",
    [
        ("def (\n", r"importing 'main' raised SyntaxError"),
        ("1 / 0\n", r"importing 'main' raised ZeroDivisionError"),
        ("app = 3\n", r"'main:app' is an? int, not a WSGI application"),
        ("import os\nos._exit(7)\n", r"exit code 7"),
    ],
    ids=["SyntaxError", "exception", "no application", "death"],
)
def test_broken_code_is_refused_and_the_old_serves_on(serve, options, broken, reason):
    server = serve(app("old"), *options, workers=2)
    workers = set(server.worker_pids())
    server.write("main.py", broken)
    server.signal(signal.SIGHUP)
    server.log.wait(r"gen=2 abandoned: .*; gen=1 keeps serving")
    assert server.get()[2] == b"old"
    assert set(server.worker_pids()) == workers
    assert server.log.count(r"gen=2 abandoned") == 1
    assert server.log.count(reason) == 1
    wait_until(lambda: len(server.session()) == 4, "the refused generation to leave")
    server.write("main.py", app("repaired"))
    reload(server, 3)
    assert server.get()[2] == b"repaired"
    assert server.stop() == 0


@PRELOAD
def test_broken_code_is_refused_without_harm_to_requests(serve, options):
    server = serve(app("old"), *options, workers=2)
    with Load(server) as load:
        server.write("main.py", "def (\n")
        server.signal(signal.SIGHUP)
        server.log.wait(r"gen=2 abandoned")
        load.wait_for_answers(50)
    assert (load.failures, load.retried) == ([], 0)
    assert set(load.answers) == {b"old"}


@PRELOAD
def test_code_that_hangs_is_given_up_at_the_boot_timeout(serve, options):
    server = serve(None, "-c", "conf.py", *options, workers=2, start=False)
    server.write("conf.py", "boot_timeout = 60\n")
    server.write("main.py", app("old"))
    server.start()
    server.write("conf.py", "boot_timeout = 0.5\n")
    server.write("main.py", "import threading\n\nthreading.Event().wait()\n")
    server.signal(signal.SIGHUP)
    server.log.wait(r"gen=2 abandoned: .*boot-timeout.*; gen=1 keeps serving")
    assert server.get()[2] == b"old"
    wait_until(lambda: len(server.session()) == 4, "the refused generation to leave")
    server.write("conf.py", "boot_timeout = 60\n")
    server.write("main.py", app("new, and longer"))
    reload(server, 3)
    assert server.get()[2] == b"new, and longer"


def test_a_stop_during_a_reload_that_hangs_ends_with_0(serve):
    server = serve(app("old"))
    server.write("main.py", "print('hangs', flush=True)\nopen('gate').close()\n")
    server.gate().signal(signal.SIGHUP)
    server.out.wait(r"hangs")
    assert server.stop(signal.SIGINT) == 0


# ---- the configuration


def configured(serve, source, *, workers):
    """A server that has its settings from conf.py alone."""
    options = ["-c", "conf.py"]
    server = serve(None, *options, bind=False, workers=None, start=False)
    server.write("main.py", app("served"))
    server.write("conf.py", source)
    return server.start(workers=workers)


def ask(path):
    """One request over a unix socket; the body."""
    client = http.client.HTTPConnection("localhost")
    client.sock = socket.socket(socket.AF_UNIX)
    client.sock.connect(str(path))
    client.request("GET", "/", headers={"Connection": "close"})
    with client.getresponse() as response:
        return response.read()


@pytest.mark.parametrize(
    "broken, reason",
    [
        ("workers = [\n", r"conf\.py', line 1: SyntaxError"),
        ("workers = nothing\n", r"conf\.py', line 1: NameError"),
        ("workers = 'many'\n", r"conf\.py, line 1: workers: 'many' is not"),
        ("bind = 'unix:run/s'\n", r"line 1: bind: cannot listen on unix:run/s: No such file"),
        ("bind = ['unix:new', 'unix:run/s']\n", r"cannot listen on unix:run/s: No such file"),
        ("bind = 'unix:new'\nchdir = 'away'\n", r"line 2: chdir: .*away: No such file"),
        (
            "bind = 'unix:new'\npidfile = 'run/p'\n",
            r"line 2: pidfile: the pidfile run/p: No such file",
        ),
        (None, r"cannot read the configuration file"),
    ],
)
def test_a_broken_configuration_is_refused_and_the_old_serves_on(serve, broken, reason):
    good = "workers = 2\nbind = 'unix:s'\n"
    server = configured(serve, good, workers=2)
    if broken is None:
        (server.cwd / "conf.py").unlink()
    else:
        server.write("conf.py", broken)
    server.signal(signal.SIGHUP)
    server.log.wait(rf"gen=2 abandoned: .*{reason}.*; gen=1 keeps serving")
    assert ask(server.cwd / "s") == b"served"
    wait_until(lambda: not (server.cwd / "new").exists(), "the removal of the new socket")
    assert server.log.count(reason) == 1
    server.write("conf.py", good)
    reload(server, 3)
    assert ask(server.cwd / "s") == b"served"
    assert server.stop() == 0


def test_a_new_configuration_takes_effect(serve):
    old = "workers = 2\nbind = ['unix:kept', 'unix:removed']\naccesslog = 'old.log'\n"
    new = "workers = 3\nbind = ['unix:kept', 'unix:added']\naccesslog = 'new.log'\n"
    server = configured(serve, old, workers=2)
    cwd = server.cwd
    assert ask(cwd / "removed") == b"served"
    wait_until(lambda: "GET / " in (cwd / "old.log").read_text(), "the access line")
    inode = (cwd / "kept").stat().st_ino
    server.write("conf.py", new)
    reload(server, 2)
    assert server.log.count(r"gen=2 serves with workers=3") == 1
    assert len(server.worker_pids()) == 3
    assert ask(cwd / "kept") == ask(cwd / "added") == b"served"
    assert (cwd / "kept").stat().st_ino == inode, "a kept socket is not bound anew"
    wait_until(lambda: not (cwd / "removed").exists(), "the old socket's removal")
    wait_until(lambda: (cwd / "new.log").read_text().count("GET / ") == 2, "the access lines")
    assert (cwd / "old.log").read_text().count("GET / ") == 1
    assert server.stop() == 0
    assert not (cwd / "kept").exists()
    assert not (cwd / "added").exists()


def test_class_timeouts_logs_and_hooks_take_effect_and_are_told(serve):
    """All that can be edited, in one edit."""
    server = serve(None, "-c", "conf.py", workers=None, start=False)
    server.write(
        "main.py",
        """
        import time

        def app(environ, start_response):
            while environ["PATH_INFO"] == "/slow":
                time.sleep(0.01)
            start_response("200 OK", [])
            return [b"threads" if environ["wsgi.multithread"] else b"one at a time"]
        """,
    )
    server.write(
        "conf.py",
        """
        workers = 1
        accesslog = "access.log"
        access_log_format = "old %(U)s"
        def post_worker_init(worker):
            worker.log.info("the old hook")
        """,
    )
    server.start(workers=1)
    assert server.get("/a")[2] == b"one at a time"
    server.log.wait("the old hook")
    server.write(
        "conf.py",
        """
        workers = 1
        worker_class = "gthread"
        threads = 2
        request_timeout = 0.3
        accesslog = "access.log"
        access_log_format = "new %(U)s"
        errorlog = "errors.log"
        def post_fork(server, worker):
            worker.log.info("the new hook")
        """,
    )
    server.signal(signal.SIGHUP)
    errors = server.cwd / "errors.log"
    wait_until(lambda: errors.exists() and "gen=1 left" in errors.read_text(), "the reload")
    assert server.get("/b")[2] == b"threads"
    assert server.get("/slow")[0] == 504
    wait_until(lambda: "/slow" in (server.cwd / "access.log").read_text(), "the access lines")
    assert (server.cwd / "access.log").read_text().splitlines() == ["old /a", "new /b", "new /slow"]
    told = errors.read_text()
    for change in (
        'worker_class: "sync" -> "threads"',
        "threads: 1 -> 2",
        "request_timeout: 0 -> 0.3",
        'access_log_format: "old %(U)s" -> "new %(U)s"',
        'errorlog: "-" -> "errors.log"',
        "post_worker_init: conf.py, line 5 -> None",
        "post_fork: None -> conf.py, line 9",
    ):
        assert told.count(f"gen=2 {change}\n") == 1, (change, told)
    assert "the new hook" in told and "the old hook" not in told


def test_fewer_workers_are_fewer_after_a_reload(serve):
    server = configured(serve, "workers = 3\nbind = 'unix:s'\n", workers=3)
    server.write("conf.py", "workers = 1\nbind = 'unix:s'\n")
    reload(server, 2)
    assert len(server.worker_pids()) == 1
    assert ask(server.cwd / "s") == b"served"


def test_the_pidfile_moves_with_the_configuration(serve):
    server = configured(serve, "workers = 1\nbind = 'unix:s'\npidfile = 'a.pid'\n", workers=1)
    server.log.wait(r"serves main:app")
    server.write("conf.py", "workers = 1\nbind = 'unix:s'\npidfile = 'b.pid'\n")
    reload(server, 2)
    wait_until((server.cwd / "b.pid").exists, "the new pidfile")
    assert not (server.cwd / "a.pid").exists()
    assert server.stop() == 0
    assert not (server.cwd / "b.pid").exists()
