"""Answers of known sizes, for the access log to count."""

import tempfile

from routes import app, query, route

__all__ = ["app"]

PLAIN = [("Content-Type", "text/plain")]


@route
def hello(environ, start_response):
    start_response("200 OK", PLAIN)
    return [b"hello"]


@route
def status(environ, start_response):
    start_response(query(environ), PLAIN)
    return [b"hello"]


@route
def stream(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"hel"
    yield b"lo!"


@route
def length(environ, start_response):
    """Five bytes, announced as many as the query says."""
    start_response("200 OK", [*PLAIN, ("Content-Length", query(environ))])
    return [b"hello"]


@route
def file(environ, start_response):
    content = tempfile.TemporaryFile()  # noqa: SIM115 - the server closes it
    content.write(b"f" * 70_000)
    content.seek(0)
    start_response("200 OK", PLAIN)
    return environ["wsgi.file_wrapper"](content)


@route
def raises(environ, start_response):
    raise ValueError("broken on purpose")


@route
def raises_midway(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"hello"
    raise ValueError("broken on purpose")


@route
def wait(environ, start_response):
    """A piece, and more when the fifo of the query has been opened and closed."""
    start_response("200 OK", PLAIN)
    yield b"hello"
    open(query(environ), "rb").close()
    for _ in range(100):
        yield b"more"
