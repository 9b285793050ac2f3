"""PEP 3333: what an application may answer, and what becomes of it when it may not.

HTTP's side of it is RFC 9112 section 6: how a client knows that a body is complete, and that it is
not.
"""

import hashlib
import json
import os
import re
import socket
import struct
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

import pytest
import wire
from harness import Server, is_in_state, read_proc, wait_until
from wire import RESET, SHORT, WHOLE

pytestmark = pytest.mark.every_class("sync", "threads", "async")


@pytest.fixture(scope="module")
def server(serve):
    return serve("responses:app")


@pytest.fixture
def ask(server):
    """ask("/route", ...): the answer to a request on a connection of its own."""
    return lambda *args, **kwargs: wire.ask(server, *args, **kwargs)


@pytest.fixture
def events(server):
    """events(name): what the application saw happen under that name."""
    return lambda name: json.loads(wire.ask(server, f"/events?{quote(str(name))}").body)


def is_refusal(answer):
    """Whether it is the server's own 500, and says nothing of what is inside."""
    assert (answer.status, answer.ending) == (500, WHOLE)
    assert answer.field("Connection") == "close"
    assert answer.field("Content-Type") == "text/plain; charset=utf-8"
    assert re.fullmatch(rb"the application [^\r\n]*\n", answer.body), answer.body
    return True


# ---- how a body is delimited


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/one", b"hello"),
        ("/tuple", b"hello"),
        ("/list", b"hello"),
        ("/bytes_subclass", b"hello"),
        ("/empty_list", b""),
        ("/empty_piece", b""),
    ],
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_list_gets_a_content_length(ask, path, body, version):
    answer = ask(path, version=version)
    assert (answer.status, answer.body, answer.chunks) == (200, body, None)
    assert answer.field("Content-Length") == str(len(body))


@pytest.mark.parametrize(
    "path", ["/generator", "/generator_with_empty", "/old_sequence", "/closing_list?pieces"]
)
def test_an_iterable_is_sent_piece_by_piece(ask, path):
    answer = ask(path)
    assert (answer.body, answer.chunks, answer.ending) == (b"hello", [2, 3], WHOLE)


@pytest.mark.parametrize("path", ["/generator", "/generator_with_empty", "/write_alone"])
def test_an_old_client_gets_a_body_that_ends_with_the_connection(ask, path):
    answer = ask(path, version="1.0", fields=["Connection: keep-alive"])
    assert (answer.field("Content-Length"), answer.chunks) == (None, None)
    assert answer.field("Connection") == "close"
    assert (answer.body, answer.ending) == (b"hello", WHOLE)


def test_an_iterable_without_pieces_has_an_empty_body(ask):
    answer = ask("/empty_generator")
    assert (answer.status, answer.body, answer.ending) == (200, b"", WHOLE)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_the_applications_content_length_delimits_an_iterable(ask, version):
    answer = ask("/length?5", version=version)
    assert (answer.body, answer.field("Content-Length")) == (b"hello", "5")
    assert answer.chunks is None


def bodiless(server, path, method="GET"):
    """The answer to a request that must have no body: another one follows it at once."""
    with wire.Client(server) as client:
        answer = client.ask(path, method=method)
        assert client.ask("/one").body == b"hello"
    return answer


@pytest.mark.parametrize(
    ("path", "length"),
    [
        ("/one", "5"),
        ("/list", "5"),
        ("/generator", None),
        ("/write_alone", None),
        ("/length_without_body", "5"),
        ("/empty_list", None),  # not 0: nobody knows what GET would give
        ("/length?99", "99"),
    ],
)
def test_head_is_answered_like_get_without_the_body(server, path, length):
    answer = bodiless(server, path, method="HEAD")
    assert (answer.status, answer.field("Content-Length")) == (200, length)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_status_without_body_never_has_one(server, status):
    answer = bodiless(server, f"/status?{quote(status)}")
    assert f"{answer.status} {answer.reason}" == status
    assert answer.field("Content-Length") is None
    assert answer.field("Transfer-Encoding") is None


