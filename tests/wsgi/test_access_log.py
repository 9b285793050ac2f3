"""The access log: one line for each request, in the combined format."""

import itertools
import os
import re
import signal
import socket
import struct
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from urllib.parse import quote

import pytest
import wire
from harness import PATIENCE, descriptors, wait_until

pytestmark = pytest.mark.every_class("sync", "threads", "async")


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory):
    return str(tmp_path_factory.mktemp("unix") / "socket")


@pytest.fixture(scope="module")
def server(serve, socket_path):
    return serve("logged:app", "--access-logfile", "-", "--bind", f"unix:{socket_path}")


@pytest.fixture
def lines(server):
    """lines(): what the test's requests have added to the access log."""
    mark = itertools.count()
    since = len(server.out.lines)

    def read():
        last = f"/mark-{os.getpid()}-{next(mark)}"
        wire.ask(server, last)
        server.out.wait(re.escape(last) + " HTTP", since=since)
        return [line for line in server.out.lines[since:] if "/mark-" not in line]

    read()
    since = len(server.out.lines)
    return read


#: What is the same in each line: the client, and when it was answered.
START = r"127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "


def rest(lines):
    """The lines without their start."""
    assert all(re.match(START, line) for line in lines), lines
    return [re.sub(START, "", line) for line in lines]


def test_a_line_is_in_the_combined_format(server, lines):
    fields = ["Referer: http://from.example/", "User-Agent: me/1.0 (test)"]
    wire.ask(server, "/hello?a=%20b", fields=fields)
    assert rest(lines()) == [
        '"GET /hello?a=%20b HTTP/1.1" 200 5 "http://from.example/" "me/1.0 (test)"'
    ]


def test_the_time_is_now(server, lines):
    wire.ask(server, "/hello")
    [line] = lines()
    logged = datetime.strptime(re.search(r"\[(.*?)\]", line)[1], "%d/%b/%Y:%H:%M:%S %z")
    assert abs(datetime.now(timezone.utc) - logged) < timedelta(seconds=PATIENCE)


@pytest.mark.parametrize(
    ("target", "options", "line"),
    [
        ("/hello", {"method": "POST", "body": b"x" * 99}, '"POST /hello HTTP/1.1" 200 5'),
        ("/hello", {"method": "HEAD"}, '"HEAD /hello HTTP/1.1" 200 0'),
        ("/hello", {"version": "1.0"}, '"GET /hello HTTP/1.0" 200 5'),
        ("/stream", {}, '"GET /stream HTTP/1.1" 200 6'),  # without the chunks' own bytes
        ("/stream", {"version": "1.0"}, '"GET /stream HTTP/1.0" 200 6'),
        ("/file", {}, '"GET /file HTTP/1.1" 200 70000'),
        ("/file", {"method": "HEAD"}, '"HEAD /file HTTP/1.1" 200 0'),
        ("/status?204%20No", {}, '"GET /status?204%20No HTTP/1.1" 204 0'),
        ("/status?404%20No", {}, '"GET /status?404%20No HTTP/1.1" 404 5'),
        ("/length?3", {}, '"GET /length?3 HTTP/1.1" 200 3'),
        ("/length?9", {}, '"GET /length?9 HTTP/1.1" 200 5'),
        ("/raises_midway", {}, '"GET /raises_midway HTTP/1.1" 200 5'),
        ("http://h.example/hello", {}, '"GET http://h.example/hello HTTP/1.1" 200 5'),
    ],
)
def test_it_counts_the_bytes_of_the_body(server, lines, target, options, line):
    wire.ask(server, target, **options)
    assert rest(lines()) == [f'{line} "-" "-"']


def test_the_server_s_own_500_is_logged(server, lines):
    answer = wire.ask(server, "/raises", fields=["User-Agent: me"])
    assert rest(lines()) == [f'"GET /raises HTTP/1.1" 500 {len(answer.body)} "-" "me"']


