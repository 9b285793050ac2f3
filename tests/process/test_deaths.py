"""Whatever dies is replaced, the log says why, and nobody is left when the master is gone."""

import http.client
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest
from harness import is_in_state, wait_until
from servers import GATED


def replaced(server, worker, *, workers=1):
    """Waits until another worker is there for one that died."""
    server.log.wait(r"worker=\d+ .*ready in=", count=workers + 1)
    assert worker not in server.worker_pids()
    assert len(server.worker_pids()) == workers
    assert server.get("/")[0] == 200


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_worker_killed_by_a_signal_is_replaced(serve, number):
    server = serve(workers=2)
    worker = server.worker_pids()[0]
    os.kill(worker, number)
    death = rf"pid={worker} .*died.*: signal {int(number)} \({number.name}\)"
    server.log.wait(death)
    replaced(server, worker, workers=2)
    assert server.stop() == 0


def test_who_sent_sigkill_is_said_truthfully(serve):
    server = serve()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    server.log.wait(r"SIGKILL\), not sent by the master")


MORTAL = """
    import os

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/die":
            os._exit(9)
        if environ["PATH_INFO"] == "/exit":
            raise SystemExit(9)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""


def test_a_worker_that_dies_in_a_request_is_replaced(serve):
    server = serve(MORTAL)
    worker = server.served_by()
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        server.get("/die")
    server.log.wait(rf"pid={worker} .*died.*: exit code 9")
    replaced(server, worker)


def test_sys_exit_in_a_request_does_not_end_the_worker(serve):
    server = serve(MORTAL)
    worker = server.served_by()
    assert server.get("/exit")[0] == 500
    assert server.served_by() == worker


# ---- crash loops

CRASHING = """
    import os

    with open("imports", "a") as file:
        print(os.getpid(), file=file)
    if os.path.exists("broken"):
        os._exit(5)

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"fine"]
"""


def moments(server, pattern):
    """When lines of the log were written."""
    lines = [line for line in server.log.lines if re.search(pattern, line)]
    return [datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S.%f").timestamp() for line in lines]


def test_a_crash_loop_is_slowed_down_and_ends_when_the_cause_does(serve):
    server = serve(CRASHING)
    (server.cwd / "broken").touch()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    crash = r"died before it was ready: exit code 5"
    server.log.wait(crash, count=2)
    one, other, *_ = moments(server, crash)
    assert other - one >= 0.95
    (server.cwd / "broken").unlink()
    server.log.wait(r"ready in=", count=2)
    assert server.get()[2] == b"fine"
    imports = (server.cwd / "imports").read_text().splitlines()
    assert len(imports) == 2 + server.log.count(crash), "two that served, and those that crashed"
    assert server.stop() == 0


def test_a_stop_does_not_wait_for_a_back_off(serve):
    server = serve(CRASHING)
    (server.cwd / "broken").touch()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    server.log.wait(r"died before it was ready: exit code 5", count=2)
    assert server.stop() == 0


# ---- stuck workers


def test_a_stopped_worker_is_killed_and_its_request_named(serve):
    server = serve(GATED, "--timeout", "1").gate()
    (worker,) = server.worker_pids()
    with server.connect() as client:
        client.sendall(b"GET /wait?secret=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        server.out.wait(r"began")
        os.kill(worker, signal.SIGSTOP)
        server.log.wait(rf'pid={worker} .*stuck for=\S+s request="GET /wait.*": aborting')
        server.log.wait(rf"pid={worker} .*killed by the master, no sign of life for .*timeout")
        replaced(server, worker)


GUILTY = """
    import os

    def guilty_function():
        # C code that no signal interrupts; what can be is ended by the worker itself.
        sum(iter(int, 1))

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/spin":
            guilty_function()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_a_request_that_never_ends_is_shown_with_its_stack(serve, preload):
    server = serve(GUILTY, "--timeout", "1", *(["--preload"] if preload else []))
    (worker,) = server.worker_pids()
    with server.connect() as client:
        client.sendall(b"GET /spin HTTP/1.1\r\nHost: x\r\n\r\n")
        server.log.wait(rf'pid={worker} .*stuck for=\S+s request="GET /spin": aborting')
        server.log.wait(r'main\.py", line [56] in guilty_function')
        server.log.wait(rf"pid={worker} .*killed by the master, no sign of life.*SIGABRT")
        replaced(server, worker)


