"""Servers for the applications in `apps`; each is shared by the tests of a module."""

import contextlib
import itertools
import re
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1]))

import wire
from harness import CLASSES, Server

APPS = Path(__file__).parent / "apps"


@pytest.fixture(scope="module")
def serve(request):
    """serve("module:app", *options): a server of an application in `apps`, until the module ends.

    Parametrised with the names in CLASSES, it starts servers of that class.

    Whatever the tests of the module did, no worker may have died of it.
    """
    with contextlib.ExitStack() as stack:
        servers = []
        klass = CLASSES[getattr(request, "param", "sync")]
        if klass:
            # What a request does after its answer is over before the next one begins.
            klass = (*klass, "--threads", "1")

        def start(app, *options, cwd=APPS, **named):
            server = stack.enter_context(Server(None, *klass, *options, cwd=cwd, spec=app, **named))
            server.log.wait(" serves ")  # the last line of a start
            servers.append(server)
            return server

        yield start
        for server in servers:
            assert server.log.count("panicked") == 0, server.log.text()
            assert server.log.count(r"worker=\d+ .*ready") == server.workers, server.log.text()


class Watch:
    """What the server logs during one test."""

    _marks = itertools.count()

    def __init__(self, server):
        self._server = server
        self._since = len(server.log.lines)

    def wait(self, pattern, count=1):
        return self._server.log.wait(pattern, count=count, since=self._since)

    def lines(self):
        """All of them so far: the application writes a mark, and what comes before it counts."""
        mark = f"mark-{next(self._marks)}"
        assert wire.ask(self._server, f"/log?{mark}").status == 200
        self.wait(f"^{mark}$")
        lines = self._server.log.lines[self._since :]
        return [line for line in lines[: lines.index(mark)] if not line.startswith("mark-")]

    def errors(self):
        """The lines of level warning and above, without what Python adds below them."""
        return [line for line in self.lines() if re.search(r"\] (error|warning): ", line)]


@pytest.fixture
def log(server):
    """The log of the module's `server`, from here on. Its application must have `routes.log`."""
    return Watch(server)