def test_a_304_may_say_how_long_the_body_would_be(server):
    answer = bodiless(server, "/not_modified")
    assert (answer.field("Content-Length"), answer.field("ETag")) == ("5", '"e"')


# ---- the head


def test_the_head_is_the_applications_and_date_and_server(ask):
    answer = ask("/many_headers")
    assert (answer.status, answer.reason) == (299, "\u00c0 ma guise")
    given = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("x-Y", "caf\u00e9"), ("X", "")]
    assert answer.fields[:4] == given
    assert {name for name, _ in answer.fields[4:]} == {"Date", "Server", "Content-Length"}
    assert parsedate_to_datetime(answer.field("Date")).tzinfo
    assert answer.field("Server") == "serve"


def test_the_applications_own_date_and_server_replace_the_servers(ask):
    answer = ask("/own_date_and_server")
    assert answer.field("Date") == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert answer.field("Server") == "mine"


def test_a_reason_may_be_missing(ask):
    answer = ask("/start?" + quote("('200', [])"))
    assert (answer.status, answer.reason, answer.body) == (200, "", b"hello")


HOP_BY_HOP = [
    ("Connection", "close"),
    ("Keep-Alive", "timeout=5"),
    ("Proxy-Authenticate", "Basic"),
    ("Proxy-Authorization", "x"),
    ("TE", "trailers"),
    ("Trailer", "X"),
    ("Transfer-Encoding", "chunked"),
    ("uPGRADE", "h2c"),
]


@pytest.mark.parametrize("header", HOP_BY_HOP, ids=lambda header: header[0])
def test_a_hop_by_hop_header_is_left_out_with_one_warning(server, log, header):
    target = "/start?" + quote(f"('200 OK', [{header!r}, ('X-Kept', 'yes')])")
    with wire.Client(server) as client:
        for _ in range(3):
            answer = client.ask(target)
            assert (answer.status, answer.body) == (200, b"hello")
            assert (answer.field(header[0]), answer.field("X-Kept")) == (None, "yes")
    assert len(log.errors()) == 1
    assert f'"{header[0]}"; the header is left out' in log.errors()[0]


# ---- write()


@pytest.mark.parametrize(
    ("path", "chunks"),
    [
        ("/write_alone", [2, 3]),
        ("/write_and_return", [2, 1, 2]),
        ("/write_and_yield", [1, 1, 2, 1]),
    ],
)
def test_write_sends_before_what_is_returned(ask, path, chunks):
    answer = ask(path)
    assert (answer.body, answer.chunks, answer.ending) == (b"hello", chunks, WHOLE)


def test_write_keeps_to_the_content_length(ask):
    answer = ask("/write_with_length")
    assert (answer.body, answer.field("Content-Length")) == (b"hello", "5")


def test_writing_nothing_sends_nothing(ask):
    answer = ask("/write_nothing")
    assert (answer.status, answer.body) == (200, b"")


def test_write_takes_bytes_only(ask, log):
    assert is_refusal(ask("/write_str"))
    log.wait("TypeError.*str")


def test_an_error_after_write_cuts_the_body(ask, log):
    answer = ask("/write_and_raise")
    assert (answer.body, answer.ending) == (b"he", SHORT)
    log.wait("ValueError: broken on purpose")


def test_callables_kept_from_an_earlier_request_can_send_nothing(ask):
    assert ask("/keep_write").body == b"kept"
    told = json.loads(ask("/use_kept").body)
    assert all(text.startswith("RuntimeError: the request is over") for text in told), told


# ---- start_response


@pytest.mark.parametrize("path", ["/started_late", "/no_exc_info"])
def test_start_response_may_come_until_the_first_byte(ask, path):
    answer = ask(path)
    assert (answer.status, answer.body) == (200, b"hello")


