"""PEP 3333, "Optional Platform-Specific File Handling".

What the client gets must be what reading the file would give. Whether the server read it, or sent
it by sendfile(2), shows in where the file stands when it is closed.
"""

import gzip
import hashlib
import json
import os
import random
import socket
from urllib.parse import quote

import pytest
import wire
from wire import SHORT, WHOLE

pytestmark = pytest.mark.every_class("sync", "threads", "async")

CONTENT = bytes(range(256)) * 100


@pytest.fixture(scope="module")
def server(serve):
    return serve("files:app")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Paths of the files that the kinds of the application open."""
    folder = tmp_path_factory.mktemp("files")
    plain, packed = folder / "plain", folder / "packed"
    plain.write_bytes(CONTENT)
    packed.write_bytes(gzip.compress(CONTENT))
    return {"gzip": str(packed), "plain": str(plain)}


@pytest.fixture
def ask(server, paths):
    """ask(kind, option=value): the answer with a file of that kind."""

    def ask(kind, method="GET", version="1.1", **options):
        return wire.ask(server, target(paths, kind, **options), method=method, version=version)

    return ask


def target(paths, kind, **options):
    options = {"kind": kind, "path": paths.get(kind, paths["plain"]), **options}
    return f"/file?{quote(json.dumps(options))}"


def closed(server, name):
    """The times close() was called: where the file stood."""
    seen = json.loads(wire.ask(server, f"/events?{quote(name)}").body)
    return [position for _, position in seen]


REAL = ["buffered", "raw", "random", "temporary"]


@pytest.mark.parametrize("skip", [0, 1, 1000, len(CONTENT)])
@pytest.mark.parametrize("kind", REAL)
def test_a_real_file_is_sent_from_where_it_stands_without_reading_it(server, ask, kind, skip):
    name = f"{kind}-{skip}"
    answer = ask(kind, skip=skip, name=name)
    assert (answer.status, answer.ending) == (200, WHOLE)
    assert answer.body == CONTENT[skip:]
    assert answer.field("Content-Length") == str(len(CONTENT) - skip)
    if kind != "raw":  # a FileIO takes no attributes, so its close() cannot be watched
        assert closed(server, name) == [skip]


def test_the_wrapper_of_a_named_temporary_file_is_a_real_file(server, ask):
    answer = ask("named", name="named")
    assert (answer.body, answer.field("Content-Length")) == (CONTENT, str(len(CONTENT)))
    assert closed(server, "named") == [0]


def test_what_the_application_has_written_into_the_file_is_sent(server, tmp_path):
    path = tmp_path / "edited"
    path.write_bytes(CONTENT)
    answer = wire.ask(server, target({"plain": str(path)}, "edited"))
    assert answer.body == b"edited" + CONTENT[6:]
    assert answer.field("Content-Length") == str(len(CONTENT))


UPPER = CONTENT.upper()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("bytes", CONTENT),
        ("spooled", CONTENT),
        ("spooled-in-memory", CONTENT),
        ("pipe", CONTENT),
        ("reader", CONTENT),
        # These have a file descriptor whose bytes are not the content.
        ("gzip", CONTENT),
        ("upper", UPPER),
        ("upper-file", UPPER),
        ("upper-reader", UPPER),
        ("upper-in-reader", UPPER),
    ],
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_whatever_else_can_be_read_is_read(ask, kind, body, version):
    answer = ask(kind, version=version)
    assert (answer.status, answer.ending) == (200, WHOLE)
    assert answer.body == body
    assert answer.field("Content-Length") is None


@pytest.mark.parametrize("kind", ["buffered", "random", "named", "bytes", "spooled", "upper"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_file_is_closed_once(server, ask, kind, method):
    name = f"{kind}-{method}"
    ask(kind, method=method, name=name)
    assert len(closed(server, name)) == 1


def test_something_without_close_need_not_have_one(ask, log):
    assert ask("reader").body == CONTENT
    assert log.errors() == []


@pytest.mark.parametrize("kind", ["buffered", "bytes"])
@pytest.mark.parametrize("length", [0, 1, 1000, len(CONTENT)])
def test_the_content_length_bounds_the_file(server, paths, kind, length):
    with wire.Client(server) as client:
        answer = client.ask(target(paths, kind, length=length))
        assert answer.body == CONTENT[:length]
        assert answer.field("Content-Length") == str(length)
        assert client.ask(target(paths, "bytes")).body == CONTENT


def test_offset_and_content_length_together_make_a_range(ask):
    answer = ask("buffered", skip=100, length=50, status="206 Partial Content")
    assert (answer.status, answer.body) == (206, CONTENT[100:150])


@pytest.mark.parametrize("kind", ["buffered", "bytes"])
def test_a_file_shorter_than_its_content_length_ends_the_connection(server, ask, log, kind):
    answer = ask(kind, length=len(CONTENT) + 1, name=f"short-{kind}")
    assert (answer.body, answer.ending) == (CONTENT, SHORT)
    log.wait('error: request="GET /file" .*shorter than its Content-Length')
    assert len(closed(server, f"short-{kind}")) == 1


@pytest.mark.parametrize("kind", ["buffered", "raw"])
def test_a_file_that_does_not_tell_its_length_is_read(ask, kind):
    path = "/proc/version"
    assert os.path.getsize(path) == 0
    with open(path, "rb") as file:
        assert ask(kind, path=path).body == file.read()


@pytest.mark.parametrize("size", [0, 1])
def test_a_tiny_file_is_sent(server, tmp_path, size):
    path = tmp_path / "tiny"
    path.write_bytes(b"x" * size)
    with wire.Client(server) as client:
        for kind in ("buffered", "raw"):
            answer = client.ask(target({"plain": str(path)}, kind))
            assert (answer.body, answer.field("Content-Length")) == (b"x" * size, str(size))


@pytest.mark.parametrize("kind", ["buffered", "bytes"])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_file_without_body_to_send_it_in_leaves_the_connection_usable(
    server, paths, kind, method
):
    status = "200 OK" if method == "HEAD" else "304 Not Modified"
    with wire.Client(server) as client:
        answer = client.ask(target(paths, kind, status=status), method=method)
        assert (answer.status, answer.body) == (int(status[:3]), b"")
        if method == "HEAD" and kind == "buffered":
            assert answer.field("Content-Length") == str(len(CONTENT))
        assert client.ask(target(paths, "bytes")).body == CONTENT


@pytest.mark.parametrize("kind", ["buffered", "bytes"])
def test_a_file_follows_what_was_written(ask, kind):
    answer = ask(kind, write="before ")
    assert (answer.body, answer.ending) == (b"before " + CONTENT, WHOLE)


@pytest.mark.parametrize("kind", ["buffered", "bytes"])
def test_middleware_may_iterate_the_wrapper(ask, kind):
    answer = ask(kind, middleware=True)
    assert answer.body == CONTENT
    assert answer.field("Content-Length") == str(len(CONTENT))


def test_the_block_size_is_the_applications(ask):
    sizes = ask("bytes", block=[10_000]).chunks
    assert sizes == [10_000, 10_000, len(CONTENT) - 20_000]


def test_a_file_of_text_is_500_and_the_log_says_so(ask, log):
    assert ask("text").status == 500
    log.wait("TypeError: the response body must be bytes, not .*str")


@pytest.mark.parametrize("kind", ["buffered", "bytes"])
def test_without_start_response_the_answer_is_500_and_the_file_closed(server, ask, log, kind):
    assert ask(kind, start=False, name=f"unstarted-{kind}").status == 500
    log.wait("AssertionError: .* start_response")
    assert len(closed(server, f"unstarted-{kind}")) == 1


@pytest.fixture
def large(tmp_path):
    """The path of a file that no buffer holds, and its content."""
    path = tmp_path / "large"
    content = random.Random(0).randbytes(1_000_003) * 20
    path.write_bytes(content)
    return path, content


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_20_megabytes_are_sent_although_the_file_is_closed_and_gone(server, large, version):
    path, content = large
    with wire.Client(server) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        client.send(wire.request(target({"plain": str(path)}, "buffered"), version=version))
        client.socket.recv(1, socket.MSG_PEEK)
        os.remove(path)
        answer = client.answer()
    assert answer.ending == WHOLE
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(content).digest()


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_file_that_shrinks_while_it_is_sent_ends_the_connection(server, large, log, version):
    path, content = large
    with wire.Client(server) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        client.send(wire.request(target({"plain": str(path)}, "buffered"), version=version))
        client.socket.recv(1, socket.MSG_PEEK)
        os.truncate(path, 100)
        answer = client.answer()
    assert answer.field("Content-Length") == str(len(content))
    assert answer.ending == SHORT
    log.wait("error: .*client=127.0.0.1.* the file is shorter than announced")
