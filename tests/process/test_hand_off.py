"""Requests do not wait behind a busy worker while another is idle."""

import threading
import time
from contextlib import ExitStack

from servers import GATED

BUSY = """
    import os, time

    def app(environ, start_response):
        time.sleep(float(environ["QUERY_STRING"] or 0))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""


def test_the_connections_of_busy_workers_are_served_by_the_one_that_is_idle(serve):
    server = serve(GATED, workers=4).gate()
    connections = [server.http() for _ in range(40)]

    def ask_all():
        for connection in connections:
            connection.request("GET", "/")
        return {int(connection.getresponse().read()) for connection in connections}

    while len(ask_all()) == 1:
        pass  # The others have woken up too late to take a part.
    with ExitStack() as stack:
        for _ in range(3):
            held = stack.enter_context(server.connect())
            held.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        server.out.wait(r"began", count=3)
        busy = {int(line.split()[1]) for line in server.out.lines}
        assert len(busy) == 3
        for _ in range(3):
            assert ask_all() == set(server.worker_pids()) - busy
    for connection in connections:
        connection.close()


def test_kept_alive_connections_are_worked_on_by_whoever_is_idle(serve):
    """40 connections, 50 ms a request, 4 workers: at best 10 rounds of 50 ms each.

    Whatever else the machine does is added to it, so the best of some attempts counts.
    """
    server = serve(BUSY, workers=4)
    for _ in range(5):
        times_ideal = three_rounds(server)
        print(f"{times_ideal:.2f} x ideal")
        if times_ideal <= 1.15:
            break
    else:
        assert times_ideal <= 1.15


def three_rounds(server):
    """How long 40 connections take to ask three times, in times the ideal."""
    rounds, clients = 3, 40
    connections = [server.http() for _ in range(clients)]
    failures = []

    def ask(connection):
        for _ in range(rounds):
            connection.request("GET", "/?0.05")
            if connection.getresponse().read() is None:
                failures.append("no answer")

    for connection in connections:
        connection.connect()
    threads = [threading.Thread(target=ask, args=(connection,)) for connection in connections]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    assert not failures
    for connection in connections:
        connection.close()
    return took / (rounds * clients * 0.05 / 4)


def test_a_reload_leaves_idle_connections_open(serve):
    """They go to the successors; the client notices nothing."""
    import signal

    server = serve(BUSY, workers=2)
    connections = [server.http() for _ in range(8)]
    before = set()
    for connection in connections:
        connection.request("GET", "/")
        before.add(int(connection.getresponse().read()))
    sockets = [connection.sock for connection in connections]
    server.signal(signal.SIGHUP)
    server.log.wait(r"gen=2 serves")
    server.log.wait(r"gen=1 left", count=2)
    for connection in connections:
        connection.request("GET", "/")
        assert int(connection.getresponse().read()) not in before
    assert [connection.sock for connection in connections] == sockets
