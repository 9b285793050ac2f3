"""Answers that wait for others, and pieces of a stream that wait for the next ones, so that their
clients are woken less often."""

import contextlib
import os
import signal
import time

import pytest
from harness import PATIENCE, Segments, is_in_state, read_all, segments, wait_until

APP = """
    import _socket
    import contextlib
    import os
    import struct
    import time

    def sent(port):
        '''Segments with data for the client with that port (tcp(7)); None once it is closed.'''
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # It was listdir's own, or nobody has connected.
                if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                    continue
                with contextlib.closing(_socket.socket(fileno=os.dup(int(name)))) as it:
                    if it.family == _socket.AF_INET and it.getpeername()[1] == port:
                        info = it.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_INFO, 200)
                        return struct.unpack_from("I", info, 156)[0]

    ran = set()

    def app(environ, start_response):
        path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
        if path == "/quick":
            ran.add(environ["REMOTE_PORT"])
        elif path == "/slow":
            print("after" if query in ran else "before", "sent", sent(int(query)), flush=True)
            while not os.path.exists(f"go{query}"):
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
    # On a busy machine, the application may not count as quick: threads wait for a processor.
    deadline = time.monotonic() + PATIENCE
    while not was_held_back(server):
        if time.monotonic() > deadline:
            pytest.skip("this machine is too busy: no answer was held back")


def was_held_back(server):
    """Has an answer followed by a request that is slow; whether it was there before that began."""
    connection = server.http()
    for _ in range(100):  # Until it counts as quick.
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"done"
    connection.close()
    [worker] = server.worker_pids()
    seen = len(server.out.lines)
    with server.connect() as quick, server.connect() as slow:
        for client in (quick, slow):  # Both are accepted, and come in one turn.
            client.sendall(request("/").replace(b"close", b"keep-alive"))
            assert client.recv(1000).endswith(b"done")
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: has_stopped(worker), "all threads of the worker to stop")
        port = quick.getsockname()[1]
        quick.sendall(request("/quick"))
        slow.sendall(request(f"/slow?{port}"))
        os.kill(worker, signal.SIGCONT)
        order, sent = server.out.wait(r"^(after|before) sent (\w+)", since=seen).groups()
        if order == "after":
            assert read_all(quick).endswith(b"done"), "while the other one still runs"
        server.write(f"go{port}", "")
        assert read_all(slow).endswith(b"done")
        if order == "before":  # It was stopped in a turn, which then went on with the slow one.
            assert read_all(quick).endswith(b"done")
    return (order, sent) == ("after", "1")


@pytest.mark.parametrize("klass", CLASSES)
def test_the_end_of_a_connection_leaves_with_its_last_answer(serve, klass):
    """That of those that wait for each other, and of the last one, for which nobody waits."""
    server = serve(APP, *klass)
    connection = server.http()
    for _ in range(100):
        connection.request("GET", "/")
        connection.getresponse().read()
    connection.close()
    [worker] = server.worker_pids()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(4)]
        for client in clients:
            client.sendall(request("/").replace(b"close", b"keep-alive"))
            assert client.recv(1000).endswith(b"done")
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: has_stopped(worker), "all threads of the worker to stop")
        for client in clients:
            client.sendall(request("/"))
        wait_until(
            lambda: not any(segments(client, Segments.UNACKED) for client in clients),
            "the kernel to take the requests",
        )
        before = [segments(client, Segments.CAME) for client in clients]
        os.kill(worker, signal.SIGCONT)
        assert all(read_all(client).endswith(b"done") for client in clients)
        came = [
            segments(client, Segments.CAME) - had
            for client, had in zip(clients, before, strict=True)
        ]
    assert came == [1, 1, 1, 1]


def has_stopped(pid):
    """Not only its main thread, which would be enough for what is not sent meanwhile."""
    return all(
        is_in_state(f"{pid}/task/{thread}", "T") for thread in os.listdir(f"/proc/{pid}/task")
    )


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


@pytest.mark.parametrize("klass", CLASSES)
def test_pieces_of_a_stream_leave_together(serve, klass):
    server = serve(STREAM, *klass)

    def stream():
        with server.connect() as client:
            client.sendall(request("/many"))
            assert read_all(client).count(b"x" * 100) == 100
            return segments(client, Segments.CAME_WITH_DATA)

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
