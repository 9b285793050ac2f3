"""PEP 3333, "Input and Error Streams": `wsgi.input` reads like any other binary file.

What a file would give is not written down here: the same steps on a `BytesIO` tell.
"""

import hashlib
import io
import json
import random
from urllib.parse import quote

import pytest
import wire
from apps.steps import perform

pytestmark = pytest.mark.every_class("sync", "threads", "async")

#: Bytes of a body that the server keeps in memory; a longer one, if its length is not known before,
#: is in a file.
IN_MEMORY = 512 * 1024


@pytest.fixture(scope="module")
def server(serve):
    return serve("reading:app")


def body_of(size):
    """Lines of all lengths, some empty and some longer than any buffer, without a final one."""
    rng = random.Random(size)
    lengths = [0, 1, 8190, 8191, 8192, 8193, 40_000]
    body = bytearray()
    while len(body) < size:
        length = lengths.pop(0) if lengths else rng.randrange(200)
        body += rng.randbytes(length).replace(b"\n", b"\r") + b"\n"
    return bytes(body[: size - 1]) + b"x"


BODIES = {
    "none": b"",
    "short": b"one\ntwo\n\nthree\r\nfour",
    "newline": b"\n",
    "ended": b"a\nb\n",
    "memory": body_of(IN_MEMORY),
    "file": body_of(IN_MEMORY + 1),
    "long": body_of(2 * IN_MEMORY),
}

STEPS = [
    [["read"], ["read"]],
    [["read", -1], ["read", 1]],
    [["read", None], ["read", None]],
    [["read", 0], ["read", 1], ["read", 0], ["read", 10_000_000], ["read", 1]],
    [["read", 5], ["readline"], ["read", 5], ["readline", 2], ["readlines"], ["readline"]],
    [["readline"], ["readline"], ["readline"], ["readline"], ["readline"], ["readline"]],
    [["readline", 0], ["readline", 1], ["readline", -1], ["readline", None], ["readline", 50_000]],
    [["readline", 8192], ["readline", 8192], ["readline", 9000], ["read"], ["readline"]],
    [["readlines"], ["readlines"]],
    [["readlines", 0], ["read"]],
    [["readlines", -1], ["read"]],
    [["readlines", None], ["read"]],
    [["readlines", 1], ["readlines", 5], ["readlines", 10_000], ["read"]],
    [["iter"], ["iter"], ["read"]],
    [["next"], ["next"], ["read", 3], ["next"], ["iter"], ["next"]],
]


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_the_body_reads_like_a_file(server, name, framing):
    body = BODIES[name]
    pieces = [body[at : at + 30_000] for at in range(0, len(body), 30_000)]
    with wire.Client(server) as client:
        for steps in STEPS:
            target = f"/read?{quote(json.dumps(steps))}"
            sent = body if framing == "length" else pieces
            answer = client.ask(target, method="POST", body=sent)
            assert json.loads(answer.body) == perform(io.BytesIO(body), steps), steps


def test_a_request_without_a_body_has_an_empty_input(server):
    steps = [["read"], ["readline"], ["readlines"], ["iter"], ["read", 5]]
    answer = wire.ask(server, f"/read?{quote(json.dumps(steps))}")
    assert json.loads(answer.body) == perform(io.BytesIO(), steps)


def test_the_next_request_does_not_read_the_body_of_the_last(server):
    """Nor what the application has left unread."""
    target = f"/read?{quote(json.dumps([['read', 4]]))}"
    with wire.Client(server) as client:
        got = [
            json.loads(client.ask(target, method="POST", body=body).body)[0]
            for body in (b"first body", b"second body", b"")
        ]
    assert got == ["firs", "seco", ""]


@pytest.mark.parametrize(
    "encoded",
    [
        wire.request("/upload", method="POST", body=b"slow\nbody"),
        wire.request("/upload", method="POST", body=[b"sl", b"ow\nbo", b"dy"]),
        wire.request("/upload", method="POST", fields=["Transfer-Encoding: chunked"])
        + b"00A;extension=1\r\nslow\nbody!\r\n0\r\nTrailer: x\r\n\r\n",
    ],
    ids=["length", "chunked", "extension-and-trailer"],
)
def test_a_body_that_comes_byte_by_byte_arrives_whole(server, encoded):
    expected = b"slow\nbody!" if b"extension" in encoded else b"slow\nbody"
    with wire.Client(server) as client:
        for byte in encoded:
            client.send(bytes([byte]))
        got = json.loads(client.answer().body)
    assert got == [len(expected), hashlib.sha256(expected).hexdigest()]


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_20_megabytes_arrive_unchanged(server, framing):
    body = random.Random(20).randbytes(20 * 1024 * 1024)
    pieces = [body[at : at + 1_000_003] for at in range(0, len(body), 1_000_003)]
    sent = body if framing == "length" else pieces
    answer = wire.ask(server, "/upload", method="PUT", body=sent)
    assert json.loads(answer.body) == [len(body), hashlib.sha256(body).hexdigest()]
