"""Answers that wait for others, and pieces of a stream that wait for the next ones, so that their
clients are woken less often."""

import os
import signal
import socket
import struct

import pytest
from harness import is_in_state, read_all, wait_until

APP = """
    import os
    import time

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            while not os.path.exists("go"):
                pass  # It computes: nobody else has the thread.
        began = time.perf_counter()
        while time.perf_counter() < began + 0.0001:
            pass
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]
"""


def request(path):
    return f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()


CLASSES = [("-k", "sync"), ("-k", "threads", "--threads", "4"), ("-k", "async")]
ONE_BY_ONE = [("-k", "sync"), ("-k", "threads", "--threads", "1"), ("-k", "async")]


@pytest.mark.parametrize("klass", ONE_BY_ONE)
def test_no_answer_waits_for_a_slow_request(serve, klass):
    server = serve(APP, *klass)
    connection = server.http()
    for _ in range(100):  # Until it counts as quick.
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"done"
    [worker] = server.worker_pids()
    with server.connect() as quick, server.connect() as slow:
        for client in (quick, slow):  # Both are accepted, and come in one turn.
            client.sendall(request("/").replace(b"close", b"keep-alive"))
            assert client.recv(1000).endswith(b"done")
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: is_in_state(worker, "T"), "the worker to stop")
        quick.sendall(request("/"))
        slow.sendall(request("/slow"))
        os.kill(worker, signal.SIGCONT)
        assert read_all(quick).endswith(b"done"), "while the other one still runs"
        server.write("go", "")
        assert read_all(slow).endswith(b"done")


STREAM = """
    import os
    import time

    def many():
        for _ in range(100):
            yield b"x" * 100

    def slow():
        for turn in range(3):
            # The second comes right after the first, and then none for a while.
            yield b"event %d\\n" % turn
            yield b"data %d\\n" % turn
            while not os.path.exists(f"go{turn}"):
                time.sleep(0.01)

    def app(environ, start_response):
        start_response("200 OK", [])
        return many() if environ["PATH_INFO"] == "/many" else slow()
"""


def segments(client):
    """How many with data have come (tcp(7))."""
    return struct.unpack_from(
        "I", client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 200), 152
    )[0]


@pytest.mark.parametrize("klass", CLASSES)
def test_pieces_of_a_stream_leave_together(serve, klass):
    server = serve(STREAM, *klass)

    def stream():
        with server.connect() as client:
            client.sendall(request("/many"))
            assert read_all(client).count(b"x" * 100) == 100
            return segments(client)

    # 101 if each leaves by itself. A busy machine may tear some of them apart.
    assert min(stream() for _ in range(10)) < 20


@pytest.mark.parametrize("klass", CLASSES)
def test_no_piece_waits_for_one_that_is_not_there(serve, klass):
    server = serve(STREAM, *klass)
    with server.connect() as client:
        client.sendall(request("/slow"))
        got = b""
        for turn in range(3):
            while b"data %d\n" % turn not in got:
                got += client.recv(1000)
            server.write(f"go{turn}", "")
        assert read_all(client).endswith(b"0\r\n\r\n")
