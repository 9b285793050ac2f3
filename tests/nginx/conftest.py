"""nginx in front of a server, with the configuration that examples/deploy recommends."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from harness import PATIENCE, ROOT, Log, Server, wait_until

sys.path.append(str(ROOT / "tests" / "process"))

RECOMMENDED = ROOT / "examples" / "deploy" / "nginx" / "serve.conf"

#: What Debian's package is compiled with leads to folders of root.
FRAME = """
worker_processes 2;
pid {place}/nginx.pid;
error_log stderr notice;
{user}
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    include {place}/serve.conf;
}}
"""


class Nginx:
    """An nginx; `upstream` is what it passes requests on to, as its `server` directive has it."""

    def __init__(self, place, upstream, change=lambda text: text):
        # An address of its own in 127.0.0.0/8 needs no port that nobody else has.
        pid = os.getpid()
        self.address = (f"127.{64 + (pid >> 16 & 63)}.{pid >> 8 & 255}.{pid & 255}", 8080)
        self.place = Path(place)
        self._change = change
        self._configure(upstream)
        user = "user root;" if os.getuid() == 0 else ""
        (self.place / "nginx.conf").write_text(FRAME.format(place=self.place, user=user))
        self.process = None

    def _configure(self, upstream):
        text = RECOMMENDED.read_text()
        text = text.replace("server 127.0.0.1:8000;", f"server {upstream};")
        text = text.replace("listen 80;", "listen {}:{};".format(*self.address))
        assert upstream in text and self.address[0] in text
        (self.place / "serve.conf").write_text(self._change(text))

    def __enter__(self):
        command = ["nginx", "-p", self.place, "-c", self.place / "nginx.conf"]
        self.process = subprocess.Popen(
            [*command, "-g", "daemon off;"], stderr=subprocess.PIPE, text=True, errors="replace"
        )
        self.log = Log(self.process.stderr)
        wait_until(self._accepts, "nginx to listen")
        return self

    def __exit__(self, *exception):
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.log.drain()
        self.process.stderr.close()

    def _accepts(self):
        assert self.process.poll() is None, self.log.text()
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(self.address).close()
            return True

    def workers(self):
        """Pids of its worker processes."""
        pid = self.process.pid
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def pass_to(self, upstream):
        """Passes requests on to another upstream, and waits until nothing goes to the old one."""
        old = self.workers()
        self._configure(upstream)
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not old & self.workers(), "nginx to reload")

    def http(self):
        return http.client.HTTPConnection(*self.address, timeout=PATIENCE)


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
