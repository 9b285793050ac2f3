"""`wsgiref.validate` finds nothing wrong with how this server calls an application."""

import pytest
import wire

pytestmark = pytest.mark.every_class("sync", "threads", "async")


@pytest.fixture(scope="module")
def server(serve):
    return serve("validated:app")


BODY = b"one\ntwo\nthree"
ANSWERS = {
    "/read": repr([b"one", b"", b"\ntwo\nthree", b""]).encode(),
    "/readline": repr([b"one\n", b"tw", b"o\n", b"three"]).encode(),
    "/readlines": repr([[b"one\n"], [b"two\n", b"three"], []]).encode(),
    "/iterate": repr([b"one\n", b"two\n", b"three"]).encode(),
    "/unread": b"unread",
    "/errors": b"errors",
    "/write": b"write",
    "/generate": b"generate",
    "/exc_info": b"exc_info",
    "/file": b"file",
    "/empty": b"",
    "/headers": b"headers",
}


@pytest.mark.parametrize("path", ANSWERS)
@pytest.mark.parametrize(
    ("version", "body"),
    [("1.1", BODY), ("1.0", BODY), ("1.1", [BODY[:5], BODY[5:]])],
    ids=["1.1", "1.0", "chunked"],
)
def test_the_validator_is_content_with_a_post(server, log, path, version, body):
    answer = wire.ask(
        server,
        f"{path}?a=%2F&b",
        method="POST",
        version=version,
        body=body,
        fields=["Content-Type: text/plain", "Cookie: a=b", "Cookie: c=d", "X-High: \u00e9"],
    )
    assert (answer.body, answer.ending) == (ANSWERS[path], wire.WHOLE)
    assert log.lines() == []


@pytest.mark.parametrize("path", ["/unread", "/errors", "/write", "/generate", "/file", "/empty"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
def test_the_validator_is_content_with_a_request_without_a_body(server, log, path, method):
    answer = wire.ask(server, path, method=method)
    assert answer.body == (b"" if method == "HEAD" else ANSWERS[path])
    assert log.lines() == []
