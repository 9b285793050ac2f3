"""How long a connection lives, and who says so (RFC 9112 section 9)."""

import os
import socket
from urllib.parse import quote

import pytest
import wire

pytestmark = pytest.mark.every_class("sync", "threads", "async")


@pytest.fixture(scope="module")
def server(serve):
    return serve("connections:app")


@pytest.fixture
def client(server):
    with wire.Client(server) as client:
        yield client


@pytest.fixture(scope="module")
def closing_server(serve):
    return serve("connections:app", "--keep-alive", "0")


# ---- one after the other


def test_a_connection_serves_many_requests(client):
    for number in range(100):
        answer = client.ask(f"/echo?{number}")
        assert answer.body == str(number).encode()
        assert answer.field("Connection") is None


def test_pipelined_requests_are_answered_in_order(client):
    client.send(
        wire.request("/echo?1")
        + wire.request("/echo?2", method="POST", body=b" with a body")
        + wire.request("/stream")
        + wire.request("/echo?4", method="POST", body=[b" in ", b"chunks"])
        + wire.request("/echo?5", method="HEAD")
        + wire.request("/echo?6")
    )
    methods = ["GET", "POST", "GET", "POST", "HEAD", "GET"]
    bodies = [client.answer(method).body for method in methods]
    assert bodies == [b"1", b"2 with a body", b"streamed", b"4 in chunks", b"", b"6"]


def test_pipelined_requests_may_be_cut_anywhere(server):
    """Each of two requests in one piece, and split at each byte."""
    both = wire.request("/echo?1", method="POST", body=b"ab") + wire.request("/echo?2")
    for at in range(1, len(both)):
        with wire.Client(server) as client:
            client.send(both[:at])
            client.send(both[at:])
            assert [client.answer().body, client.answer().body] == [b"1ab", b"2"], at


def test_many_pipelined_requests_are_all_answered(client):
    """More than one read of the server takes."""
    count = 2000
    client.send(b"".join(wire.request(f"/echo?{number}") for number in range(count)))
    for number in range(count):
        assert client.answer().body == str(number).encode()


def test_empty_lines_before_a_request_are_passed_over(client):
    """RFC 9112 section 2.2."""
    client.send(b"\r\n" + wire.request("/echo?1") + b"\r\n" + wire.request("/echo?2"))
    assert [client.answer().body, client.answer().body] == [b"1", b"2"]


