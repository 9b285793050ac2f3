"""WebSockets under WSGI: the application takes its connection over, as the ecosystem does it."""

import os
import queue
import signal
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
def test_a_message_that_no_buffer_holds_arrives_whole(serve):
    server = serve(FLASK_SOCK)
    client = Client(url(server, "/echo"), max_message_size=50_000_000)
    big = "x" * 5_000_000 + "y" * 5_000_000
    client.send(big)
    assert client.receive(timeout=30) == big.upper()


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


@pytest.mark.every_class("threads", "async")
def test_a_connection_that_was_taken_over_has_no_time_limit(serve):
    server = serve(
        """
        import time

        def app(environ, start_response):
            connection = environ["werkzeug.socket"]
            connection.sendall(b"taken")
            time.sleep(2.5)
            connection.sendall(b" still")
            return []
        """,
        *("--request-timeout", "0.5"),
    )
    with server.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        assert read_all(client) == b"taken still"
    assert server.log.count("over its time") == 0


@pytest.mark.every_class("async")
def test_a_connection_that_was_taken_over_is_named_if_it_keeps_all_others_waiting(serve):
    server = serve(
        """
        import time

        def app(environ, start_response):
            environ["serve.extend_timeout"](60)
            connection = environ["werkzeug.socket"]
            connection.sendall(b"taken")
            while True:
                pass
        """,
        *("--timeout", "2"),
    )
    (worker,) = server.worker_pids()
    with server.connect() as client:
        client.sendall(
            b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
        )
        assert read_all(client) == b"taken"
    server.log.wait(r'warning: .*request="GET /chat" .*: has kept all others waiting for')
    server.log.wait(r'request="GET /chat" .*: over its time \(timeout\), ended')
    assert server.log.count(" is stuck: ") == 0
    assert server.worker_pids() == [worker]


@pytest.mark.every_class("async")
def test_a_worker_that_dies_is_known_by_the_connection_that_was_taken_over_first(serve):
    server = serve(
        """
        import time

        def app(environ, start_response):
            if environ["PATH_INFO"] == "/chat":
                environ["werkzeug.socket"].sendall(b"taken")
                time.sleep(600)
            while environ["PATH_INFO"] == "/first" and not globals().get("second"):
                print("first", flush=True)
                time.sleep(0.1)
            globals()["second"] = True
            start_response("200 OK", [])
            return [b"answer"]
        """
    )
    (worker,) = server.worker_pids()
    with server.connect() as first, server.connect() as client:
        first.sendall(b"GET /first HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        server.out.wait("^first$")
        client.sendall(
            b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
        )
        assert client.recv(5) == b"taken"
        assert server.get("/second")[2] == b"answer"
        assert read_all(first).endswith(b"answer")
        # The end of one request is noted before the next one begins.
        assert server.get("/second")[2] == b"answer"
        os.kill(worker, signal.SIGKILL)
        server.log.wait(rf'pid={worker} .*died.* request="GET /chat" for=')


@each_class
def test_only_a_sync_worker_warns(serve):
    server = serve(RAW)
    for _ in range(2):
        with server.connect() as client:
            client.sendall(UPGRADE % b"/take" + b"12345678")
            assert read_all(client) == b"raw 12345678"
    assert server.stop() == 0
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


# ---- the end of a worker

#: Says how a connection ended for it. Its modules are those of the class.
TALK = """
    import time
    from flask import Flask
    from flask_sock import Sock
    from simple_websocket import ConnectionClosed

    app = Flask(__name__)
    sock = Sock(app)

    def talks(handler):
        def talk(ws):
            try:
                handler(ws)
            except ConnectionClosed as closed:
                print("closed", int(closed.reason), flush=True)
        sock.route("/" + handler.__name__, endpoint=handler.__name__)(talk)

    @talks
    def listen(ws):
        while True:
            ws.send(ws.receive())

    @talks
    def push(ws):
        while True:
            ws.send("x" * 1000)
            time.sleep(0.001)

    @talks
    def load(ws):
        ws.send("x" * 6_000_000)
        ws.receive()
"""

GOODBYE = bytes.fromhex("8802 03e9")
#: What a client has to say to that; its mask is zero.
ANSWER = bytes.fromhex("8882 00000000 03e9")


def shake_hands(server, path):
    """A client that does nothing by itself."""
    client = server.connect()
    key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    head = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}"
    client.sendall(head.encode() + b"\r\n\r\n")
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        piece = client.recv(1)
        assert piece, answer
        answer += piece
    return client


def end(server, how):
    """Has the worker go; returns when it has heard of it."""
    server.signal({"reload": signal.SIGHUP, "stop": signal.SIGTERM, "quit": signal.SIGINT}[how])
    server.log.wait({"reload": "gen=2 ready in=", "stop": ": stopping", "quit": "at once"}[how])


