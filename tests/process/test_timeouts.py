"""What happens beside, and to, a request that takes long in a sync worker."""

import os
import re
import signal
import time

import pytest
from harness import Server, embedded, read_all, read_proc, wait_until

#: Says that it has begun, and waits for as long as its query says.
APP = """
    import os, time

    def app(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/slow":
            print("begun", flush=True)
            time.sleep(float(environ["QUERY_STRING"] or 600))
        if path == "/gate":
            print("begun", flush=True)
            open("gate").close()
        body = str(os.getpid()).encode()
        if path == "/big":
            body = b"x" * 30_000_000
        if path == "/length":
            body = str(len(environ["wsgi.input"].read())).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
"""


def request(connection, path, method="GET"):
    connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())


def open_request(server, path):
    connection = server.connect()
    request(connection, path)
    return connection


def head(connection):
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(1)
        assert piece, received
        received += piece
    return received.decode()


def answer(connection):
    """The head and the body of a response that has a length."""
    text = head(connection)
    length = int(re.search(r"Content-Length: (\d+)", text)[1])
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    return text, body


# ---- the relay


def test_a_slow_reader_is_served_while_the_application_is_busy(serve):
    server = serve(APP)
    reader = open_request(server, "/big")
    head(reader)
    busy = open_request(server, "/slow")
    server.out.wait("begun")
    received = 0
    while received < 30_000_000:
        received += len(reader.recv(1 << 20))
    busy.setblocking(False)
    with pytest.raises(BlockingIOError):
        busy.recv(1)


def test_an_upload_is_taken_while_the_application_is_busy(serve):
    server = serve(APP).gate()
    upload = server.connect()
    upload.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n")
    busy = open_request(server, "/gate")
    server.out.wait("begun")
    # Much more than the socket's buffers hold: someone must be reading.
    upload.sendall(b"x" * 50_000_000)
    server.open_gate()
    assert "200 OK" in head(busy)
    assert answer(upload)[1] == b"50000000"


def test_a_queued_request_does_not_keep_the_relay_awake(serve):
    server = serve(APP)
    queued = open_request(server, "/")
    answer(queued)
    busy = open_request(server, "/slow?1.5")
    server.out.wait("begun")
    request(queued, "/")
    (pid,) = server.worker_pids()
    before = cpu_seconds(pid)
    assert "200 OK" in head(busy)
    assert cpu_seconds(pid) - before < 0.3
    assert "200 OK" in answer(queued)[0]


def cpu_seconds(pid):
    return sum(int(text.split()[0]) for text in of_threads(pid, "schedstat")) / 1e9


def of_threads(pid, name):
    """What /proc says of each thread of a process."""
    texts = [read_proc(pid, f"task/{thread}/{name}") for thread in os.listdir(f"/proc/{pid}/task")]
    return [text for text in texts if text is not None]


def test_a_stop_is_heard_while_the_application_is_busy(serve):
    server = serve(APP).gate()
    idle = open_request(server, "/")
    head(idle)
    busy = open_request(server, "/gate")
    server.out.wait("begun")
    server.signal(signal.SIGTERM)
    # The idle connection is closed after its grace, and the request goes on.
    assert read_all(idle).isdigit()
    server.open_gate()
    answer = head(busy)
    assert "200 OK" in answer and "Connection: close" in answer
    assert server.wait() == 0


def test_the_relay_gives_the_reactor_back_at_once(serve):
    """A stream that stops and goes shares the reactor with the relay all the time."""
    server = serve(
        """
        import time

        def app(environ, start_response):
            start_response("200 OK", [])
            waits = []
            for _ in range(100):
                time.sleep(0.004)
                begun = time.perf_counter()
                yield b"x"
                waits.append(time.perf_counter() - begun)
            yield b" %d" % (sorted(waits)[90] * 1e6)
        """
    )
    status, _, body = server.get()
    assert status == 200
    assert body.startswith(b"x" * 100)
    assert int(body.split()[1]) < 20_000, "a piece waited for the relay"


def test_a_worker_without_requests_sleeps(serve):
    server = serve(APP)
    server.get()
    (pid,) = server.worker_pids()

    def switches():
        texts = of_threads(pid, "status")
        return [int(re.search(r"\nvoluntary_ctxt_switches:\t(\d+)", text)[1]) for text in texts]

    assert len(switches()) == 2

    def at_rest():
        before = switches()
        time.sleep(0.1)
        return switches() == before

    wait_until(at_rest, "both threads to sleep")


