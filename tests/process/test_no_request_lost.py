"""Under a constant load, nothing that happens to the server costs a request."""

import os
import signal
import socket
import threading
import time

import pytest
from harness import PATIENCE, read_all, wait_until
from load import LAST_REQUEST, Load
from servers import GATED, WHO

pytestmark = pytest.mark.every_class

#: Seconds; on a quiet machine it is a tenth of it, but a test machine is not quiet.
STALL = 0.5

PRELOAD = pytest.mark.parametrize("options", [[], ["--preload"]], ids=["", "preload"])


def app(answer, before=""):
    """The source of an application that answers this, and does something when it is imported."""
    return f"""
        {before}

        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"{answer}"]
    """


def reload(server, generation):
    """Reloads, and waits until this generation is the only one."""
    server.signal(signal.SIGHUP)
    old = server.log.wait(rf"gen={generation} serves with workers=\d+; gen=(\d+) leaves")[1]
    wait_until(lambda: not server.workers_of(old), "the old workers to leave")


def nothing_lost(load, server):
    assert (load.failures, load.retried) == ([], 0)
    assert server.log.count(r" (warning|error): ") == 0


@PRELOAD
def test_three_reloads(serve, options):
    server = serve(app("0"), *options, workers=2)
    with Load(server, pause=0.002) as load:
        for version in (1, 2, 3):
            server.write("main.py", app(str(version)))
            reload(server, version + 1)
            reloaded = time.monotonic()
            load.wait_for_answers(50)
    load.report("three reloads")
    nothing_lost(load, server)
    assert set(load.answers) == {b"0", b"1", b"2", b"3"}
    assert set(load.answers_since(reloaded)) == {b"3"}
    assert load.stall < STALL


@PRELOAD
def test_a_reload_whose_import_takes_long(serve, options):
    server = serve(app("0"), *options, workers=2)
    with Load(server, pause=0.005) as load:
        server.write("main.py", app("1", "import time; time.sleep(4)"))
        reload(server, 2)
        load.wait_for_answers(50)
    load.report("a reload with an import of 4 s")
    nothing_lost(load, server)
    assert set(load.answers) == {b"0", b"1"}
    assert load.stall < STALL


def test_recycling_by_requests(serve):
    server = serve(WHO, *("--max-requests", 300, "--max-requests-jitter", 50), workers=2)
    with Load(server) as load:
        # Both of the first, and some of their successors.
        server.log.wait(r"is to be replaced: .*max-requests", count=5)
        wait_until(lambda: server.log.count(r" ready in=") >= 7, "five successors")
        load.wait_for_answers(50)
    load.report("five workers recycled")
    nothing_lost(load, server)
    assert load.stall < STALL


def test_one_worker_fewer_and_one_more(serve):
    server = serve(WHO, workers=3)
    # Without a pause, so that the hand-off gives each worker connections to lose.
    with Load(server) as load:
        for _ in range(5):
            server.signal(signal.SIGTTOU)
            wait_until(lambda: len(server.worker_pids()) == 2, "one worker to leave")
            load.wait_for_answers(50)
            since = len(server.log.lines)
            server.signal(signal.SIGTTIN)
            server.log.wait(r" ready in=", since=since)
            load.wait_for_answers(200)
    load.report("five times TTOU and TTIN")
    nothing_lost(load, server)
    assert load.stall < STALL


def test_a_killed_worker_takes_only_its_own_connections_along(serve):
    server = serve(WHO, workers=2)
    with Load(server, pause=0.002) as load:
        since = len(server.log.lines)
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        # kill(2) returns before the process is gone; until then it may accept.
        server.log.wait(r" died", since=since)
        killed = time.monotonic()
        server.log.wait(r" ready in=", since=since)
        load.wait_for_answers(200)
    load.report("a worker killed")
    # Each client has one connection, so one failure: of a request that ran, or of the next one
    # on a connection that was kept alive.
    assert len(load.failures) + load.retried <= load.clients, load.failures
    # A connection that came after that waits in the queue for the other worker.
    late = [found for found in load.failures if found.began > killed]
    assert [found for found in late if found.client == "closing"] == []
    assert load.stall < STALL


def test_an_upgrade(serve):
    """USR2, and TERM to the old master while both serve."""
    server = serve(WHO, "--pid", "pid", workers=2)
    serves = r"serves main:app .*pid=(\d+)\)"
    server.log.wait(serves)
    with Load(server, pause=0.002) as load:
        server.signal(signal.SIGUSR2)
        new = int(server.log.wait(serves, count=2)[1])
        load.wait_for_answers(200)
        server.signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
        load.wait_for_answers(200)
    load.report("an upgrade")
    assert load.failures == []
    assert load.stall < STALL
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not server.session(), "the new master to end")
    assert server.log.count(r" (warning|error): ") == 0


# ---- stopping

#: Two workers are always busy with it, and have requests that wait.
SLOW = """
    import time

    def app(environ, start_response):
        time.sleep(0.01)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"slow"]
"""


def test_a_stop_answers_whatever_was_sent_before(serve):
    server = serve(SLOW, workers=2)
    with Load(server) as load:
        # So that connecting is refused, once the server is gone.
        server.listener.close()
        load.wait_for_answers(200)
        stopped = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    load.report("a stop")
    assert [found for found in load.failures if found.sent and found.sent < stopped] == []
    assert server.log.count(r" (warning|error): ") == 0


def test_a_stop_answers_the_accept_queue(serve):
    """One worker is busy, and its queue is full of whole requests when TERM comes."""
    server = serve(GATED).gate()
    busy = threading.Thread(target=server.get, args=("/wait",))
    busy.start()
    server.out.wait("began")
    queued = [socket.create_connection(server.address, 30) for _ in range(50)]
    for connection in queued:
        connection.sendall(LAST_REQUEST)
    server.signal(signal.SIGTERM)
    server.log.wait(r"SIGTERM|TERM")
    server.open_gate()
    answers = [read_all(connection) for connection in queued]
    busy.join()
    assert [answer[:15] for answer in answers] == [b"HTTP/1.1 200 OK"] * 50
    for connection in queued:
        connection.close()
    assert server.wait() == 0
