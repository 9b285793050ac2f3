"""Do quick requests wait behind slow ones, while a worker is idle?

    make bench-head-of-line

32 connections are kept open to four sync workers. Every 5 ms one of them asks for something; every
twentieth request takes 200 ms, so that two workers are busy at any time and two are not. What is
measured is how long the quick ones take, beside how late the machine wakes one who only sleeps.
"""

import selectors
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[1] / "process"))

from harness import Server
from load import Lateness

CONNECTIONS = 32
PERIOD = 0.005
SLOW, EVERY = 0.2, 20
SECONDS = 20

APP = """
    import time

    def app(environ, start_response):
        time.sleep(float(environ["QUERY_STRING"] or 0))
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]
"""


def measure(server, seconds=SECONDS):
    """Seconds that each quick request took, sorted."""
    free = [server.connect() for _ in range(CONNECTIONS)]
    asked, times = {}, []
    began = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for connection in free:
            selector.register(connection, selectors.EVENT_READ)
        for number in range(int(seconds / PERIOD)):
            due = began + number * PERIOD
            while (rest := due - time.monotonic()) > 0 or not free:
                for key, _ in selector.select(max(rest, 0)):
                    hear(key.fileobj, asked, times)
                    free.append(key.fileobj)
            slow = number % EVERY == 0
            connection = free.pop(0)
            path = f"/?{SLOW}" if slow else "/"
            asked[connection] = (time.monotonic(), slow)
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    for connection in [*free, *asked]:
        connection.close()
    return sorted(times)


def hear(connection, asked, times):
    answer = connection.recv(4096)
    began, slow = asked.pop(connection)
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\nok"), answer
    if not slow:
        times.append(time.monotonic() - began)


def main():
    with Server(APP, workers=4) as server, Lateness() as lateness:
        times = measure(server)
        for part in (0.5, 0.9, 0.99, 1):
            took = times[int(part * (len(times) - 1))]
            print(f"{part:4.0%} of {len(times)}: {took * 1000:7.2f} ms", end="  ")
        print(f"the machine, 99%: {lateness.of_most(0.99) / 4 * 1000:.2f} ms")


if __name__ == "__main__":
    main()
