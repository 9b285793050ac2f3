"""nginx in front of a server, with the configuration that examples/deploy recommends."""

import shutil
import sys

import pytest
from harness import ROOT, Server

sys.path.append(str(ROOT / "tests" / "process"))

from proxies import Nginx


@pytest.fixture
def proxy_to(tmp_path):
    """`proxy_to(upstream, change=...)` is an Nginx."""
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed (Debian: nginx-light)")
    return lambda upstream, **more: Nginx(tmp_path, upstream, **more)


@pytest.fixture
def nginx(proxy_to):
    """`nginx(server, change=...)` is an Nginx in front of a server, by TCP or unix socket."""

    def make(server, **more):
        if server.listener is not None:
            upstream = "{}:{}".format(*server.address)
        else:
            upstream = f"unix:{server.cwd / 'app.sock'}"
        return proxy_to(upstream, **more)

    return make


@pytest.fixture(params=["tcp", "unix"])
def served(request):
    """`served(app, *options)` is a server that listens on TCP or on a unix socket."""

    def make(app, *options, workers=2):
        if request.param == "tcp":
            return Server(app, *options, workers=workers)
        return Server(app, "-b", "unix:app.sock", *options, workers=workers, bind=False)

    return make