@each_class
@pytest.mark.parametrize(
    ("path", "how"),
    [("/listen", "reload"), ("/listen", "stop"), ("/listen", "quit"), ("/push", "stop")],
)
def test_a_client_is_told_goodbye_before_its_worker_ends(serve, path, how):
    server = serve(TALK, "--graceful-timeout", "9")
    client = Client(url(server, path))
    client.send("here")
    assert client.receive(timeout=30)
    end(server, how)
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            assert client.receive(timeout=30)
    assert closed.value.reason == 1001
    assert how == "quit" or server.out.wait("closed")
    if how == "reload":
        server.log.wait("gen=1 left")
        assert server.get("/")[0] == 404
    assert server.stop() == 0
    assert server.log.count(" error: |killed") == 0


@each_class
def test_the_answer_to_a_goodbye_reaches_the_application(serve):
    server = serve(TALK, "--graceful-timeout", "9")
    with shake_hands(server, "/listen") as client:
        end(server, "stop")
        assert client.recv(4) == GOODBYE
        client.sendall(ANSWER)
        server.out.wait("closed 1001")
        assert client.recv(10) == b"", "the application's own goodbye came second"
    assert server.wait() == 0


@each_class
def test_who_does_not_answer_a_goodbye_ends_all_the_same(serve):
    server = serve(TALK, "--graceful-timeout", "9")
    with shake_hands(server, "/listen") as client:
        end(server, "stop")
        assert read_all(client) == GOODBYE
        server.out.wait("closed 1005")
    assert server.wait() == 0
    assert server.log.count(" error: ") == 0


@each_class
def test_a_goodbye_waits_for_the_end_of_a_frame(serve):
    server = serve(TALK, "--graceful-timeout", "12", "--log-level", "debug")
    with shake_hands(server, "/load") as client:
        end(server, "stop")
        server.log.wait("WebSockets are told that the worker ends")
        received = read_all(client)
    frame = b"\x81\x7f" + (6_000_000).to_bytes(8, "big") + b"x" * 6_000_000
    assert (received[:-4] == frame, received[-4:]) == (True, GOODBYE)
    assert server.wait() == 0


def test_a_request_that_ends_while_its_worker_waits_for_a_frame_is_in_the_access_log(serve):
    source = """
        import socket, threading

        HANDSHAKE = b"HTTP/1.1 101 Switching Protocols\\r\\n\\r\\n"
        HEAD = (
            "GET /talk HTTP/1.1", "Host: a", "Connection: Upgrade", "Upgrade: websocket",
            "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", "",
        )

        def app(environ, start_response):
            path = environ["PATH_INFO"]
            if path == "/ends":
                with socket.create_connection(("127.0.0.1", environ["SERVER_PORT"])) as client:
                    client.sendall("\\r\\n".join(HEAD).encode())
                    assert client.recv(len(HANDSHAKE), socket.MSG_WAITALL) == HANDSHAKE
                    print("begun")
                    client.recv(1)  # The goodbye.
            if path in ("/", "/ends"):
                start_response("200 OK", [("Content-Length", "0")])
                return []
            if path in ("/frame", "/talk"):
                begun = HANDSHAKE + (b"\\x81" if path == "/frame" else b"")
                environ["werkzeug.socket"].sendall(begun)
            threading.Event().wait()
    """
    server = serve(source, "-k", "threads", "--threads", "3", "--access-logfile", "access.log")
    with server.connect() as next_one, server.connect() as client:
        next_one.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert next_one.recv(12) == b"HTTP/1.1 200"
        with shake_hands(server, "/frame"):
            client.sendall(b"GET /ends HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            server.out.wait("^begun")
            # Its thread goes on with that.
            next_one.sendall(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
            end(server, "quit")
            assert read_all(client).startswith(b"HTTP/1.1 200 OK")
            assert server.wait() == 0
    assert "GET /ends" in (server.cwd / "access.log").read_text()


LISTENING = """
    def app(environ, start_response):
        connection = environ["werkzeug.socket"]
        connection.sendall(b"here")
        while data := connection.recv(100):
            connection.sendall(data)
        print("the end", flush=True)
        return []
"""


@each_class
def test_another_protocol_only_finds_the_end_of_its_input(serve):
    server = serve(LISTENING, "--graceful-timeout", "9")
    with server.connect() as client:
        client.sendall(UPGRADE % b"/")
        assert client.recv(4) == b"here"
        end(server, "stop")
        assert read_all(client) == b""
        server.out.wait("the end")
    assert server.wait() == 0
    assert server.log.count(" error: ") == 0


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