@pytest.mark.parametrize(
    "path",
    [
        "/never_started",
        "/never_started_empty",
        "/never_started_list",
        "/started_too_late",
        "/started_after_empty",
        "/replaced_badly",
    ],
)
def test_without_start_response_the_answer_is_500(ask, log, path):
    assert is_refusal(ask(path))
    log.wait("AssertionError: the application .* start_response")


def test_start_response_twice_is_an_error(ask, log):
    assert is_refusal(ask("/started_twice"))
    log.wait("AssertionError: start_response was called twice without exc_info")


def test_start_response_twice_after_a_byte_cuts_the_body(ask, log):
    answer = ask("/started_twice_late")
    assert (answer.status, answer.body, answer.ending) == (200, b"hello", SHORT)
    log.wait("AssertionError: start_response was called twice without exc_info")


@pytest.mark.parametrize("path", ["/replaced", "/replaced_after_empty", "/replaced_at_once"])
def test_exc_info_replaces_a_head_that_is_not_sent(ask, log, path):
    answer = ask(path)
    assert (answer.status, answer.reason, answer.body) == (503, "Sorry", b"sorry")
    assert answer.field("X-First") is None
    assert answer.ending == WHOLE
    assert log.errors() == []


def test_exc_info_is_raised_anew_when_the_head_is_sent(ask, log):
    answer = ask("/replaced_too_late")
    assert (answer.status, answer.body, answer.ending) == (200, b"hello", SHORT)
    assert answer.field("X-Second") is None
    log.wait("ValueError: the one in exc_info")


def test_an_application_can_recover_from_a_bad_header(ask, log):
    answer = ask("/start_again")
    assert (answer.status, answer.body) == (202, b"hello")
    assert (answer.field("X-C"), answer.field("X-A"), answer.field("X-B")) == ("c", None, None)
    assert log.errors() == []


