"""What each signal does, at any moment, and that no request is lost by it."""

import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest
from harness import descriptors, read_all, wait_until
from servers import GATED, WHO

#: Longer than a test waits: a stop that waits for this fails it.
UNHURRIED = ["--graceful-timeout", "600"]

GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def in_thread(work):
    """Runs `work` beside the test; the result is a future's."""
    return ThreadPoolExecutor(1).submit(work)


# ---- stop


def test_term_lets_a_request_in_flight_finish(serve):
    server = serve(GATED).gate()
    answer = in_thread(lambda: server.get("/wait"))
    server.out.wait(r"began")
    server.signal(signal.SIGTERM)
    server.log.wait(rf"SIGTERM from pid={os.getpid()}: stopping")
    server.open_gate()
    assert answer.result()[0] == 200
    assert server.wait() == 0
    server.still_alone()


def test_term_answers_a_connection_that_waits_to_be_accepted(serve):
    server = serve(GATED).gate()
    first = in_thread(lambda: server.get("/wait"))
    server.out.wait(r"began")
    with server.connect() as second, server.connect() as third:
        second.sendall(GET)
        third.sendall(GET)
        server.signal(signal.SIGTERM)
        server.log.wait(r"stopping")
        server.open_gate()
        assert first.result()[0] == 200
        for waiting in (second, third):
            assert read_all(waiting).startswith(b"HTTP/1.1 200 ")
    assert server.wait() == 0


def test_term_closes_idle_connections_and_does_not_wait_for_them(serve):
    server = serve(WHO, *UNHURRIED, workers=2)
    client = server.http()
    client.request("GET", "/")
    client.getresponse().read()
    assert server.stop() == 0
    assert client.sock.recv(1) == b""
    client.close()


def listener(path):
    """What descriptors of the unix socket that listens at `path` are, as the kernel writes both."""
    # A row may be missing from one reading of the table while other sockets come and go.
    while True:
        for row in Path("/proc/net/unix").read_text().splitlines():
            fields = row.split()
            if fields[-1] == path and fields[5] == "01":
                return f"socket:[{fields[6]}]"


def test_a_client_that_comes_too_late_is_refused_and_not_reset(serve):
    """Once nobody accepts any more, nobody may be let into the queue: it will be reset."""
    # An abstract one: a file is removed, and then nobody could tell why connecting fails.
    name = f"@late-{os.getpid()}"
    address = name.replace("@", "\0")
    server = serve(LARGE, "-b", f"unix:{name}", bind=False)
    (worker,) = server.worker_pids()
    listening = listener(name)
    assert listening in descriptors(worker).values()
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(address)
        slow.sendall(GET)
        assert slow.recv(12) == b"HTTP/1.1 200"
        # Half of the response is still the worker's: it cannot end before this client has read.
        server.signal(signal.SIGTERM)
        # The mold has it, too, and may be a moment longer about it than the worker.
        wait_until(
            lambda: not any(listening in descriptors(pid).values() for pid in server.session()),
            "every process to close the listener",
        )
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
            late.connect(address)
        assert worker in server.worker_pids(), "nobody was there to let anybody in"
        assert read_all(slow).endswith(b"x" * 1_000_000)
    assert server.wait() == 0


LARGE = """
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x" * 1_000_000]
"""


def test_a_request_that_outlasts_the_graceful_timeout_is_given_up(serve):
    server = serve(GATED, "--graceful-timeout", "0.5").gate()
    with server.connect() as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        server.out.wait(r"began")
        assert server.stop() == 0
    assert server.log.count(r"killed by the master, not gone in time after SIGTERM") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_do_not_wait(serve, number):
    server = serve(GATED, *UNHURRIED, workers=2).gate()
    with server.connect() as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        server.out.wait(r"began")
        assert server.stop(number) == 0


def test_int_hurries_a_graceful_stop(serve):
    server = serve(GATED, *UNHURRIED).gate()
    with server.connect() as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        server.out.wait(r"began")
        server.signal(signal.SIGTERM)
        server.log.wait(r"SIGTERM.*stopping")
        assert server.stop(signal.SIGINT) == 0


