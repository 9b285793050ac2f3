"""Clients that go away in the middle leave nothing behind: no descriptor, no error, no worker."""

import socket
import struct

import pytest
from harness import descriptors, wait_until

pytestmark = pytest.mark.every_class("sync", "threads", "async")

EACH = 500
#: Side by side, so that the worker has many of them when they go.
GROUP = 50

APP = """
    BIG = b"x" * 1_000_000

    def endless():
        while True:
            yield BIG

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        if environ["PATH_INFO"] == "/big":
            return [BIG]
        if environ["PATH_INFO"] == "/endless":
            return endless()
        return [environ["wsgi.input"].read() or b"quick"]
"""

HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: x\r\nX-Half: "
HALF_A_BODY = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b"y" * 500
#: More than waits in memory.
HALF_A_LARGE_BODY = (
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n" + b"y" * 2_000_000
)
NEVER_READS = b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n"
NEVER_READS_A_STREAM = b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n"

#: What a client sends, how many such clients, and whether a response begins.
KINDS = {
    "half a head": (HALF_A_HEAD, EACH, False),
    "half a body": (HALF_A_BODY, EACH, False),
    "half a large body": (HALF_A_LARGE_BODY, 20, False),
    "an unread response": (NEVER_READS, 2 * EACH, True),
    "an unread stream": (NEVER_READS_A_STREAM, 50, True),
}


def begin(server, request, responds):
    """A client in the middle of a request, or of a response."""
    client = socket.socket()
    # Small, so that the kernel does not take the whole response for it.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(30)
    client.connect(server.address)
    client.sendall(request)
    if responds:
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
    return client


def go_away(client, rudely):
    """Closes the connection, with FIN or with RST."""
    if rudely:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("kind", KINDS)
def test_disconnects_leave_nothing_behind(serve, kind):
    request, count, responds = KINDS[kind]
    # An endless response occupies the one worker: such clients come one after the other.
    group = 1 if request is NEVER_READS_A_STREAM else GROUP
    server = serve(APP)
    (worker,) = server.worker_pids()
    assert server.get()[2] == b"quick"
    before = len(descriptors(worker))
    for first in range(0, count, group):
        clients = [begin(server, request, responds) for _ in range(min(group, count - first))]
        for number, client in enumerate(clients):
            go_away(client, rudely=number % 2 == (first // group) % 2)

    assert server.get()[2] == b"quick"
    wait_until(lambda: 0 < len(descriptors(worker)) <= before, "the worker to close them all")
    assert server.get("/", "POST", body=b"and a body")[2] == b"and a body"
    assert server.worker_pids() == [worker]
    assert server.log.count(r" (error|critical): ") == 0
    assert server.stop() == 0


EVENTS = """
    import time

    def events():
        number = 0
        try:
            while True:
                yield f"data: {number}\\n\\n".encode()
                number += 1
                time.sleep(0.02)
        finally:
            print("closed after", number, flush=True)

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return events() if environ["PATH_INFO"] == "/events" else [b"quick"]
"""


@pytest.mark.parametrize("rudely", [False, True])
def test_a_stream_of_events_ends_with_its_client(serve, rudely):
    """What it sends is little, so that no buffer ever fills: only the client's end can end it."""
    server = serve(EVENTS)
    client = server.connect()
    client.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    received = b""
    while b"data: 3\n" not in received:
        received += client.recv(1000)
    go_away(client, rudely)
    server.out.wait("^closed after")
    assert server.get()[2] == b"quick"
    assert server.log.count(r" (warning|error): ") == 0
