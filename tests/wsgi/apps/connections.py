"""Small answers of several kinds, to be asked for in a row on one connection."""

from routes import app, query, route

__all__ = ["app"]

PLAIN = [("Content-Type", "text/plain")]


@route
def echo(environ, start_response):
    """The query and the body."""
    start_response("200 OK", PLAIN)
    return [query(environ).encode("latin-1"), environ["wsgi.input"].read()]


@route
def unread(environ, start_response):
    start_response("200 OK", PLAIN)
    return [b"unread"]


@route
def stream(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"stream"
    yield b"ed"


@route
def wait(environ, start_response):
    """A piece, and another when the fifo of the query has been opened and closed."""
    start_response("200 OK", PLAIN)
    yield b"wai"
    open(query(environ), "rb").close()
    yield b"ted"


@route
def broken(environ, start_response):
    raise ValueError("broken on purpose")
