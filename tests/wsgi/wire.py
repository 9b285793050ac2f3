"""A client that shows what was on the wire: no retries, no repairs, nothing hidden.

`http.client` forgives and forgets too much for tests of a server: how a body ended, what followed
it, a field sent twice.
"""

from typing import NamedTuple

from harness import PATIENCE

#: How the body of an answer ended.
WHOLE = "whole"
SHORT = "short"  # the connection ended first
RESET = "reset"  # ... and not by an orderly close


class Answer(NamedTuple):
    version: str
    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes
    #: Sizes of the chunks, without the last; None when the body was not chunked.
    chunks: list[int] | None
    ending: str

    def all(self, name):
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def field(self, name):
        """The value of a field that may be there once at most."""
        values = self.all(name)
        assert len(values) < 2, f"{name} was sent {len(values)} times: {values}"
        return values[0] if values else None


class Client:
    """One connection to a server of the harness."""

    def __init__(self, server):
        self.socket = server.connect(PATIENCE)
        self._stream = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        self._stream.close()
        self.socket.close()

    @property
    def port(self):
        return self.socket.getsockname()[1]

    def send(self, data):
        self.socket.sendall(data)

    def ask(self, *args, **kwargs):
        """Sends one request, see `request`, and reads its answer."""
        self.send(request(*args, **kwargs))
        return self.answer(kwargs.get("method", "GET"))

    def answer(self, method="GET"):
        """The next answer. `method` is what it answers: one to HEAD has no body."""
        version, status, reason = self._status()
        answer = Answer(version, status, reason, self._fields(), b"", None, WHOLE)
        if method == "HEAD" or status in (204, 304) or status < 200:
            return answer
        coding, length = answer.field("Transfer-Encoding"), answer.field("Content-Length")
        if coding is not None:
            assert (coding, length, version) == ("chunked", None, "HTTP/1.1")
            return answer._replace(**self._chunked())
        if length is not None:
            body, ending = self._piece(int(length))
            return answer._replace(body=body, ending=ending)
        assert answer.field("Connection") == "close", "a body without an end"
        return answer._replace(**self._until_close())

    def _status(self):
        line = self._line()
        version, code, reason = line.split(" ", 2)
        assert version == "HTTP/1.1" and len(code) == 3, line
        return version, int(code), reason

    def _fields(self):
        fields = []
        while line := self._line():
            name, value = line.split(":", 1)
            fields.append((name, value.strip()))
        return fields

    def _line(self):
        line = self._stream.readline()
        assert line, "the connection ended where a line was due"
        assert line.endswith(b"\r\n") and line.count(b"\r") == 1, line
        return line[:-2].decode("latin-1")

    def _piece(self, length):
        """`length` bytes, or as many as there are: a piece, and how it ended."""
        try:
            piece = self._stream.read(length)
        except ConnectionResetError:
            return b"", RESET
        return piece, WHOLE if len(piece) == length else SHORT

    def _until_close(self):
        try:
            return {"body": self._stream.read(), "ending": WHOLE}
        except ConnectionResetError:
            return {"body": b"", "ending": RESET}

    def _chunked(self):
        body, sizes, ending = b"", [], WHOLE
        while ending == WHOLE:
            line = self._stream.readline()
            if not line:
                ending = SHORT
                break
            size = int(line, 16)
            if size == 0:
                assert self._line() == ""
                break
            piece, ending = self._piece(size)
            body += piece
            sizes.append(size)
            assert ending != WHOLE or self._line() == ""
        return {"body": body, "chunks": sizes, "ending": ending}

    def rest(self):
        """Everything until the server closes."""
        return self._stream.read()

    def is_closed(self):
        """Whether the server closes now, and without another byte."""
        return self.rest() == b""


def request(target="/", *, method="GET", fields=(), body=None, version="1.1"):
    """The bytes of a request. A list as `body` is sent chunked, each item a chunk."""
    lines = [f"{method} {target} HTTP/{version}".encode()]
    fields = [field if isinstance(field, bytes) else field.encode("latin-1") for field in fields]
    if not any(field.lower().startswith(b"host:") for field in fields):
        fields.insert(0, b"Host: test.example")
    content = body or b""
    if isinstance(body, list):
        fields.append(b"Transfer-Encoding: chunked")
        content = b"".join(chunk(piece) for piece in [*body, b""])
    elif body is not None:
        fields.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, *fields, b"", content])


def chunk(piece):
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def ask(server, *args, **kwargs):
    """The answer to one request on a connection of its own."""
    with Client(server) as client:
        return client.ask(*args, **kwargs)


def ask_raw(server, data):
    """The answer to these bytes."""
    with Client(server) as client:
        client.send(data)
        return client.answer()
