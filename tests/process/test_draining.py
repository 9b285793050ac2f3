"""--drain-delay: after TERM the server serves on, until a load balancer has noticed."""

import os
import signal
import time

import pytest
from servers import WHO

pytestmark = pytest.mark.every_class("sync", "threads", "async")

DRAINS = r"SIGTERM.*: serving on for {} \(drain-delay\), then stopping"


def test_the_server_accepts_during_the_delay_and_a_second_term_ends_it(serve):
    server = serve(WHO, "--drain-delay", "600")
    (worker,) = server.worker_pids()
    server.signal(signal.SIGTERM)
    server.log.wait(DRAINS.format("600s"))
    kept = server.http()
    for _ in range(3):
        kept.request("GET", "/")
        response = kept.getresponse()
        assert int(response.read()) == worker
        assert response.headers["Connection"] != "close", "nobody is sent away yet"
    kept.close()
    assert server.served_by() == worker
    assert server.stop() == 0
    assert server.log.count("stopping, requests in flight are finished") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_end_the_delay(serve, number):
    server = serve(WHO, "--drain-delay", "600")
    server.signal(signal.SIGTERM)
    server.log.wait(DRAINS.format("600s"))
    assert server.stop(number) == 0


def test_the_delay_ends_by_itself(serve):
    server = serve(WHO, "--drain-delay", "0.5")
    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert time.monotonic() - begun >= 0.5
    server.log.wait(DRAINS.format("0.5s"))
    server.log.wait(r"the drain delay is over: stopping")
    server.still_alone()


def test_nothing_else_is_begun_during_the_delay(serve):
    server = serve(WHO, "--drain-delay", "600")
    server.signal(signal.SIGTERM)
    server.log.wait(DRAINS.format("600s"))
    for name in ("SIGHUP", "SIGTTIN", "SIGTTOU", "SIGWINCH", "SIGUSR2"):
        server.signal(signal.Signals[name])
        server.log.wait(rf"{name}.*: ignored, the server is stopping")
    server.served_by()
    assert server.stop() == 0
    assert server.log.count("ready in=") == 1


def test_a_worker_that_dies_during_the_delay_is_replaced(serve):
    server = serve(WHO, "--drain-delay", "600")
    (worker,) = server.worker_pids()
    server.signal(signal.SIGTERM)
    server.log.wait(DRAINS.format("600s"))
    os.kill(worker, signal.SIGKILL)
    server.log.wait(r"ready in=", count=2)
    assert server.served_by() != worker
    assert server.stop() == 0