def test_a_quick_stop_leaves_time_for_exit_handlers(serve):
    server = serve("""
        import atexit, time

        @atexit.register
        def handler():
            time.sleep(1.5)
            print("handled", flush=True)

        def app(environ, start_response): ...
    """)
    assert server.stop(signal.SIGINT) == 0
    assert server.out.lines == ["handled"]
    assert server.log.count(r" (error|warning): ") == 0


ENDLESS = """
    import atexit, time

    atexit.register(time.sleep, 600)

    def app(environ, start_response): ...
"""


def test_an_exit_handler_has_five_seconds_at_a_quick_stop(serve):
    server = serve(ENDLESS)
    assert server.stop(signal.SIGINT) == 0
    assert round(seconds_until_killed(server)) in range(5, 10)


def test_a_second_int_leaves_it_one(serve):
    server = serve(ENDLESS)
    server.signal(signal.SIGINT)
    server.log.wait("SIGINT.*: stopping at once")
    assert server.stop(signal.SIGINT) == 0
    server.log.wait("SIGINT.*: once more, whatever does not end is killed")
    assert round(seconds_until_killed(server)) in range(1, 5)


def seconds_until_killed(server):
    """After the first INT; by the log, which is the master's own clock."""
    first, killed = (
        datetime.fromisoformat(server.log.wait(rf"^(\S+ \S+) .*{what}")[1] + "000")
        for what in ("SIGINT.*: stopping at once", "killed by the master, not gone in time after")
    )
    return (killed - first).total_seconds()


def test_ctrl_c_reaches_all_processes_and_is_no_mishap(serve):
    server = serve(workers=3)
    os.killpg(server.pid, signal.SIGINT)
    assert server.wait() == 0
    server.still_alone()
    assert server.log.count(r" (error|warning): ") == 0


#: Milliseconds after the start: a hundred of them, in four tests, since each has its time limit.
MOMENTS = [range(first, 300, 12) for first in range(0, 12, 3)]


@pytest.mark.parametrize("moments", MOMENTS, ids=lambda moments: f"{moments.start}ms")
def test_term_at_any_moment_of_the_start_ends_it_with_0(serve, moments):
    """The delay is the point here, not a way to wait for something. SIGTERM is blocked at exec,
    as a careful starter does it: else the first few milliseconds belong to the default action."""

    def stopped_after(delay):
        preload = "--preload" if delay % 8 < 4 else "--no-preload"
        server = serve(None, preload, workers=2, start=False)
        server.write("main.py", "def app(environ, start_response):\n    raise SystemExit\n")
        # The mask is the thread's, and exec inherits it.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        server.launch()
        time.sleep(delay / 1000)
        server.signal(signal.SIGTERM)
        code = server.wait()
        return delay, code, server.session()

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(stopped_after, moments))
    assert len(results) == 25
    assert [result for result in results if result[1:] != (0, [])] == []


# ---- more and fewer


def test_ttin_and_ttou_change_the_number_of_workers(serve):
    server = serve(workers=1)
    server.signal(signal.SIGTTIN)
    server.log.wait(r"SIGTTIN from pid=\d+: workers=2, were 1")
    server.log.wait(r"worker=\d+ .*ready in=", count=2)
    assert len(server.worker_pids()) == 2
    server.signal(signal.SIGTTOU)
    server.log.wait(r"worker=2 .*left")
    server.signal(signal.SIGTTOU)
    server.log.wait(r"SIGTTOU from pid=\d+: workers=1, were 1")
    assert len(server.worker_pids()) == 1
    assert server.served_by() in server.worker_pids()


def test_winch_retires_all_workers_and_ttin_brings_one_back(serve):
    server = serve(workers=2)
    server.signal(signal.SIGWINCH)
    server.log.wait(r"worker=\d+ .*left", count=2)
    assert server.worker_pids() == []
    with server.connect() as client:
        client.sendall(GET)
        server.signal(signal.SIGTTIN)
        assert read_all(client).startswith(b"HTTP/1.1 200 ")
    server.log.wait(r"ready in=", count=3)
    assert len(server.worker_pids()) == 1
    assert server.stop() == 0