# ---- timeouts

#: Each path takes too long in its own way.
LATE = """
    import os, re, socket, sys, time
    import serve

    PAIR = socket.socketpair()

    def app(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/sleep":
            time.sleep(600)  # the guilty line
        elif path == "/loop":
            while True:  # the guilty line
                pass
        elif path == "/recv":
            PAIR[0].recv(1)  # the guilty line
        elif path == "/regex":
            re.match(r"(a+)+$", "a" * 40 + "b")  # the guilty line
        elif path == "/deaf":
            sum(iter(int, 1))  # C code that neither ends nor looks at signals
        elif path == "/extended":
            environ["serve.extend_timeout"](30)
            time.sleep(1.2)
        elif path == "/shortened":
            environ["serve.extend_timeout"](0.01)
            time.sleep(600)
        elif path == "/caught":
            try:
                time.sleep(600)
            except serve.RequestTimeout as timeout:
                assert type(timeout) is environ["serve.RequestTimeout"]
                assert not isinstance(timeout, Exception)
                print("cleaned up", flush=True)
                raise
        elif path == "/answered":
            try:
                time.sleep(600)
            except serve.RequestTimeout:
                print("answers", flush=True)
        elif path == "/stream":
            start_response("200 OK", [])
            return stream()
        start_response("200 OK", [])
        return [str(os.getpid()).encode()]

    def stream():
        yield b"first"
        time.sleep(600)  # the guilty line
        yield b"never"
"""


@pytest.mark.parametrize("path", ["/sleep", "/loop", "/recv", "/regex"])
def test_a_late_request_gets_504_and_the_worker_serves_on(serve, path):
    server = serve(LATE, "--timeout", "0.5")
    pid = server.get()[2]
    begun = time.monotonic()
    status, _, _ = server.get(path)
    assert status == 504
    assert time.monotonic() - begun > 0.4
    assert server.get()[2] == pid
    line = server.log.wait(rf'error: worker=1 gen=1 request="GET {path}" client=127\S* age=(\S+)s')
    # After this and the kill grace the master would have ended the worker.
    assert 0.5 <= float(line[1]) < 5.5
    guilty = 1 + textline(server, f'"{path}"')
    server.log.wait(rf'File ".*main.py", line ({guilty}|{guilty + 1}) in app')
    assert server.stop() == 0
    text = server.log.text()
    assert "raised" not in text, "our own way to end a request is no error of the application"
    assert server.log.count("client=127") == 1


