"""The last answer of a connection arrives whole, whatever happens to the connection then."""

import os

import pytest
from harness import Segments, read_all, segments, wait_until

pytestmark = pytest.mark.every_class("sync", "threads", "async")

APP = """
    import os
    import time

    def app(environ, start_response):
        path, size = environ["PATH_INFO"], int(environ["QUERY_STRING"])
        if path == "/wait":
            print("begun", flush=True)
            while not os.path.exists("go"):
                time.sleep(0.01)
        if path == "/fork" and os.fork() == 0:
            open("fifo").close()
            os._exit(0)
        start_response("200 OK", [("Content-Length", str(size))])
        return [b"x" * size]
"""


@pytest.mark.parametrize("size", [4, 200_000])
def test_what_the_client_writes_after_its_last_request_costs_it_no_answer(serve, size):
    """A line break after the body of a POST, as some old clients send (RFC 9112, section 2.2)."""
    server = serve(APP)
    with server.connect() as client:
        client.sendall(f"POST /wait?{size} HTTP/1.0\r\nContent-Length: 1\r\n\r\nx".encode())
        server.out.wait("^begun")
        client.sendall(b"\r\n")
        wait_until(lambda: segments(client, Segments.UNACKED) == 0, "the kernel to take it")
        server.write("go", "")
        assert read_all(client).endswith(b"\r\n\r\n" + b"x" * size)


def test_its_end_waits_for_no_child_of_the_application(serve):
    """The child has the connection, too, and a close in the worker alone ends nothing."""
    server = serve(APP)
    os.mkfifo(server.cwd / "fifo")
    with server.connect() as client:
        client.sendall(b"GET /fork?4 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert read_all(client).endswith(b"\r\n\r\nxxxx")
        open(server.cwd / "fifo", "w").close()
