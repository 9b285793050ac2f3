"""Where logs and metrics go besides a file: JSON lines, syslog, statsd, and captured output."""

import contextlib
import json
import os
import re
import socket
import threading
from signal import SIGTTIN, SIGUSR1

import pytest
from harness import PATIENCE, read_all, wait_until
from servers import WHO

RAISES = """
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/raise":
            raise RuntimeError("no\\nway")
        start_response(environ["QUERY_STRING"] + " OK", [])
        return [b"ok"]
"""


class Ear:
    """A datagram socket, and what it has heard."""

    def __init__(self, kind, address):
        self.socket = socket.socket(kind, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.datagrams = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        with contextlib.suppress(OSError):
            while datagram := self.socket.recv(65536):
                self.datagrams.append(datagram.decode())

    def close(self):
        """Nobody listens any more, which the senders are told."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self.socket.close()

    @property
    def name(self):
        return "{}:{}".format(*self.socket.getsockname())

    @property
    def lines(self):
        return [line for datagram in list(self.datagrams) for line in datagram.split("\n")]

    def wait(self, *patterns):
        for pattern in patterns:
            expression = re.compile(pattern)
            wait_until(
                lambda expression=expression: any(map(expression.search, self.lines)),
                f"{pattern} among {self.lines}",
            )


@pytest.fixture
def ear():
    return Ear(socket.AF_INET, ("127.0.0.1", 0))


# ---- statsd


@pytest.mark.every_class("sync", "threads", "async")
def test_statsd_hears_gunicorn_s_metrics(serve, ear):
    options = ["--statsd-host", ear.name, "--statsd-prefix", "shop", "--dogstatsd-tags", "a:b,c:d"]
    server = serve(RAISES, *options)
    for path, status in [("/?200", 200), ("/?200", 200), ("/?404", 404), ("/raise", 500)]:
        assert server.get(path)[0] == status
    tags = r"\|#a:b,c:d$"
    ear.wait(
        rf"^shop\.gunicorn\.request\.status\.404:1\|c\|@1\.0{tags}",
        rf"^shop\.gunicorn\.request\.status\.500:1\|c\|@1\.0{tags}",
        rf"^shop\.gunicorn\.log\.exception:1\|c{tags}",
        rf"^shop\.gunicorn\.workers:1\|g{tags}",
    )
    assert total(ear, "gunicorn.requests") == 4
    assert total(ear, "gunicorn.request.status.200") == 2
    durations = [line for line in ear.lines if "gunicorn.request.duration:" in line]
    assert len(durations) == 4
    assert all(re.search(rf"duration:\d+\.\d{{3}}\|ms{tags}", line) for line in durations)


def total(ear, name):
    """The sum of a counter."""
    counts = [re.search(rf"\b{re.escape(name)}:(\d+)\|c", line) for line in ear.lines]
    return sum(int(found[1]) for found in counts if found)


def test_statsd_hears_when_the_number_of_workers_changes(serve, ear):
    server = serve(WHO, "--statsd-host", ear.name)
    ear.wait(r"^gunicorn\.workers:1\|g$")
    server.signal(SIGTTIN)
    ear.wait(r"^gunicorn\.workers:2\|g$")


def test_statsd_that_goes_away_costs_no_request_and_one_line(serve, tmp_path):
    ear = Ear(socket.AF_UNIX, str(tmp_path / "statsd"))
    server = serve(WHO, "--statsd-host", f"unix://{tmp_path}/statsd")
    ear.wait("workers:1")
    ear.close()
    for _ in range(5):
        server.served_by()
    server.log.wait(r"worker\[\d+\] warning: statsd: cannot send: Connection refused")
    assert server.stop() == 0
    # One from the requests, and one from the line that tells of it.
    assert server.log.count("statsd: cannot send") <= 3


def test_statsd_that_cannot_be_found_is_told_and_no_reason_not_to_serve(serve, tmp_path):
    server = serve(WHO, "--statsd-host", f"unix://{tmp_path}/none")
    server.log.wait(
        r"warning: --statsd-host: unix://\S+/none: No such file .*; no metrics are sent"
    )
    server.served_by()
    server.signal(SIGTTIN)
    server.log.wait(r"worker=2 \S+ gen=1 ready")
    assert server.stop() == 0
    # By the master, and by the mold for all of its workers.
    told = re.findall(r"(\w+)\[\d+\] warning: --statsd-host", server.log.text())
    assert sorted(told) == ["master", "mold"]


# ---- syslog

#: <PRI>1 TIMESTAMP HOST APP PROCID MSGID DATA MSG (RFC 5424)
SYSLOG = r"^<{}>1 \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{6}}[+-]\d\d:\d\d \S+ {} {} - - {}"


def test_syslog_hears_both_logs(serve, ear):
    options = ["--log-syslog", "--log-syslog-to", f"udp://{ear.name}"]
    server = serve(RAISES, *options, "--log-syslog-facility", "local3")
    [worker] = server.worker_pids()
    server.get("/x?201")
    server.get("/raise")
    ear.wait(
        SYSLOG.format(19 * 8 + 6, r"serve\.access", worker, r'127\.0\.0\.1 .*"GET /x\?201 .* 201'),
        SYSLOG.format(19 * 8 + 3, r"serve\.error", worker, r'request="GET /raise"'),
        SYSLOG.format(19 * 8 + 6, r"serve\.error", server.pid, r"serve .* serves main:app"),
    )
    assert server.out.lines == []


def test_syslog_by_a_unix_socket_without_access_lines(serve, tmp_path):
    path = str(tmp_path / "log")
    ear = Ear(socket.AF_UNIX, path)
    options = ["--log-syslog", "--log-syslog-to", f"unix://{path}", "--log-syslog-prefix", "shop"]
    server = serve(RAISES, *options, "--disable-redirect-access-to-syslog")
    server.get("/raise")
    ear.wait(SYSLOG.format(8 + 3, r"serve\.shop\.error", r"\d+", "request="))
    assert server.stop() == 0
    assert not any("access" in line for line in ear.lines)


def test_a_syslog_that_is_not_there_ends_the_start_and_says_what_to_do(serve, tmp_path):
    options = ["--log-syslog", "--log-syslog-to", f"unix://{tmp_path}/none"]
    server = serve(RAISES, *options, start=False)
    assert server.launch().wait() == 1
    server.log.wait(
        rf"--log-syslog-to: unix://{tmp_path}/none: No such file or directory.*; start the syslog "
        r"daemon, correct the address \(--log-syslog-to\), or do without \(--no-log-syslog\)$"
    )


def test_a_syslog_that_goes_away_costs_no_request_and_one_line(serve, tmp_path):
    ear = Ear(socket.AF_UNIX, str(tmp_path / "log"))
    server = serve(RAISES, "--log-syslog", "--log-syslog-to", f"unix://{tmp_path}/log")
    ear.close()
    for _ in range(5):
        assert server.get("/?200")[0] == 200
    lost = r"worker\[\d+\] warning: cannot write to syslog: Connection refused"
    server.log.wait(lost)
    assert server.stop() == 0
    assert server.log.count(lost) == 1


class Stream:
    """A syslog daemon that is connected to, and the messages of its connections."""

    def __init__(self, kind, address):
        self.socket = socket.socket(kind, socket.SOCK_STREAM)
        self.socket.bind(address)
        self.socket.listen()
        self.unix = kind == socket.AF_UNIX
        self.lines = []
        self.connections = []
        self.senders = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self.connections.append(connection)
                threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection):
        with contextlib.suppress(OSError), connection.makefile("rb") as file:
            while True:
                if self.unix:
                    message = b""
                    while (byte := file.read(1)) not in (b"", b"\0"):
                        message += byte
                else:
                    length = b""
                    while (byte := file.read(1)).isdigit():
                        length += byte
                    assert byte in (b" ", b""), "the length of a message, and a space"
                    message = file.read(int(length or b"0"))
                if not message:
                    return
                self.lines.append(message.decode())
                self.senders.add((id(connection), message.decode().split()[4]))

    wait = Ear.wait

    def drop(self):
        """Ends all connections, and goes on."""
        for connection in self.connections:
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self.connections.clear()


@pytest.fixture(params=["tcp", "unix"])
def daemon(request, tmp_path):
    """A daemon, and how it is named."""
    if request.param == "tcp":
        made = Stream(socket.AF_INET, ("127.0.0.1", 0))
        made.name = f"tcp://127.0.0.1:{made.socket.getsockname()[1]}"
    else:
        made = Stream(socket.AF_UNIX, str(tmp_path / "log"))
        made.name = f"unix://{tmp_path}/log#stream"
    yield made
    made.drop()
    made.socket.close()


def test_syslog_by_a_stream_hears_both_logs_of_all_processes(serve, daemon):
    server = serve(RAISES, "--log-syslog", "--log-syslog-to", daemon.name, workers=2)
    server.get("/raise")
    for number in range(50):
        assert server.get(f"/{number}?200")[0] == 200
    for number in range(50):
        daemon.wait(SYSLOG.format(14, r"serve\.access", r"\d+", rf'.*"GET /{number}\?200 HTTP'))
    daemon.wait(
        SYSLOG.format(11, r"serve\.error", r"\d+", r'request="GET /raise"'),
        SYSLOG.format(14, r"serve\.error", server.pid, r"serve .* serves main:app"),
    )
    traceback = next(line for line in daemon.lines if 'request="GET /raise"' in line)
    assert "RuntimeError" in traceback, "several lines are one message"
    assert all(re.match(r"<\d+>1 ", line) for line in daemon.lines)
    connections = [connection for connection, _ in daemon.senders]
    assert len(set(connections)) == len(connections) >= 3, "each process has its own"


def test_a_syslog_stream_that_ends_is_connected_to_again(serve, daemon):
    server = serve(RAISES, "--log-syslog", "--log-syslog-to", daemon.name)
    server.get("/?200")
    daemon.wait("serves main:app", "GET")
    daemon.drop()

    def lost():
        assert server.get("/?200")[0] == 200
        return server.log.count(r"worker\[\d+\] warning: cannot write to syslog: ")

    wait_until(lost, "the worker to notice")

    def heard():
        assert server.get("/again?200")[0] == 200
        return any("/again" in line for line in daemon.lines)

    wait_until(heard, "the worker to connect again")
    assert server.stop() == 0
    assert server.log.count(r"worker\[\d+\] warning: cannot write to syslog: ") == 1


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("tcp://127.0.0.1:1", "Connection refused"),
        ("unix://none#stream", "No such file or directory"),
        ("unix:///dev/log#seqpacket", r"expected udp://HOST:PORT, tcp://HOST:PORT, unix://PATH"),
        ("http://localhost", r"expected udp://HOST:PORT, tcp://"),
    ],
)
def test_a_syslog_that_is_not_there_ends_the_start(serve, address, reason):
    server = serve(WHO, "--log-syslog", "--log-syslog-to", address, start=False).launch()
    server.log.wait(f"--log-syslog-to: {address}: {reason}")
    assert server.wait() == 1


# ---- the error log


@pytest.mark.parametrize("options", [[], ["--threads", "2"], ["-k", "async"]], ids=str)
@pytest.mark.parametrize("path", ["/raise", "/?20"])
def test_an_application_that_fails_has_one_line_in_the_log(serve, options, path):
    server = serve(RAISES, *options)
    with server.connect() as client:
        about = f"client=127.0.0.1:{client.getsockname()[1]}"
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert b" 500 " in read_all(client)
    assert server.stop() == 0
    lines = [line for line in server.log.lines if about in line]
    assert len(lines) == 1, lines
    assert re.search(rf'error: request="GET \S+" {about}: the application raised', lines[0])


def test_messages_as_json(serve):
    server = serve(RAISES, "--log-format", "json")
    server.get("/raise")
    server.log.wait('"role":"worker".*RuntimeError|RuntimeError.*"role":"worker"')
    assert server.stop() == 0
    after = [json.loads(line) for line in server.log.lines if line.startswith("{")]
    assert {"time", "level", "role", "pid", "message"} == set(after[0])
    [raised] = [line for line in after if "RuntimeError" in line["message"]]
    assert raised["level"] == "error" and "no\nway" in raised["message"]


PRINTS = """
    import os
    import sys

    def app(environ, start_response):
        print("out", environ["QUERY_STRING"], flush=True)
        os.system(f"echo child {environ['QUERY_STRING']} >&2")
        start_response("200 OK", [])
        return [b""]
"""


def test_captured_output_follows_the_error_log_when_it_is_opened_anew(serve):
    server = serve(PRINTS, "--error-logfile", "error.log", "--capture-output", start=False).launch()
    log, old = server.cwd / "error.log", server.cwd / "error.log.1"
    wait_until(lambda: log.exists() and "ready in=" in log.read_text(), "the server to be ready")
    server.get("/?one")
    assert {"out one", "child one"} <= set(log.read_text().splitlines())
    [worker] = re.findall(r"worker=1 pid=(\d+)", log.read_text())[:1]
    log.rename(old)
    server.signal(SIGUSR1)
    stdout = f"/proc/{worker}/fd/1"
    wait_until(lambda: os.readlink(stdout) == str(log), "the worker's output to follow")
    server.get("/?two")
    assert {"out two", "child two"} <= set(log.read_text().splitlines())
    assert "two" not in old.read_text()
    assert server.stop() == 0
    assert server.out.lines == []


def test_without_capture_output_stays_where_it_was(serve):
    server = serve(PRINTS, "--error-logfile", "error.log", start=False).launch()
    log = server.cwd / "error.log"
    wait_until(lambda: log.exists() and "ready in=" in log.read_text(), "the server to be ready")
    server.get("/?one")
    server.out.wait("out one")
    server.log.wait("child one")
    assert "out one" not in log.read_text()