@pytest.mark.parametrize("size", [10, 2_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_the_application_does_not_read_is_passed_over(client, size, framing):
    body = b"GET /echo?smuggled HTTP/1.1\r\nHost: a\r\n\r\n" * (size // 40 + 1)
    sent = body if framing == "length" else [body]
    client.send(wire.request("/unread", method="POST", body=sent))
    client.send(wire.request("/echo?next"))
    assert [client.answer().body, client.answer().body] == [b"unread", b"next"]


def test_a_client_that_has_said_all_still_gets_its_answers(server):
    both = wire.request("/echo?1") + wire.request("/echo?2")
    with wire.Client(server) as client:
        client.send(both)
        client.socket.shutdown(socket.SHUT_WR)
        assert [client.answer().body, client.answer().body] == [b"1", b"2"]


def test_a_client_that_has_said_all_while_the_worker_was_busy_is_let_go(server, client, tmp_path):
    """Its request and its end come in one event of the kernel, and no other will follow."""
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    client.ask("/echo?0")
    with wire.Client(server) as other:
        other.send(wire.request(f"/wait?{quote(fifo)}"))
        other.socket.recv(1, socket.MSG_PEEK)
        client.send(wire.request("/echo?1"))
        client.socket.shutdown(socket.SHUT_WR)
        open(fifo, "wb").close()
        assert other.answer().body == b"waited"
    assert client.answer().body == b"1"
    assert client.is_closed()


# ---- the end


@pytest.mark.parametrize(
    "value", ["close", "Close", "CLOSE", "keep-alive, close", "x,close ,y", " , close", "close,"]
)
def test_a_client_may_end_the_connection_by_a_token(client, value):
    answer = client.ask("/echo?1", fields=[f"Connection: {value}"])
    assert (answer.body, answer.field("Connection")) == (b"1", "close")
    assert client.is_closed()


def test_a_client_may_end_the_connection_by_a_second_field(client):
    fields = ["Connection: x", "Connection: close"]
    assert client.ask("/echo?1", fields=fields).field("Connection") == "close"
    assert client.is_closed()


@pytest.mark.parametrize("value", ["closed", "not-close", "x close", '"close"', "keep-alive"])
def test_other_tokens_do_not_end_it(client, value):
    client.ask("/echo?1", fields=[f"Connection: {value}"])
    assert client.ask("/echo?2").body == b"2"


@pytest.mark.parametrize("path", ["/echo?1", "/stream"])
def test_nothing_is_answered_after_the_last_request(client, path):
    last = wire.request(path, fields=["Connection: close"])
    client.send(wire.request("/echo?0") + last + wire.request("/echo?never"))
    assert client.answer().status == 200
    assert client.answer().ending == wire.WHOLE
    assert client.is_closed()


def test_an_old_client_gets_one_answer(client):
    client.send(wire.request("/echo?1", version="1.0") * 2)
    answer = client.answer()
    assert (answer.body, answer.field("Connection")) == (b"1", "close")
    assert client.is_closed()


@pytest.mark.parametrize("value", ["keep-alive", "Keep-Alive", "x, keep-alive"])
def test_an_old_client_may_ask_for_more(client, value):
    for number in range(3):
        fields = [f"Connection: {value}"]
        answer = client.ask(f"/echo?{number}", version="1.0", fields=fields)
        assert (answer.body, answer.field("Connection")) == (str(number).encode(), "keep-alive")


def test_after_an_application_failed_the_connection_ends(client):
    answer = client.ask("/broken")
    assert (answer.status, answer.field("Connection")) == (500, "close")
    assert client.is_closed()


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("path", ["/echo?1", "/stream", "/unread"])
def test_keep_alive_0_ends_every_connection(closing_server, version, path):
    with wire.Client(closing_server) as client:
        answer = client.ask(path, version=version, fields=["Connection: keep-alive"])
        assert (answer.field("Connection"), answer.ending) == ("close", wire.WHOLE)
        assert client.is_closed()


# ---- Expect: 100-continue (RFC 9110 section 10.1.1)

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def halves(*args, **kwargs):
    """A request that expects 100-continue: the head, and the body."""
    whole = wire.request(*args, method="POST", fields=["Expect: 100-Continue"], **kwargs)
    head, end, body = whole.partition(b"\r\n\r\n")
    return head + end, body


@pytest.mark.parametrize("body", [b"body", [b"bo", b"dy"]], ids=["length", "chunked"])
def test_a_client_that_waits_is_told_to_go_on_once(client, body):
    for _ in range(2):
        head, body_bytes = halves("/echo", body=body)
        client.send(head)
        interim = client.answer()
        assert (interim.status, interim.reason, interim.fields) == (100, "Continue", [])
        for byte in body_bytes:
            client.send(bytes([byte]))
        answer = client.answer()
        assert (answer.status, answer.body) == (200, b"body")


def test_100_continue_is_these_bytes(client):
    client.send(halves("/echo", body=b"x")[0])
    assert client.socket.recv(1000) == CONTINUE


@pytest.mark.parametrize("body", [b"body", [b"bo", b"dy"]], ids=["length", "chunked"])
def test_a_client_that_did_not_wait_is_told_nothing(client, body):
    client.send(b"".join(halves("/echo", body=body)))
    answer = client.answer()
    assert (answer.status, answer.body) == (200, b"body")


def test_a_client_without_a_body_is_told_nothing(client):
    client.send(halves("/echo", body=b"")[0])
    assert client.answer().status == 200


def test_an_old_client_is_told_nothing(server, client):
    head, body = halves("/echo", body=b"body", version="1.0")
    client.send(head)
    wire.ask(server, "/echo")  # by now the one worker has seen the head without its body
    client.send(body)
    answer = client.answer()
    assert (answer.status, answer.body) == (200, b"body")
