"""Slow clients hold no worker: with hundreds of them, a normal client waits for nobody."""

import os
import resource
import socket
import time
from contextlib import ExitStack

import pytest
from harness import descriptors, wait_until
from load import Lateness

pytestmark = pytest.mark.every_class("sync", "threads", "async")

EACH = 200
REQUESTS = 300
#: Seconds, for a debug build.
BOUND = 0.050

APP = """
    BIG = b"x" * 1_000_000

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/big":
            with open("big", "ab") as file:
                file.write(b".")
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [BIG]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["wsgi.input"].read() or b"quick"]
"""


@pytest.fixture
def many_files():
    """Both sides of 600 connections need descriptors; the server inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def sockets(server):
    """How many sockets the workers have open."""
    found = [what for pid in server.worker_pids() for what in descriptors(pid).values()]
    return sum(what.startswith("socket:") for what in found)


def slow(server, beginning):
    """A client that sends the beginning of something and then nothing, and reads nothing."""
    client = socket.socket()
    # Small, so that the kernel does not take the whole response for it.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(30)
    client.connect(server.address)
    client.sendall(beginning)
    return client


HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: x\r\nX-Half: "
HALF_A_BODY = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b"y" * 500
NEVER_READS = b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n"


def test_600_slow_clients_delay_nobody(serve, many_files):
    server = serve(APP, "--header-timeout", "60", workers=2)
    idle = sockets(server)
    with ExitStack() as stack:
        for beginning in (HALF_A_HEAD, HALF_A_BODY, NEVER_READS):
            for _ in range(EACH):
                stack.enter_context(slow(server, beginning))
        big = server.cwd / "big"
        wait_until(lambda: big.exists() and big.stat().st_size == EACH, "the big responses")
        wait_until(lambda: sockets(server) >= idle + 3 * EACH, "600 connections")

        with Lateness() as lateness:
            times = sorted(normal_requests(server))
        p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
        print(
            f"beside {3 * EACH} slow clients: {len(times)} requests, "
            f"p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, max {times[-1] * 1000:.1f} ms"
        )
        assert len(times) == REQUESTS
        assert p99 - lateness.of_most(0.99) < BOUND
        assert sockets(server) >= idle + 3 * EACH, "the slow ones are still there"
    assert server.stop() == 0
    assert server.log.count(r" (warning|error): ") == 0


def normal_requests(server):
    """Seconds per request: half kept alive, half on a connection of their own."""
    kept = server.http()
    for number in range(REQUESTS):
        began = time.perf_counter()
        if number % 2:
            status, _, body = server.get("/")
        else:
            kept.request("POST", "/", body=b"quick")
            response = kept.getresponse()
            status, body = response.status, response.read()
        yield time.perf_counter() - began
        assert (status, body) == (200, b"quick")
    kept.close()


def test_slow_clients_are_served_once_they_go_on(serve, many_files):
    server = serve(APP, workers=2)
    with ExitStack() as stack:
        begun = [stack.enter_context(slow(server, HALF_A_BODY)) for _ in range(50)]
        readers = [stack.enter_context(slow(server, NEVER_READS)) for _ in range(20)]
        for client in begun:
            client.sendall(b"z" * 500)
        for client in begun:
            assert received(client, 1000) == b"y" * 500 + b"z" * 500
        for client in readers:
            assert received(client, 1_000_000) == b"x" * 1_000_000
    assert os.path.getsize(server.cwd / "big") == 20


def received(client, length):
    """The body of one response with this length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    while len(body) < length:
        piece = client.recv(65536)
        assert piece, "closed in the middle"
        body += piece
    return body