NOT_A = "TypeError: {} of start_response must be a {}"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        # the types of PEP 3333
        ("(b'200 OK', [])", NOT_A.format("status", "str")),
        ("(200, [])", NOT_A.format("status", "str")),
        ("('200 OK', ())", NOT_A.format("headers", "list")),
        ("('200 OK', {'X-A': 'b'})", NOT_A.format("headers", "list")),
        ("('200 OK', None)", NOT_A.format("headers", "list")),
        ("('200 OK', [('X-A', 5)])", "TypeError: a header must be a tuple of two str"),
        ("('200 OK', [(b'X-A', b'b')])", "TypeError: a header must be a tuple of two str"),
        ("('200 OK', [['X-A', 'b']])", "TypeError: a header must be a tuple of two str"),
        ("('200 OK', [('X-A', 'b', 'c')])", "TypeError: a header must be a tuple of two str"),
        ("('200 OK', ['X-A'])", "TypeError: a header must be a tuple of two str"),
        ("('200 OK', [('X-A', None)])", "TypeError: a header must be a tuple of two str"),
        ("('200 OK',)", "TypeError: .*missing .*'headers'"),
        ("('200 OK', [], 'error')", NOT_A.format("exc_info", "tuple")),
        # characters that are no bytes
        ("('200 \\u20ac', [])", "ValueError.*not a latin-1 character"),
        ("('200 OK', [('X-A', '\\u20ac')])", "ValueError.*not a latin-1 character"),
        ("('200 OK', [('X-\\u20ac', 'a')])", "ValueError.*not a latin-1 character"),
        ("('200 OK', [('X-A', '\\ud800')])", "Unicode|ValueError"),
        # the status
        ("('', [])", "ValueError: the application's status"),
        ("('OK', [])", "ValueError: the application's status"),
        ("('200OK', [])", "ValueError: the application's status"),
        ("('100 Continue', [])", "ValueError: the application's status"),
        ("('1000 Much', [])", "ValueError: the application's status"),
        ("('200 OK\\r\\nX-Injected: 1', [])", "ValueError: the application's status"),
        ("('200 OK\\nX-Injected: 1', [])", "ValueError: the application's status"),
        ("('200 OK\\0', [])", "ValueError: the application's status"),
        # header names
        ("('200 OK', [('', 'x')])", "ValueError: .* name is not a token"),
        ("('200 OK', [('X A', 'x')])", 'ValueError: .* name is not a token: "X A"'),
        ("('200 OK', [('X-A:', 'x')])", 'ValueError: .* name is not a token: "X-A:"'),
        ("('200 OK', [('X-\\xe9', 'x')])", "ValueError: .* name is not a token"),
        ("('200 OK', [('X-Injected: 1\\r\\nX', 'x')])", "ValueError: .* name is not a token"),
        ("('200 OK', [('X-\\0', 'x')])", "ValueError: .* name is not a token"),
        # header values
        ("('200 OK', [('X-A', 'x\\r\\nX-Injected: 1')])", 'ValueError: .* control .*"X-A"'),
        ("('200 OK', [('X-A', 'x\\nX-Injected: 1')])", 'ValueError: .* control .*"X-A"'),
        ("('200 OK', [('X-A', 'x\\rX-Injected: 1')])", 'ValueError: .* control .*"X-A"'),
        ("('200 OK', [('X-A', 'x\\0')])", 'ValueError: .* control .*"X-A"'),
        ("('200 OK', [('X-A', 'x\\r\\n\\r\\n<b>')])", 'ValueError: .* control .*"X-A"'),
        # Content-Length
        ("('200 OK', [('Content-Length', 'x')])", "ValueError: .* Content-Length"),
        ("('200 OK', [('Content-Length', '-1')])", "ValueError: .* Content-Length"),
        ("('200 OK', [('Content-Length', '5, 5')])", "ValueError: .* Content-Length"),
        ("('200 OK', [('Content-Length', '5')] * 2)", "ValueError: .* Content-Length"),
    ],
)
def test_what_may_not_be_sent_is_500_and_the_log_says_what(ask, log, arguments, reason):
    answer = ask("/start?" + quote(arguments))
    assert is_refusal(answer)
    assert not any("injected" in name.lower() for name, _ in answer.fields)
    log.wait(reason)
    log.wait('request="GET /start" client=127.0.0.1:')


# ---- a Content-Length that is wrong


@pytest.mark.parametrize("path", ["/length?3", "/length_of_list?3", "/length?0"])
def test_more_than_the_content_length_is_cut_off(server, path):
    size = int(path[-1])
    with wire.Client(server) as client:
        answer = client.ask(path)
        assert (answer.body, answer.field("Content-Length")) == (b"hello"[:size], str(size))
        assert client.ask("/one").body == b"hello"


