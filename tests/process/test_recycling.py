"""Workers that are replaced although they are well: each setting, through the command line."""

import re
import signal

import pytest
from harness import wait_until
from servers import WHO

pytestmark = pytest.mark.every_class("sync", "threads", "async")

TIRED = r"worker=\d+ pid={} gen=1 is to be replaced: "


def successor(server, worker):
    """Waits until `worker` has gone, and returns who serves now."""
    server.log.wait(rf"pid={worker} gen=1 left$")
    new = server.served_by()
    assert new != worker
    return new


# ---- max_requests


def requests_until_tired(server):
    """How many requests the one worker serves until it asks for a successor."""
    worker = server.served_by()
    count = 1
    while not server.log.count(TIRED.format(worker)):
        # The successor is there as soon as it can be.
        if server.served_by() != worker:
            break
        count += 1
    successor(server, worker)
    return count


def test_max_requests(serve):
    server = serve(WHO, "--max-requests", "30")
    (worker,) = server.worker_pids()
    for _ in range(29):
        assert server.served_by() == worker
    assert server.log.count("is to be replaced") == 0
    assert server.served_by() == worker
    server.log.wait(TIRED.format(worker) + r"it has served its requests \(max-requests\)")
    successor(server, worker)
    assert server.log.count(" (warning|error): ") == 0


def test_max_requests_jitter_spreads_the_replacements(serve):
    server = serve(WHO, "--max-requests", "1", "--max-requests-jitter", "400")
    counts = [requests_until_tired(server) for _ in range(8)]
    # Eight of 401 numbers, all within forty of each other: once in a million runs. Without jitter
    # they differ by how long the news takes.
    assert max(counts) - min(counts) > 40, counts


# ---- max_worker_age


def test_max_worker_age_replaces_all_workers_one_by_one(serve):
    server = serve(WHO, "--max-worker-age", "1", workers=2)
    old = server.worker_pids()
    for worker in old:
        age = server.log.wait(TIRED.format(worker) + r"age=(\S+)s \(max-worker-age\)")[1]
        assert float(age) >= 1
        successor(server, worker)
    # Who is there beside the two that are wanted is the successor of one that leaves.
    alive = most = 0
    for line in server.log.lines:
        alive += bool(re.search(r"worker=\d+ .*ready in=", line))
        alive -= bool(re.search(r"worker=\d+ .* left$", line))
        most = max(most, alive)
    assert most == 3
    assert server.log.count(" (warning|error): ") == 0


# ---- max_rss

LEAKING = """
    import os

    LEAK = []

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/leak":
            LEAK.append(b"x" * 200_000_000)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""


def test_max_rss_replaces_the_worker_that_has_grown(serve):
    server = serve(LEAKING, "--max-rss", "150M", workers=2)
    worker = int(server.get("/leak")[2])
    server.log.wait(TIRED.format(worker) + r"rss=\d+MiB of 150MiB \(max-rss\)")
    successor(server, worker)
    assert server.log.count("is to be replaced") == 1, "the other one has not grown"


# ---- max_surge

#: Says that it is imported, and waits: all but the canary, which takes the file first.
NEXT = """
    import os, time

    try:
        os.close(os.open("canary", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        os.write(1, b"importing\\n")  # One write, since several say so at once.
        while not os.path.exists("go"):
            time.sleep(0.005)

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"next"]
"""


@pytest.mark.parametrize("surge", [2, 3])
def test_max_surge_is_how_many_come_up_at_a_time(serve, surge):
    server = serve(WHO, "--max-surge", surge, workers=4)
    server.write("main.py", NEXT)
    server.signal(signal.SIGHUP)
    server.out.wait("importing", count=surge)
    # The canary has replaced one already, so there is one old worker less.
    wait_until(lambda: len(server.workers_of(1)) == 3, "the canary to replace a worker")
    assert server.out.count("importing") == surge
    server.write("go", "")
    server.log.wait(r"gen=2 serves with workers=4; gen=1 leaves")