def test_winch_and_then_hup_brings_all_workers_back(serve):
    server = serve(workers=2)
    server.signal(signal.SIGWINCH)
    server.log.wait(r"worker=\d+ .*left", count=2)
    server.signal(signal.SIGHUP)
    server.log.wait(r"gen=2 serves with workers=2")
    assert len(server.worker_pids()) == 2
    assert server.served_by() in server.worker_pids()
    assert server.stop() == 0


# ---- log files


def holders(server, name):
    """Pids of the server's processes that have this file open."""
    path = str(server.cwd / name)
    return {pid for pid in server.session() if path in descriptors(pid).values()}


def test_usr1_opens_renamed_logs_anew_in_every_process(serve):
    logs = ["--error-logfile", "error.log", "--access-logfile", "access.log"]
    server = serve(None, *logs, workers=2, start=False)
    server.write("main.py", LOGGING)
    server.launch()
    error, access = server.cwd / "error.log", server.cwd / "access.log"
    wait_until(lambda: error.exists() and "worker=2 " in error.read_text(), "the workers")
    assert server.get("/before")[0] == 200
    everybody = set(server.session())
    assert len(everybody) == 4, "the master, its mold, two workers"
    assert holders(server, "error.log") == everybody

    error.rename(server.cwd / "error.old")
    access.rename(server.cwd / "access.old")
    server.signal(signal.SIGUSR1)
    wait_until(lambda: holders(server, "error.log") == everybody, "the error log's reopening")
    wait_until(lambda: not holders(server, "access.old"), "the access log's reopening")
    assert not holders(server, "error.old")
    # That of a worker, and that of the master.
    assert server.get("/after")[0] == 500
    wait_until(lambda: '"GET /after ' in access.read_text(), "the access line")
    os.kill(int(server.get("/pid")[2]), signal.SIGKILL)
    wait_until(lambda: re.search(r"died.*: signal 9", error.read_text()), "the master's line")
    assert "after_the_rename" in error.read_text()
    old = (server.cwd / "access.old").read_text()
    assert '"GET /before ' in old
    assert '"GET /after ' not in old


LOGGING = """
    import os

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/after":
            raise ValueError("after_the_rename")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""


# ---- signals to a worker


def test_a_worker_sent_term_finishes_its_request_and_is_replaced(serve):
    server = serve(GATED).gate()
    (worker,) = server.worker_pids()
    answer = in_thread(lambda: server.get("/wait"))
    server.out.wait(r"began")
    os.kill(worker, signal.SIGTERM)
    server.open_gate()
    assert answer.result()[0] == 200
    server.log.wait(rf"pid={worker} .*left by itself")
    server.log.wait(r"ready in=", count=2)
    assert server.served_by() != worker
    assert server.log.count(r" (error|warning): ") == 0


@pytest.mark.parametrize("name", ["SIGHUP", "SIGWINCH", "SIGTTIN", "SIGTTOU", "SIGUSR2", "SIGPIPE"])
def test_a_worker_does_not_mind_signals_meant_for_the_master(serve, name):
    server = serve(GATED).gate()
    (worker,) = server.worker_pids()
    os.kill(worker, getattr(signal, name))
    assert server.served_by() == worker
    # Neither in the middle of a request.
    answer = in_thread(lambda: server.get("/wait"))
    server.out.wait(r"began")
    os.kill(worker, getattr(signal, name))
    server.open_gate()
    assert answer.result()[0] == 200
    assert server.served_by() == worker
    assert server.stop() == 0


# ---- an application that wants signals for itself

GREEDY = """
    import asyncio, os, signal

    def ignore():
        for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1"):
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    ignore()
    handler = signal.signal(signal.SIGTERM, lambda *_: None)

    async def nothing():
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, print)
        return "done"

    def app(environ, start_response):
        ignore()
        assert asyncio.run(nothing()) == "done"
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_an_application_cannot_disarm_the_server(serve, preload):
    server = serve(GREEDY, *(["--preload"] if preload else []))
    worker = server.served_by()
    server.log.wait(r"handler for SIGTERM is ignored")
    assert server.served_by() == worker
    assert server.log.count(r"warning: .*handler for SIGTERM is ignored") == 1
    os.kill(worker, signal.SIGTERM)
    server.log.wait(rf"pid={worker} .*left by itself")
    server.log.wait(r"ready in=", count=2)
    assert server.served_by() != worker
    assert server.stop() == 0
    assert server.log.count(r"killed by the master") == 0