@pytest.mark.parametrize(
    ("sent", "logged"),
    [
        (b"GET /hello HTTP/1.1\r\n\r\n", '"GET /hello HTTP/1.1"'),
        (b"GET /hello HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n", '"GET /hello HTTP/1.1"'),
        (b'GET /he"llo \\ HTTP/1.1\r\nHost: a\r\n\r\n', r'"GET /he\"llo \\ HTTP/1.1"'),
        (b"\x16\x03\x01\x02\x00\x01\x00", '""'),
        (b"GE\xe9T /\x01 HTTP/1.1\r\n", r'"GE\xe9T /\x01 HTTP/1.1"'),
    ],
)
def test_a_refused_request_is_logged(server, lines, sent, logged):
    answer = wire.ask_raw(server, sent)
    assert answer.status == 400
    [line] = rest(lines())
    assert line == f'{logged} 400 {len(answer.body)} "-" "-"'


@pytest.mark.parametrize(
    ("value", "logged"),
    [
        ('a "quoted" b', r"a \"quoted\" b"),
        ("back\\slash", r"back\\slash"),
        ('\\"', r"\\\""),
        ("caf\u00e9\u0085", r"caf\xe9\x85"),
        ("tab\there", r"tab\x09here"),
        ("", ""),
    ],
)
def test_a_client_cannot_end_a_field_or_forge_a_line(server, lines, value, logged):
    wire.ask(server, "/hello", fields=[f"User-Agent: {value}", f"Referer: {value}"])
    assert rest(lines()) == [f'"GET /hello HTTP/1.1" 200 5 "{logged}" "{logged}"']


def test_a_client_cannot_end_the_request_line(server, lines):
    wire.ask(server, '/hello?"_200_5_"-"_"forged')
    assert rest(lines()) == [r'"GET /hello?\"_200_5_\"-\"_\"forged HTTP/1.1" 200 5 "-" "-"']


def test_each_of_pipelined_requests_has_its_line(server, lines):
    with wire.Client(server) as client:
        targets = [f"/hello?{number}" for number in range(10)]
        client.send(b"".join(wire.request(target) for target in targets) + b"bad\r\n")
        for _ in targets:
            assert client.answer().status == 200
        assert client.answer().status == 400
        assert client.is_closed()
    found = rest(lines())
    assert found[:10] == [f'"GET {target} HTTP/1.1" 200 5 "-" "-"' for target in targets]
    assert len(found) == 11 and " 400 " in found[10]


def test_a_connection_without_a_request_has_no_line(server, lines):
    wire.Client(server).close()
    with wire.Client(server) as client:
        client.send(b"GET /hello HT")
    assert lines() == []


def test_a_client_that_goes_away_has_its_line_with_what_was_sent(server, lines, tmp_path):
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    client = wire.Client(server)
    client.send(wire.request(f"/wait?{quote(fifo)}", fields=["User-Agent: gone"]))
    while b"hello" not in client.socket.recv(4096):
        pass
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    open(fifo, "wb").close()
    [line] = rest(lines())
    sent = int(re.fullmatch(r'"GET /wait\?\S+ HTTP/1.1" 200 (\d+) "-" "gone"', line)[1])
    assert 5 <= sent < 100


def test_a_client_of_a_unix_socket_has_no_address(server, lines, socket_path):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(socket_path)
    wire.ask(SimpleNamespace(connect=lambda timeout: connection), "/hello")
    [line] = lines()
    assert re.fullmatch(r'- - - \[.*\] "GET /hello HTTP/1.1" 200 5 "-" "-"', line), line


def test_without_the_setting_there_is_no_access_log(serve):
    server = serve("logged:app")
    wire.ask(server, "/hello")
    server.stop()
    assert server.out.lines == []
    assert server.log.count("/hello") == 0


def test_usr1_opens_the_file_anew_after_it_was_renamed(serve, tmp_path):
    log, old = tmp_path / "access.log", tmp_path / "access.log.1"
    server = serve("logged:app", "--access-logfile", str(log))
    wire.ask(server, "/hello?before")
    log.rename(old)
    wire.ask(server, "/hello?between")
    wait_until(lambda: "between" in old.read_text(), "the line in the renamed file")
    [worker] = server.worker_pids()
    server.signal(signal.SIGUSR1)
    wait_until(lambda: str(log) in descriptors(worker).values(), "the worker to open the file anew")
    wire.ask(server, "/hello?after")
    wait_until(lambda: "after" in log.read_text(), "the line in the new file")
    assert [re.search(r"\?(\w+)", line)[1] for line in old.read_text().splitlines()] == [
        "before",
        "between",
    ]
    assert log.read_text().count("\n") == 1