@pytest.mark.parametrize("path", ["/length?6", "/length_of_list?6"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_less_than_the_content_length_ends_the_connection(ask, log, path, version):
    answer = ask(path, version=version, fields=["Connection: keep-alive"])
    assert (answer.status, answer.body, answer.ending) == (200, b"hello", SHORT)
    log.wait(r'error: request="GET /length.*shorter than its Content-Length')


def test_what_is_cut_off_is_said_in_the_log(ask, log):
    ask("/length?3")
    (line,) = log.errors()
    assert "warning: client=" in line
    assert "path=/length: the application sent 2 bytes more than its Content-Length" in line


# ---- the application fails


@pytest.mark.parametrize(
    "path", ["/raises", "/raises_after_start", "/closing_raises_first?first", "/closing_bad_iter"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_error_before_the_first_byte_is_500(ask, log, path, method):
    answer = ask(path, method=method)
    if method == "GET":
        assert is_refusal(answer)
    assert answer.status == 500
    path = path.partition("?")[0]
    log.wait(f'error: request="{method} {path}" client=127.0.0.1:[0-9]+: the application raised')
    log.wait("^Traceback ")
    log.wait('File ".*responses.py", line')
    log.wait("^ValueError: ")


@pytest.mark.parametrize(
    ("path", "version", "ending"),
    [
        ("/closing_raises_midway", "1.1", SHORT),
        ("/closing_raises_midway_length", "1.1", SHORT),
        ("/closing_raises_midway_length", "1.0", SHORT),
        # Only a reset tells this from a body that is complete.
        ("/closing_raises_midway", "1.0", RESET),
    ],
)
def test_an_error_in_the_middle_shows_as_a_body_that_is_not_complete(
    ask, log, path, version, ending
):
    answer = ask(path, version=version, fields=["Connection: keep-alive"])
    assert (answer.status, answer.ending) == (200, ending)
    log.wait("^ValueError: broken on purpose")


EXITS = ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "MemoryError", "BaseException"]


@pytest.mark.parametrize("name", [*EXITS, "StopIteration"])
def test_whatever_is_raised_ends_the_request_and_not_the_worker(ask, log, name):
    before = ask("/pid").body
    assert is_refusal(ask(f"/exits?{name}"))
    log.wait(f"^{name}")
    assert ask("/pid").body == before


@pytest.mark.parametrize("name", EXITS)
def test_whatever_is_raised_midway_ends_the_request_and_not_the_worker(ask, log, name):
    before = ask("/pid").body
    answer = ask(f"/exits_midway?{name}")
    assert (answer.body, answer.ending) == (b"hello", SHORT)
    log.wait(f"^{name}")
    assert ask("/pid").body == before


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/str_in_list", "TypeError: the response body must be bytes, not .*str"),
        ("/str_itself", "TypeError: the response body must be bytes, not .*str"),
        (
            "/bytes_itself",
            r"TypeError: the application returned bytes; it must return an iterable of bytes, "
            r"such as \[b'\.\.\.'\]$",
        ),
        ("/bytearray", "TypeError: the response body must be bytes, not .*bytearray"),
        ("/none_in_list", "TypeError: the response body must be bytes, not .*NoneType"),
        ("/str_from_generator", "TypeError: the response body must be bytes, not .*str"),
        ("/none", r"TypeError: the application returned None: is a 'return' missing\?$"),
        ("/number", "TypeError: .*int.* not iterable"),
    ],
)
def test_a_body_that_is_not_made_of_bytes_is_500_and_the_log_says_so(ask, log, path, reason):
    assert is_refusal(ask(path))
    log.wait(reason)
    log.wait(f'request="GET {path}" ')


# ---- close()


CLOSED = [
    ("/closing", 200, WHOLE),
    ("/closing_empty", 200, WHOLE),
    ("/closing_after_write", 200, WHOLE),
    ("/closing_list", 200, WHOLE),
    ("/closing_excess", 200, WHOLE),
    ("/closing_raises_first", 500, WHOLE),
    ("/closing_raises_midway", 200, SHORT),
    ("/closing_raises_midway_length", 200, SHORT),
    ("/closing_str", 500, WHOLE),
    ("/closing_str_midway", 200, SHORT),
    ("/closing_short", 200, SHORT),
    ("/closing_bad_iter", 500, WHOLE),
    ("/closing_raises", 200, WHOLE),
    ("/never_started", 500, WHOLE),
    ("/never_started_empty", 500, WHOLE),
    ("/replaced_too_late", 200, SHORT),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("path", "status", "ending"), CLOSED)
def test_close_is_called_once_however_it_ends(ask, events, path, status, ending, method):
    name = f"{path}-{method}"
    answer = ask(f"{path}?{name}", method=method)
    assert answer.status == status
    assert method == "HEAD" or answer.ending == ending
    seen = events(name)
    assert seen.count("close") == 1 and seen[-1] == "close", seen


def test_an_error_in_close_is_logged_and_harms_nobody(server, log):
    with wire.Client(server) as client:
        answer = client.ask("/closing_raises?x")
        assert (answer.status, answer.body, answer.ending) == (200, b"hello", WHOLE)
        assert client.ask("/one").body == b"hello"
    log.wait(r"error: .*close\(\) of the response raised")
    log.wait("^ValueError: no closing today")


# ---- while it runs


@pytest.fixture
def fifo(tmp_path):
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_piece_is_sent_before_the_next_one_is_made(server, fifo, version):
    """The application waits for the fifo, which is written when its first piece has arrived."""
    with wire.Client(server) as client:
        fields = ["Connection: close"]
        client.send(wire.request(f"/fifo?{quote(fifo)}", version=version, fields=fields))
        received = b""
        while b"first" not in received:
            received += client.socket.recv(4096)
        with open(fifo, "wb") as file:
            file.write(b"second")
        assert b"second" in client.rest()


def test_a_client_that_goes_away_ends_the_body_and_close_is_called(server, events, fifo, log):
    client = wire.Client(server)
    client.send(wire.request(f"/endless?{quote(fifo)}"))
    client.socket.recv(4096)
    reset(client)
    open(fifo, "wb").close()
    seen = []
    # What was told once is not told again.
    wait_until(lambda: seen.extend(events(fifo)) or "close" in seen, "the body to be closed")
    assert seen.count("close") == 1 and seen[-1] == "close"
    assert len(seen) < 10, "the application went on for a client that is gone"
    assert log.errors() == []


def test_a_client_that_is_gone_before_the_first_byte_harms_nobody(server, fifo, log):
    client = wire.Client(server)
    client.send(wire.request("/one"))
    reset(client)
    assert wire.ask(server, "/one").body == b"hello"
    assert log.errors() == []


def reset(client):
    """Closes so that the other side is told at once, and finds it out at its next write."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("kind", ["pieces", "list"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_8_megabytes_arrive_unchanged_however_slowly_they_are_taken(server, kind, version):
    with wire.Client(server) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        answer = client.ask(f"/large?{kind}", version=version)
    assert (len(answer.body), answer.ending) == (8 * 1024 * 1024, WHOLE)
    assert hashlib.sha256(answer.body).hexdigest() == answer.field("X-Digest")


def peak(pid):
    """Most memory a process ever had, in bytes."""
    return int(re.search(r"^VmHWM:\s+(\d+) kB$", read_proc(pid, "status"), re.M)[1]) * 1024


def test_the_memory_of_a_stream_is_bounded_however_slow_the_client(serve):
    """The client takes a piece only when the application waits for it, so it is always behind."""
    server = serve("responses:app")
    [worker] = server.worker_pids()
    before = peak(worker)
    size = 0
    with wire.Client(server) as client:
        client.send(wire.request("/flood", version="1.0"))
        client.socket.recv(1, socket.MSG_PEEK)
        while True:
            wait_until(lambda: is_in_state(worker, "S"), "the worker to wait")
            piece = client.socket.recv(1024 * 1024, socket.MSG_WAITALL)
            size += len(piece)
            if not piece:
                break
    assert size > 64 * 1024 * 1024
    assert peak(worker) - before < 16 * 1024 * 1024


def test_a_client_that_reads_slowly_does_not_cost_the_worker_its_life():
    """Waiting for a client is not being stuck: the write timeout is for that."""
    options = {"cwd": Path(__file__).parent / "apps", "spec": "responses:app"}
    with Server(None, "--timeout", "0.5s", **options) as server, wire.Client(server) as client:
        client.send(wire.request("/flood"))
        client.socket.recv(1, socket.MSG_PEEK)
        with pytest.raises(AssertionError, match="2 s passed"):
            server.log.wait("stuck|killed", timeout=2)
        assert len(client.answer().body) == 64 * 1024 * 1024
