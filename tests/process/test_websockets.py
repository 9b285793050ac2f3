"""WebSockets under WSGI: the application takes its connection over, as the ecosystem does it."""

import queue
import socket

import pytest
from harness import read_all, wait_until
from simple_websocket import Client, ConnectionClosed

#: Under each class of workers, but for what says otherwise.
each_class = pytest.mark.every_class("sync", "threads", "async")

FLASK_SOCK = """
    from flask import Flask
    from flask_sock import Sock

    app = Flask(__name__)
    app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": 25}
    sock = Sock(app)

    @app.route("/")
    def index():
        return "index"

    @sock.route("/echo")
    def echo(ws):
        while (text := ws.receive()) != "bye":
            ws.send(text.upper())
"""

#: Takes the connection at /take, and only shows it elsewhere.
RAW = """
    import socket

    def app(environ, start_response):
        connection = environ.get("werkzeug.socket")
        assert connection is environ.get("gunicorn.socket")
        path = environ["PATH_INFO"]
        if path == "/has":
            body = repr(connection).encode()
        elif path.startswith("/take"):
            assert isinstance(connection, socket.socket)
            # Small reads: what came with the request must not be lost, nor its order.
            data = b""
            while len(data) < 8:
                data += connection.recv(3)
            connection.sendall(b"raw " + data)
            if path == "/take/stop":
                raise StopIteration
            if path == "/take/broken":
                raise ConnectionError
            if path == "/take/nothing":
                return []
            body = b"never sent"
        else:
            body = b"ordinary"
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
"""


def url(server, path):
    return "ws://{}:{}{}".format(*server.address, path)


@each_class
def test_flask_sock(serve):
    server = serve(FLASK_SOCK)
    client = Client(url(server, "/echo"))
    for number in range(20):
        client.send(f"text {number}")
        assert client.receive(timeout=30) == f"TEXT {number}"
    big = "x" * 300_000
    client.send(big)
    assert client.receive(timeout=30) == big.upper()
    client.send("bye")
    with pytest.raises(ConnectionClosed):
        client.receive(timeout=30)
    assert server.get("/")[2] == b"index"
    assert server.log.count(" error: ") == 0
    assert server.stop() == 0


@each_class
def test_a_client_that_goes_frees_its_slot(serve):
    server = serve(FLASK_SOCK)
    for _ in range(6):
        client = Client(url(server, "/echo"))
        client.send("a")
        assert client.receive(timeout=30) == "A"
        client.sock.shutdown(socket.SHUT_RDWR)
    assert server.get("/")[2] == b"index"


UPGRADE = b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n"


@each_class
@pytest.mark.parametrize("path", [b"/take", b"/take/stop", b"/take/broken", b"/take/nothing"])
def test_what_came_with_the_request_is_read_and_nothing_is_written_after(serve, path):
    server = serve(RAW)
    with server.connect() as client:
        client.sendall(UPGRADE % path + b"early")
        client.sendall(b"and")
        assert read_all(client) == b"raw earlyand"
    assert server.get("/")[2] == b"ordinary"
    assert server.log.count(" error: ") == 0


@each_class
def test_a_connection_that_is_not_used_stays_the_servers(serve):
    server = serve(RAW)
    with server.connect() as client:
        for _ in range(3):
            client.sendall(UPGRADE % b"/has")
            answer = b""
            while b"to take>" not in answer:
                piece = client.recv(1000)
                assert piece, answer
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert server.get("/has")[2] == b"None"


@each_class
def test_only_a_sync_worker_warns(serve):
    server = serve(RAW)
    for _ in range(2):
        with server.connect() as client:
            client.sendall(UPGRADE % b"/take" + b"12345678")
            assert read_all(client) == b"raw 12345678"
    warnings = server.log.count("warning: .*WebSocket.*use the class threads")
    assert warnings == (0 if "-k" in server.arguments else 1)


@each_class
def test_a_reload_waits_for_it(serve):
    server = serve(FLASK_SOCK, "--graceful-timeout", "30")
    client = Client(url(server, "/echo"))
    client.send("a")
    assert client.receive(timeout=30) == "A"
    server.signal(1)
    server.log.wait("gen=2 ready in=")
    client.send("still here")
    assert client.receive(timeout=30) == "STILL HERE"
    client.send("bye")
    with pytest.raises(ConnectionClosed) as closed:
        client.receive(timeout=30)
    assert closed.value.reason == 1000, "the close frame was lost"
    server.log.wait("gen=1 left")


@pytest.mark.every_class("threads", "async")
def test_others_are_served_beside_many_of_them(serve):
    server = serve(FLASK_SOCK, "--threads", "30")
    sockets = [Client(url(server, "/echo")) for _ in range(20)]
    for number, client in enumerate(sockets):
        client.send(f"from {number}")
    assert server.get("/")[2] == b"index"
    for number, client in enumerate(sockets):
        assert client.receive(timeout=30) == f"FROM {number}"
        client.send("bye")
    assert server.get("/")[2] == b"index"


# ---- Socket.IO

SOCKET_IO = """
    from flask import Flask, request
    from flask_socketio import SocketIO

    app = Flask(__name__)
    io = SocketIO(app, async_mode="{mode}")

    @io.on("say")
    def say(text):
        io.emit("said", [request.sid, text])
        return "heard " + text

    @io.on("disconnect")
    def left(reason):
        print("left", flush=True)
"""


#: Not in requirements.txt, since two of the packages that it needs are under the MPL.
SOCKET_IO_NEEDS = "pip install flask-socketio 'python-socketio[client]', to test Socket.IO"


class Talker:
    """A client of Socket.IO, and what it has heard."""

    def __init__(self, server, transports):
        import socketio  # noqa: PLC0415 - see SOCKET_IO_NEEDS

        self.client = socketio.Client(reconnection=False)
        self.heard = queue.Queue()
        self.client.on("said", self.heard.put)
        self.client.connect("http://{}:{}".format(*server.address), transports=transports)

    def hears(self, text):
        return self.heard.get(timeout=30)[1] == text


@pytest.mark.every_class("threads", "async")
@pytest.mark.parametrize("transports", [["websocket"], ["polling"], ["polling", "websocket"]])
def test_socket_io(serve, transports):
    """The usual client: over a WebSocket, over long polls, and first one and then the other."""
    pytest.importorskip("flask_socketio", reason=SOCKET_IO_NEEDS)
    pytest.importorskip("socketio", reason=SOCKET_IO_NEEDS)
    modes = {"threads": "threading", "async": "gevent"}
    server = serve(SOCKET_IO.format(mode=modes[serve.klass]), "--threads", "16")
    talkers = [Talker(server, transports) for _ in range(3)]
    if "websocket" in transports:
        wait_until(
            lambda: all(it.client.transport() == "websocket" for it in talkers), "an upgrade"
        )
    for number, talker in enumerate(talkers):
        assert talker.client.call("say", f"{number}", timeout=30) == f"heard {number}"
        assert all(other.hears(f"{number}") for other in talkers)
    for talker in talkers:
        talker.client.disconnect()
    server.out.wait("^left$", count=3)
    assert server.log.count(r" (warning|error): ") == 0, server.log.text()
    assert server.stop() == 0
