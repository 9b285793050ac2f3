"""Proxies in front of a server, as real processes on loopback."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
from pathlib import Path

from harness import PATIENCE, ROOT, Log, wait_until

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


class Proxy:
    """A proxy that runs while this is entered, at an address of its own."""

    def __init__(self, place):
        # An address of its own in 127.0.0.0/8 needs no port that nobody else has.
        pid = os.getpid()
        self.address = (f"127.{64 + (pid >> 16 & 63)}.{pid >> 8 & 255}.{pid & 255}", 8080)
        self.place = Path(place)
        self.command = []
        self.process = None

    def __enter__(self):
        self.process = subprocess.Popen(
            self.command, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        self.log = Log(self.process.stderr)
        wait_until(self._accepts, "the proxy to listen")
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

    def http(self, source=None):
        """A client; `source` is the address that it has."""
        source = source and (source, 0)
        return http.client.HTTPConnection(*self.address, PATIENCE, source)


class Nginx(Proxy):
    """An nginx; `upstream` is what it passes requests on to, as its `server` directive has it."""

    def __init__(self, place, upstream, change=lambda text: text):
        super().__init__(place)
        self._change = change
        self._configure(upstream)
        user = "user root;" if os.getuid() == 0 else ""
        file = self.place / "nginx.conf"
        file.write_text(FRAME.format(place=self.place, user=user))
        self.command = ["nginx", "-p", self.place, "-c", file, "-g", "daemon off;"]

    def _configure(self, upstream):
        text = RECOMMENDED.read_text()
        text = text.replace("server 127.0.0.1:8000;", f"server {upstream};")
        text = text.replace("listen 80;", "listen {}:{};".format(*self.address))
        assert upstream in text and self.address[0] in text
        (self.place / "serve.conf").write_text(self._change(text))

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
