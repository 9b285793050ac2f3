"""Answers that wait for others, so that their clients are woken together."""

import os
import signal

from harness import is_in_state, read_all, wait_until

APP = """
    import os
    import time

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            while not os.path.exists("go"):
                time.sleep(0.01)
        began = time.perf_counter()
        while time.perf_counter() < began + 0.0001:
            pass
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]
"""


def request(path):
    return f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()


def test_no_answer_waits_for_a_slow_request(serve):
    server = serve(APP)
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
