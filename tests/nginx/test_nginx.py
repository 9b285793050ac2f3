"""The server behind nginx, as examples/deploy has it: nothing is lost and nothing delayed."""

import hashlib
import json
import os
import signal

import pytest
from harness import CLASSES, PATIENCE, Server, wait_until
from load import Load
from simple_websocket import Client, ConnectionClosed

APP = """
    import hashlib, json, os

    def app(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/upload":
            body = hashlib.sha256(environ["wsgi.input"].read()).hexdigest().encode()
        elif path == "/stream":
            start_response("200 OK", [("X-Accel-Buffering", "no")])
            return stream()
        else:
            told = {k: v for k, v in environ.items() if isinstance(v, str)}
            body = json.dumps(told).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    def stream():
        yield b"first"
        open("gate").close()
        yield b"last"
"""


#: With simple-websocket itself: what Flask-Sock does with it is tested in tests/process.
ECHO = """
    from simple_websocket import ConnectionClosed, Server

    def app(environ, start_response):
        if environ["PATH_INFO"] != "/echo":
            start_response("200 OK", [("Content-Length", "5")])
            return [b"hello"]
        socket = Server.accept(environ)
        try:
            while (text := socket.receive()) != "bye":
                socket.send(f"{environ['HTTP_X_FORWARDED_FOR']} {text}")
            socket.close()
        except ConnectionClosed:
            pass
        return []
"""


def environ(client, **headers):
    client.request("GET", "/", headers={name.replace("_", "-"): v for name, v in headers.items()})
    answer = client.getresponse()
    assert answer.status == 200
    return json.loads(answer.read())


def test_connections_between_nginx_and_the_server_are_kept(nginx):
    with Server(APP) as server, nginx(server) as proxy:
        client = proxy.http()
        ports = {environ(client)["REMOTE_PORT"] for _ in range(50)}
        client.close()
    # One for each of nginx's workers at most.
    assert len(ports) <= 2


def test_the_application_learns_who_asked_for_what(served, nginx):
    with served(APP) as server, nginx(server) as proxy:
        client = proxy.http()
        told = environ(client, Host="example.org:8080", X_Forwarded_For="192.0.2.7")
        client.close()
    assert told["HTTP_HOST"] == "example.org:8080"
    assert told["HTTP_X_FORWARDED_FOR"] == "192.0.2.7, 127.0.0.1" or told[
        "HTTP_X_FORWARDED_FOR"
    ].startswith("192.0.2.7, 127.")
    assert told["HTTP_X_FORWARDED_PROTO"] == "http"
    assert len(told["HTTP_X_REQUEST_ID"]) == 32


def test_the_client_is_nginx_s_client_and_not_whom_it_claims_to_be(served, nginx):
    with served(APP, "--trust-forwarded", "1") as server, nginx(server) as proxy:
        client = proxy.http(source="127.0.0.9")
        told = environ(client, Host="example.org:8080", X_Forwarded_For="192.0.2.7")
        client.close()
    assert (told["REMOTE_ADDR"], told["wsgi.url_scheme"]) == ("127.0.0.9", "http")
    assert (told["HTTP_HOST"], told["SERVER_NAME"]) == ("example.org:8080", "example.org")


@pytest.mark.parametrize("buffering", ["off", "on"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_large_upload_arrives_whole(served, nginx, buffering, chunked):
    setting = "proxy_request_buffering"
    data = os.urandom(1 << 20) * 8

    def change(text):
        assert f"{setting} off;" in text
        return text.replace(f"{setting} off;", f"{setting} {buffering};")

    with served(APP) as server, nginx(server, change=change) as proxy:
        client = proxy.http()
        pieces = (data[at : at + 65536] for at in range(0, len(data), 65536))
        client.request(
            "POST",
            "/upload",
            body=pieces if chunked else data,
            encode_chunked=chunked,
            headers={"Transfer-Encoding": "chunked"} if chunked else {},
        )
        answer = client.getresponse()
        assert (answer.status, answer.read().decode()) == (200, hashlib.sha256(data).hexdigest())
        client.close()


def test_a_stream_arrives_as_it_is_sent(served, nginx):
    with served(APP) as server, nginx(server) as proxy:
        os.mkfifo(server.cwd / "gate")
        client = proxy.http()
        client.request("GET", "/stream")
        answer = client.getresponse()
        assert answer.read(5) == b"first"
        os.close(os.open(server.cwd / "gate", os.O_WRONLY))
        assert answer.read() == b"last"
        client.close()


def both_reload(proxy, server, generation):
    """Both at once; returns when nothing is left of what nginx was, and new code serves."""
    workers = proxy.workers()
    proxy.process.send_signal(signal.SIGHUP)
    server.signal(signal.SIGHUP)
    server.log.wait(rf"gen={generation} serves")
    return workers


@pytest.mark.parametrize("klass", CLASSES)
def test_both_reload_at_once_and_nobody_gets_a_502(served, nginx, klass):
    with served(APP, *CLASSES[klass]) as server, nginx(server) as proxy:
        # nginx itself closes idle connections of its clients when it reloads.
        with Load(proxy, kept_alive=False) as load:
            for generation in (2, 3, 4):
                workers = both_reload(proxy, server, generation)
                wait_until(lambda: not workers & proxy.workers(), "nginx to reload")  # noqa: B023
                load.wait_for_answers(100)
        load.report("both reload")
        assert not load.failures


def test_a_websocket_passes_and_outlives_it_when_both_reload(served, nginx):
    with served(ECHO, *CLASSES["threads"]) as server, nginx(server) as proxy:
        client = Client("ws://{}:{}/echo".format(*proxy.address))

        def echoes(text):
            client.send(text)
            return client.receive(timeout=PATIENCE).partition(" ")[2] == text

        assert echoes("hello") and echoes("x" * 300_000)
        both_reload(proxy, server, 2)
        assert echoes("still here")
        client.send("bye")
        with pytest.raises(ConnectionClosed):
            client.receive(timeout=PATIENCE)
        server.log.wait(r"gen=1 left", count=2)
        assert status_of(proxy) == 200
        assert server.log.count(" error: ") == 0


def status_of(proxy):
    client = proxy.http()
    client.request("GET", "/")
    status = client.getresponse().status
    client.close()
    return status


def test_workers_that_are_recycled_cost_nobody_a_502(served, nginx):
    options = ["--max-requests", "100", "--max-requests-jitter", "50"]
    with served(APP, *options) as server, nginx(server) as proxy:
        with Load(proxy) as load:
            server.log.wait(r"left", count=5)
        load.report("recycling behind nginx")
        assert not load.failures