def test_an_application_cannot_keep_its_worker_from_being_retired(serve):
    """The master retires workers by a signal of its own, which is the server's as well."""
    server = serve("""
        import os, signal

        signal.signal(signal.SIGURG, lambda *_: None)

        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(os.getpid()).encode()]
    """)
    server.log.wait(r"handler for SIGURG is ignored")
    worker = server.served_by()
    server.signal(signal.SIGHUP)
    server.log.wait(rf"pid={worker} gen=1 left")
    assert server.log.count(r"killed by the master") == 0


def test_an_application_may_have_signals_the_server_does_not_need(serve):
    """Its handler runs at once, at whatever moment of a request's end the signal comes."""
    server = serve("""
        import signal

        signal.signal(signal.SIGALRM, lambda *_: print("alarm", flush=True))

        def app(environ, start_response):
            microseconds = int(environ["QUERY_STRING"])
            signal.setitimer(signal.ITIMER_REAL, microseconds / 1e6)
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"armed"]
    """)
    client = server.http()
    for count, microseconds in enumerate(range(5, 805, 4), 1):
        client.request("GET", f"/?{microseconds}")
        assert client.getresponse().read() == b"armed"
        server.out.wait(r"^alarm$", count=count)
    client.close()


def test_a_signal_that_comes_while_a_request_runs_does_not_wait_for_the_next_one(serve):
    """Whoever hears of it, the main thread looks for it before it sleeps."""
    server = serve(
        """
        import os, signal, threading, time

        signal.signal(signal.SIGALRM, lambda *_: print("alarm", flush=True))

        def app(environ, start_response):
            read, write = os.pipe()

            def ring():
                # Elsewhere than in the main thread, whose system call would be interrupted; and
                # while the relay listens in its place, as it does under a slow request.
                time.sleep(0.05)
                signal.pthread_kill(threading.get_ident(), signal.SIGALRM)
                time.sleep(0.05)
                os.write(write, b"over")

            threading.Thread(target=ring).start()
            start_response("200 OK", [("Content-Type", "text/plain")])
            # No bytecode from here to the end of the request, where a handler could run.
            return map(os.read, [read], [4])
    """,
        "--keep-alive",
        "60",
    )
    # Kept open: its end would wake the worker.
    client = server.http()
    client.request("GET", "/")
    assert client.getresponse().read() == b"over"
    server.out.wait("^alarm$")
    client.close()


# ---- the first start


def test_hup_before_the_first_worker_is_ready_is_remembered(serve):
    server = serve(None, start=False)
    server.write("main.py", BOOTING)
    os.mkfifo(server.cwd / "boot")
    server.launch()
    opened = threading.Thread(target=lambda: open(server.cwd / "boot", "w").close())
    server.out.wait(r"importing")
    server.signal(signal.SIGHUP)
    server.log.wait(r"SIGHUP from pid=\d+: reloading once more")
    (server.cwd / "quick").touch()
    opened.start()
    server.log.wait(r"gen=2 serves with workers=1; gen=1 leaves")
    opened.join()
    assert server.get()[0] == 200
    assert server.stop() == 0


BOOTING = """
    import os

    waits = not os.path.exists("quick")
    print("importing", flush=True)
    if waits:
        open("boot").close()

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"booted"]
"""
