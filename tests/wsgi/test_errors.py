"""Requests that are refused: the client gets a status, the log one line that says why.

Which bytes are refused is tested where they are parsed; here it is that the refusal reaches the
client and the log, and that the connection ends with it.
"""

import re
import select
from pathlib import Path

import pytest
import wire

pytestmark = pytest.mark.every_class("sync", "threads", "async")

INVALID = Path(__file__).resolve().parents[1] / "requests" / "invalid"

LINE, FIELDS, FIELD, BODY = 100, 5, 60, 1000
#: A client of the tests can be that late itself, before it sends.
TIMEOUT = "1s"


@pytest.fixture(scope="module")
def server(serve):
    return serve("connections:app")


@pytest.fixture(scope="module")
def strict(serve):
    """A server with limits that a test can reach."""
    return serve(
        "connections:app",
        *("--limit-request-line", LINE),
        *("--limit-request-fields", FIELDS),
        *("--limit-request-field-size", FIELD),
        *("--max-body-size", BODY),
    )


@pytest.fixture(scope="module")
def hasty(serve):
    """A server that waits for less than a test does."""
    return serve("connections:app", "--header-timeout", TIMEOUT, "--keep-alive", TIMEOUT)


@pytest.fixture
def refusal(server, strict, hasty):
    """refusal(server, client): status and reason of a request that is refused.

    The connection must end with it. The one line about it in the log must name the client, the
    status and the reason, which is the body of the answer as well.
    """
    since = {each: len(each.log.lines) for each in (server, strict, hasty)}

    def check(server, client):
        while (answer := client.answer()).field("Connection") != "close":
            assert answer.ending == wire.WHOLE  # to a good request before
        assert answer.field("Content-Type") == "text/plain; charset=utf-8"
        assert client.is_closed()
        reason = answer.body.decode().rstrip("\n")
        about = f"client=127.0.0.1:{client.port} "
        server.log.wait(f"{about}{answer.status} {re.escape(reason)}$", since=since[server])
        wire.ask(server, "/echo")
        assert sum(about in line for line in server.log.lines[since[server] :]) == 1
        return answer.status, reason

    return check


# ---- what is not HTTP


def invalid_requests():
    """The requests of the corpus that need no other limits than the default ones."""
    found = []
    for path in sorted(INVALID.glob("*.http")):
        expected = path.with_suffix(".expect").read_text()
        if "limit " not in expected:
            status = int(re.search(r"^status (\d+)$", expected, re.MULTILINE)[1])
            found.append(pytest.param(path, status, id=path.stem))
    assert len(found) > 100
    return found


@pytest.mark.parametrize(("path", "status"), invalid_requests())
def test_a_request_that_is_not_http_is_refused(refusal, server, path, status):
    with wire.Client(server) as client:
        client.send(path.read_bytes())
        assert refusal(server, client)[0] == status


def test_the_application_does_not_see_what_is_refused(refusal, server):
    """Nor what follows it on the connection."""
    with wire.Client(server) as client:
        client.send(b"GET /broken HTTP/1.1\r\n\r\n" + wire.request("/broken"))
        assert refusal(server, client) == (400, "the client's HTTP/1.1 request has no Host header")
    assert server.log.count("ValueError") == 0


def test_head_is_refused_without_a_body(server):
    with wire.Client(server) as client:
        client.send(b"HEAD / HTTP/1.1\r\n\r\n")
        assert client.answer("HEAD").status == 400
        assert client.is_closed()


def test_one_client_s_mistake_does_not_touch_another(refusal, server):
    with wire.Client(server) as good, wire.Client(server) as bad:
        good.send(wire.request("/echo?good")[:-2])
        bad.send(b"\0")
        assert refusal(server, bad)[0] == 400
        good.send(b"\r\n")
        assert good.answer().body == b"good"


# ---- what is too much


def line_of(length):
    target = "/echo?" + "x" * (length - len("GET /echo? HTTP/1.1"))
    return wire.request(target)


def fields_of(count):
    return wire.request("/echo", fields=[f"X-{n}: a" for n in range(count - 1)])


def field_of(size):
    return wire.request("/echo", fields=["X-A: " + "a" * (size - len("X-A: \r\n"))])


def body_of(size):
    return wire.request("/echo", method="POST", body=b"x" * size)


def chunks_of(size):
    return wire.request("/echo", method="POST", body=[b"x" * (size - 1), b"x"])


TOO_MUCH = [
    (line_of, LINE, 414, "limit_request_line"),
    (fields_of, FIELDS, 431, "limit_request_fields"),
    (field_of, FIELD, 431, "limit_request_field_size"),
    (body_of, BODY, 413, "max_body_size"),
    (chunks_of, BODY, 413, "max_body_size"),
]


@pytest.mark.parametrize(("make", "most", "status", "setting"), TOO_MUCH)
def test_a_limit_allows_what_it_says_and_refuses_one_more(
    refusal, strict, make, most, status, setting
):
    assert wire.ask_raw(strict, make(most)).status == 200
    with wire.Client(strict) as client:
        client.send(make(most + 1))
        got, reason = refusal(strict, client)
    assert got == status
    assert f"({setting})" in reason


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(strict):
    """And the client not told to go on."""
    fields = ["Expect: 100-continue", f"Content-Length: {BODY + 1}"]
    with wire.Client(strict) as client:
        client.send(wire.request("/echo", method="POST", fields=fields))
        assert client.answer().status == 413
        assert client.is_closed()


def test_a_client_that_sends_its_large_body_nevertheless_can_read_the_refusal(refusal, strict):
    """A reset would take the answer away from it."""
    with wire.Client(strict) as client:
        client.send(body_of(5_000_000))
        assert refusal(strict, client)[0] == 413


# ---- what takes too long


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\nHost: a\r\n", b"\r\nG"])
def test_half_a_head_is_answered_with_408(refusal, hasty, sent):
    with wire.Client(hasty) as client:
        client.send(sent)
        assert refusal(hasty, client) == (408, "the request head did not arrive in time")


def test_half_a_head_after_a_request_is_answered_with_408(refusal, hasty):
    with wire.Client(hasty) as client:
        client.send(wire.request("/echo?1") + b"GET")
        assert refusal(hasty, client)[0] == 408


def test_a_head_that_comes_in_drops_is_answered_with_408(hasty):
    """Every byte in time, and the head not."""
    with wire.Client(hasty) as client:
        client.send(b"GET /")
        for _ in range(200):
            if select.select([client.socket], [], [], 0.02)[0]:
                break
            client.send(b"x")
        assert client.answer().status == 408


@pytest.mark.parametrize("before", [b"", wire.request("/echo?1"), b"\r\n"])
def test_a_connection_without_a_request_ends_without_a_word(refusal, hasty, before):
    since = len(hasty.log.lines)
    with wire.Client(hasty) as client:
        client.send(before)
        if before.strip():
            assert client.answer().status == 200
        assert client.is_closed()
        port = client.port
    with wire.Client(hasty) as client:
        client.send(b"\0")
        refusal(hasty, client)
    assert not any(f":{port} " in line for line in hasty.log.lines[since:])
