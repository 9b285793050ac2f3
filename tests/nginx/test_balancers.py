"""Balancers that speak no HTTP, and name the client by the PROXY protocol: nginx's and HAProxy."""

import json
import os
import shutil
from pathlib import Path
from signal import SIGHUP

import pytest
from harness import Server
from load import Load
from proxies import Proxy

APP = """
    import json

    def app(environ, start_response):
        told = [environ["REMOTE_ADDR"], int(environ["REMOTE_PORT"])]
        body = json.dumps(told).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
"""

STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

NGINX = """
load_module {stream};
pid {place}/nginx.pid;
error_log stderr notice;
{user}
events {{ worker_connections 512; }}
stream {{
    server {{
        listen {listen};
        proxy_pass {upstream};
        proxy_protocol on;
    }}
}}
"""

HAPROXY = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen app
    bind {listen}
    server app {upstream} {version}
"""


class Nginx(Proxy):
    """nginx without HTTP. It knows version 1 of the protocol only."""

    def __init__(self, place, upstream):
        super().__init__(place)
        user = "user root;" if os.getuid() == 0 else ""
        names = {"stream": STREAM, "place": place, "user": user, "upstream": upstream}
        file = self.place / "nginx.conf"
        file.write_text(NGINX.format(listen="{}:{}".format(*self.address), **names))
        self.command = ["nginx", "-p", self.place, "-c", file, "-g", "daemon off;"]


class HAProxy(Proxy):
    def __init__(self, place, upstream, version):
        super().__init__(place)
        names = {"upstream": upstream, "version": version}
        file = self.place / "haproxy.cfg"
        file.write_text(HAPROXY.format(listen="{}:{}".format(*self.address), **names))
        self.command = ["haproxy", "-db", "-f", file]


@pytest.fixture(params=["nginx", "send-proxy", "send-proxy-v2"])
def balancer(request, tmp_path):
    """`balancer(upstream)` is a balancer, which ends with its `with`."""
    if request.param == "nginx":
        if not (shutil.which("nginx") and STREAM.exists()):
            pytest.skip("nginx has no stream module (Debian: libnginx-mod-stream)")
        return lambda upstream: Nginx(tmp_path, upstream)
    if not shutil.which("haproxy"):
        pytest.skip("haproxy is not installed")
    return lambda upstream: HAProxy(tmp_path, upstream, request.param)


@pytest.fixture
def behind(balancer):
    """`behind()` is a server that trusts the balancer, and that balancer."""

    def make(**more):
        server = Server(APP, "--proxy-protocol", "auto", **more)
        return server, balancer("{}:{}".format(*server.address))

    return make


def test_the_application_learns_who_the_client_is(behind):
    server, balancer = behind()
    with server, balancer:
        client = balancer.http(source="127.0.0.9")
        for _ in range(3):
            client.request("GET", "/")
            answer = client.getresponse()
            assert answer.status == 200
            assert json.loads(answer.read()) == list(client.sock.getsockname())
        client.close()


def test_a_reload_behind_it_loses_no_request(behind):
    server, balancer = behind(workers=2)
    with server, balancer, Load(balancer) as load:
        for generation in (2, 3):
            server.signal(SIGHUP)
            server.log.wait(rf"gen={generation} serves with workers=2")
            load.wait_for_answers(100)
    load.report("reload behind a balancer")
    assert not load.failures