def textline(server, text):
    lines = (server.cwd / "main.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_what_cannot_be_interrupted_costs_its_worker(serve):
    server = serve(LATE, "--timeout", "0.5")
    pid = server.get()[2]
    begun = time.monotonic()
    assert server.get("/deaf")[0] == 504
    assert time.monotonic() - begun < 5, "the client does not wait for the kill grace"
    server.log.wait(r'request="GET /deaf"')
    server.log.wait(rf"main.py\", line {1 + textline(server, '/deaf')} in app")
    server.log.wait(r"worker=\d .* ready in=", count=2)
    assert server.get()[2] != pid


def test_an_application_gives_itself_time(serve):
    server = serve(LATE, "--timeout", "0.5")
    assert server.get("/extended")[0] == 200
    assert server.log.count("over its time") == 0


def test_an_application_takes_time_from_itself(serve):
    server = serve(LATE, "--timeout", "100")
    assert server.get("/shortened")[0] == 504
    server.log.wait(r"over its time \(serve\.extend_timeout\)")


@pytest.mark.parametrize("seconds", ["-1", "float('nan')", "'soon'", ""])
def test_an_extension_is_a_number_of_seconds(serve, seconds):
    server = serve(
        f"""
        def app(environ, start_response):
            try:
                environ["serve.extend_timeout"]({seconds})
            except (ValueError, TypeError, IndexError) as error:
                start_response("200 OK", [])
                return [type(error).__name__.encode()]
        """
    )
    assert server.get()[0] == 200


def test_an_application_may_clean_up(serve):
    server = serve(LATE, "--timeout", "0.5")
    assert server.get("/caught")[0] == 504
    server.out.wait("cleaned up")
    assert server.get()[0] == 200
    assert "the application raised" not in server.log.text()


def test_the_answer_of_a_late_application_goes_nowhere(serve):
    server = serve(LATE, "--timeout", "0.5")
    with server.connect() as connection:
        request(connection, "/answered")
        answer = read_all(connection)
    server.out.wait("answers")
    assert answer.startswith(b"HTTP/1.1 504 ") and answer.count(b"HTTP/1.1") == 1
    assert server.get()[0] == 200


def test_a_stream_past_its_time_is_cut(serve):
    server = serve(LATE, "--timeout", "0.5")
    connection = open_request(server, "/stream")
    received = read_all(connection)
    assert b"first" in received
    assert not received.endswith(b"0\r\n\r\n"), "the client must see that it is not complete"
    server.log.wait("line .* in stream")
    assert server.get()[0] == 200


def test_a_stream_that_waits_for_its_reader_is_not_over_its_time(serve):
    """Waiting for a client is what the write timeout is for."""
    server = serve(
        """
        def app(environ, start_response):
            start_response("200 OK", [])
            return [b"x"] if environ["PATH_INFO"] == "/" else endless()

        def endless():
            while True:
                yield b"x" * 100000
        """,
        *("--timeout", "0.3", "--write-timeout", "1"),
    )
    connection = open_request(server, "/endless")
    server.log.wait("client=.* cut: it took nothing of its response in time")
    assert server.get()[0] == 200
    assert server.log.count("over its time") == 0
    connection.close()


def test_a_request_without_a_client_ends_as_well(serve):
    server = serve(LATE, "--timeout", "0.5")
    open_request(server, "/sleep").close()
    server.log.wait(r'request="GET /sleep" client=127\S+ age=\S+s: over its time \(timeout\)')
    assert server.get()[0] == 200


def test_only_the_request_that_is_late_is_told(serve):
    """Requests that end around their deadline: what one is guilty of, no other may suffer."""
    server = serve(
        """
        import time

        def app(environ, start_response):
            body = environ["PATH_INFO"].encode()
            if body == b"/edge":
                environ["serve.extend_timeout"](0.05)
                time.sleep(float(environ["QUERY_STRING"]))
            else:
                # Bytecode, for a late exception to be raised at.
                for _ in range(20000):
                    pass
            start_response("200 OK", [])
            return [body]
        """
    )
    late, sleep = 0, 0.05
    for number in range(60):
        status, _, body = server.get(f"/edge?{sleep}")
        assert (status, body) == (200, b"/edge") or status == 504
        late += status == 504
        # So that it stays at the edge, however late this machine wakes a sleeper.
        sleep = max(0, sleep + (-0.001 if status == 504 else 0.001))
        path = f"/quick/{number}"
        assert server.get(path)[::2] == (200, path.encode())
    assert 0 < late < 60
    # The client has its answer before the log has its line.
    server.log.wait("over its time", count=late)
    assert server.log.count("over its time") == late
    assert "the application raised" not in server.log.text()


#: Where the server has Python run code of its own, this is what that takes long in.
BESIDE = """
    import socket, sys, time

    class Slow:
        '''The first time.'''

        begun = False

        def wait(self):
            if not Slow.begun:
                Slow.begun = True
                print("begun", flush=True)
                for _ in range(60000):  # A thread hears of it in between.
                    time.sleep(0.01)

        def find_spec(self, name, path=None, target=None):
            if name == "socket":
                self.wait()

        def get_source(self, name):
            self.wait()

    broken = {"__loader__": Slow(), "__name__": "broken"}
    exec(compile("def broken(): raise ValueError('the reason')", "broken.py", "exec"), broken)

    def app(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/broken":
            broken["broken"]()
        if path == "/import":
            del sys.modules["socket"]
            sys.meta_path.insert(0, Slow())
        connection = environ.get("gunicorn.socket")
        if path == "/taken":
            connection.sendall(b"raw")
            environ["serve.extend_timeout"](0.5)
            slow(type(connection), environ["QUERY_STRING"])
            return []
        start_response("200 OK", [])
        return [repr(connection).encode()]

    def slow(klass, name):
        own = getattr(klass, name)

        def method(self):
            Slow().wait()
            return own.fget(self) if isinstance(own, property) else own(self)

        setattr(klass, name, property(method) if isinstance(own, property) else method)
"""


@pytest.mark.every_class("sync", "threads", "async")
def test_a_request_whose_time_ends_before_the_application_is_called_is_late(serve):
    server = serve(BESIDE, "--request-timeout", "0.5")
    server.get("/import")
    # Offered as a socket, for which the server imports the module.
    upgrade = {"Connection": "Upgrade", "Upgrade": "raw"}
    assert server.get("/early", headers=upgrade)[0] == 504
    server.out.wait("begun")
    server.log.wait(r'request="GET /early" .*: over its time \(request_timeout\), ended')
    assert server.get("/later", headers=upgrade)[::2] == (200, b"<serve connection to take>")
    assert server.log.count(r" (warning|error): ") == 1, "nobody has failed"


@pytest.mark.every_class("sync", "threads", "async")
def test_an_error_is_told_whole_though_the_time_ends_meanwhile(serve):
    server = serve(BESIDE, "--request-timeout", "0.5")
    assert server.get("/broken")[0] == 504
    server.out.wait("begun")
    server.log.wait(r"the application raised")
    server.log.wait(r'File "broken.py", line 1, in broken')
    server.log.wait("^ValueError: the reason")


@pytest.mark.every_class("sync", "async")
@pytest.mark.parametrize("name", ["taken", "over"])
def test_a_connection_that_was_taken_is_ended_though_the_time_ends_meanwhile(serve, name):
    server = serve(BESIDE)
    with server.connect() as connection:
        connection.sendall(
            f"GET /taken?{name} HTTP/1.1\r\nHost: a\r\n"
            "Connection: Upgrade\r\nUpgrade: raw\r\n\r\n".encode()
        )
        assert read_all(connection) == b"raw"
    server.out.wait("begun")
    server.log.wait(r"client=\S+ age=.*: over its time \(serve\.extend_timeout\), ended")
    assert server.get("/")[0] == 200
    assert server.log.count(" error: ") == 1, "nobody has failed"


@pytest.mark.every_class("sync", "threads", "async")
def test_the_server_does_nothing_twice_because_of_an_ordinary_error(serve):
    server = serve(
        """
        def app(environ, start_response):
            connection = environ["gunicorn.socket"]
            connection.sendall(b"raw")
            own = type(connection).over

            def over(self):
                print("over", flush=True)
                own(self)
                raise ValueError("not the end of the request")

            type(connection).over = over
            return []
        """
    )
    assert server.raw(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    ).startswith(b"raw")
    server.log.wait("error: .*: not the end of the request$")
    assert server.stop() == 0
    assert server.out.count("^over$") == 1


@embedded
def test_the_module_of_the_application_comes_first(serve):
    app = """
        import serve

        def app(environ, start_response):
            start_response("200 OK", [])
            return [f"{serve.__name__} {serve.__version__} {hasattr(serve, 'mine')}".encode()]
    """
    name, version, mine = serve(app).get()[2].split()
    assert (name, mine) == (b"serve", b"False")
    assert re.fullmatch(rb"\d+\.\d+\.\d+", version)
    server = Server(app)
    server.write("serve.py", "mine = True\n__version__ = 'own'\n")
    with server:
        assert server.get()[2] == b"serve own True"


def test_the_signal_is_the_servers(serve):
    server = serve(
        """
        import signal, time

        signal.signal(signal.SIGRTMAX - 2, signal.SIG_IGN)

        def app(environ, start_response):
            time.sleep(600)
        """,
        "--timeout",
        "0.5",
    )
    server.log.wait("handler for SIGRTMAX-2 is ignored")
    assert server.get()[0] == 504


# ---- settings


def test_request_timeout_is_a_timeout_of_its_own(serve):
    server = serve(LATE, "--timeout", "30", "--request-timeout", "0.5")
    assert server.get("/sleep")[0] == 504
    server.log.wait(r"over its time \(request_timeout\)")


def test_a_worker_is_replaced_after_its_requests(serve):
    server = serve(APP, "--max-requests", "20")
    with server.connect() as connection:
        first = [ask(connection) for _ in range(20)]
    assert len(set(first)) == 1
    server.log.wait(r"worker=\d .* ready in=", count=2)
    wait_until(lambda: server.get()[2] not in first, "the successor to serve")


def ask(connection):
    request(connection, "/")
    return answer(connection)[1]
