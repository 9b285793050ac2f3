"""The fixture of the process tests: servers that end with their test."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1]))

from harness import CLASSES
from servers import WHO, Process


@pytest.fixture
def serve(request):
    """Makes servers: `serve(app, *options, start=True, ...)`. They end with the test.

    Parametrised with the names in CLASSES, it makes servers of that class.
    """
    servers = []
    klass = getattr(request, "param", "sync")

    def make(app=WHO, *options, start=True, **arguments):
        server = Process(app, *CLASSES[klass], *options, **arguments)
        servers.append(server)
        return server.start() if start else server

    make.klass = klass
    yield make
    for server in servers:
        if server.log is not None:
            print(f"--- {' '.join(server.arguments)}\n{server.log.text()}")
        server.close()