def test_an_idle_worker_is_not_taken_for_a_stuck_one(serve):
    """One worker that spins until its timeout is the clock for the other, idle for longer."""
    server = serve(GUILTY, "--timeout", "0.5", workers=2)
    workers = set(server.worker_pids())
    with server.connect() as client:
        client.sendall(b"GET /spin HTTP/1.1\r\nHost: x\r\n\r\n")
        stuck = int(server.log.wait(r"pid=(\d+) .*stuck")[1])
        server.log.wait(r"ready in=", count=3)
    (idle,) = workers - {stuck}
    assert idle in server.worker_pids()
    assert server.log.count(r"stuck") == 1


# ---- the master and the mold


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_nobody_outlives_the_master(serve, preload):
    server = serve(GUILTY, *(["--preload"] if preload else []), workers=3)
    assert len(server.session()) == 5
    server.signal(signal.SIGKILL)
    assert server.process.wait() == -signal.SIGKILL
    wait_until(lambda: not server.session(), "workers and mold to end")


def test_a_request_in_flight_outlives_the_master(serve):
    server = serve(GATED).gate()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(lambda: server.get("/wait"))
        server.out.wait(r"began")
        server.signal(signal.SIGKILL)
        server.process.wait()
        server.open_gate()
        assert answer.result()[0] == 200
    wait_until(lambda: not server.session(), "workers and mold to end")


def test_a_booting_worker_does_not_outlive_the_master(serve):
    server = serve(None, start=False)
    server.write("main.py", "print('importing', flush=True)\nopen('boot').close()\napp = print\n")
    os.mkfifo(server.cwd / "boot")
    server.launch().out.wait(r"importing")
    server.signal(signal.SIGKILL)
    server.process.wait()
    open(server.cwd / "boot", "w").close()
    wait_until(lambda: not server.session(), "workers and mold to end")


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_a_mold_that_dies_is_replaced_while_its_workers_serve(serve, preload):
    server = serve(MORTAL, *(["--preload"] if preload else []), workers=2)
    (mold,) = server.mold_pids()
    os.kill(mold, signal.SIGKILL)
    server.log.wait(r"gen=1 mold died: signal 9 \(SIGKILL\).*; its workers serve on")
    assert server.get()[0] == 200
    server.log.wait(r"gen=2 serves with workers=2; gen=1 leaves")
    worker = server.workers_of(2)[0]
    os.kill(worker, signal.SIGKILL)
    server.log.wait(rf"pid={worker} gen=2 died")
    server.log.wait(r"gen=2 ready in=", count=3)
    assert server.get()[0] == 200
    assert server.stop() == 0


def test_a_stopped_mold_does_not_keep_the_server_from_ending(serve):
    server = serve(GUILTY)
    (mold,) = server.mold_pids()
    os.kill(mold, signal.SIGSTOP)
    assert server.stop() == 0


def test_workers_serve_while_the_master_is_stopped(serve):
    server = serve(workers=2)
    doomed, other = server.worker_pids()
    server.signal(signal.SIGSTOP)
    wait_until(lambda: is_in_state(server.pid, "T"), "the master to stop")
    os.kill(doomed, signal.SIGKILL)
    wait_until(lambda: doomed not in server.session(), "the worker to die")
    assert server.served_by() == other
    server.signal(signal.SIGCONT)
    replaced(server, doomed, workers=2)
    assert server.stop() == 0
