"""Returns files by wsgi.file_wrapper, as the query (in JSON) says."""
# ruff: noqa: SIM115 - the server closes what an application returns

import contextlib
import gzip
import io
import json
import os
import tempfile

from routes import EVENTS, app, query, route

__all__ = ["app"]

CONTENT = bytes(range(256)) * 100


def opened(kind, path):
    if kind in OPEN:
        return OPEN[kind](path)
    file = FILLED[kind](path)
    file.write(CONTENT)
    file.seek(0)
    return file


def pipe(path):
    reader, writer = os.pipe()
    # Not os.close(): gevent's closes when its loop comes round, for which a read would wait.
    with open(writer, "wb") as file:
        file.write(CONTENT)
    return open(reader, "rb")


def edited(path):
    """Changed, and the change not yet written."""
    file = open(path, "r+b")
    file.read(10)
    file.seek(0)
    file.write(b"edited")
    file.seek(0)
    return file


class Reader:
    """Something with `read` and no more."""

    def __init__(self, path):
        self.read = open(path, "rb").read


class Upper:
    """A file-like object which keeps the real file where others do, and changes the content."""

    def __init__(self, path):
        self.file = open(path, "rb")
        self.fileno, self.tell = self.file.fileno, self.file.tell

    def read(self, size=-1):
        return self.file.read(size).upper()

    def close(self):
        self.file.close()


class UpperFile(io.FileIO):
    def read(self, size=-1):
        return super().read(size).upper()

    def readinto(self, buffer):
        count = super().readinto(buffer)
        buffer[:count] = bytes(buffer[:count]).upper()
        return count


class UpperReader(io.BufferedReader):
    def read(self, size=-1):
        return super().read(size).upper()


OPEN = {
    "buffered": lambda path: open(path, "rb"),
    "raw": lambda path: open(path, "rb", buffering=0),
    "random": lambda path: open(path, "r+b"),
    "text": lambda path: open(path, encoding="latin-1"),
    "gzip": lambda path: gzip.open(path, "rb"),
    "bytes": lambda path: io.BytesIO(CONTENT),
    "pipe": pipe,
    "edited": edited,
    "reader": Reader,
    "upper": Upper,
    "upper-file": UpperFile,
    "upper-reader": lambda path: UpperReader(io.FileIO(path)),
    "upper-in-reader": lambda path: io.BufferedReader(UpperFile(path)),
}
FILLED = {
    "temporary": lambda path: tempfile.TemporaryFile(),
    "named": lambda path: tempfile.NamedTemporaryFile(),
    "spooled": lambda path: tempfile.SpooledTemporaryFile(max_size=10),
    "spooled-in-memory": lambda path: tempfile.SpooledTemporaryFile(max_size=10**6),
}


def watch(file, events):
    """Notes each close(), and where the file stood."""
    close = getattr(file, "close", None)
    if close is None:
        return

    def closing():
        with contextlib.suppress(ValueError):  # closed already
            events.append(["close", file.tell() if hasattr(file, "tell") else None])
        close()

    with contextlib.suppress(AttributeError):  # it takes no attributes
        file.close = closing


@route
def file(environ, start_response):
    """Options: kind, path; name of the events; skip, length, block, status, middleware."""
    options = json.loads(query(environ))
    found = opened(options["kind"], options.get("path"))
    if skip := options.get("skip"):
        found.read(skip)
    watch(found, EVENTS.setdefault(options.get("name"), []))
    headers = [("Content-Type", "application/octet-stream")]
    if "length" in options:
        headers.append(("Content-Length", str(options["length"])))
    if options.get("start", True):
        write = start_response(options.get("status", "200 OK"), headers)
    if "write" in options:
        write(options["write"].encode())
    wrapper = environ["wsgi.file_wrapper"](found, *options.get("block", []))
    if options.get("middleware"):
        return list(wrapper)
    return wrapper
