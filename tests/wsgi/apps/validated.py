"""Uses every clause of PEP 3333 under the eyes of `wsgiref.validate`."""

import sys
import tempfile
from wsgiref.validate import validator

import routes
from routes import route

PLAIN = [("Content-Type", "text/plain")]


def echo(read):
    """A route that answers with what `read` gets from wsgi.input."""

    def answer(environ, start_response):
        start_response("200 OK", PLAIN)
        return [repr(read(environ["wsgi.input"])).encode()]

    answer.__name__ = read.__name__
    route(answer)


@echo
def read(stream):
    return [stream.read(3), stream.read(0), stream.read(-1), stream.read(1)]


@echo
def readline(stream):
    return [stream.readline(), stream.readline(2), stream.readline(100), stream.readline()]


@echo
def readlines(stream):
    return [stream.readlines(1), stream.readlines(), stream.readlines()]


@echo
def iterate(stream):
    return list(stream)


@route
def unread(environ, start_response):
    start_response("200 OK", PLAIN)
    return [b"unread"]


@route
def errors(environ, start_response):
    environ["wsgi.errors"].write("")
    environ["wsgi.errors"].writelines(["", ""])
    environ["wsgi.errors"].flush()
    start_response("200 OK", PLAIN)
    return (b"er", b"ro", b"rs")


@route
def write(environ, start_response):
    send = start_response("200 OK", PLAIN)
    send(b"wri")
    send(b"")
    return [b"te"]


@route
def generate(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"gene"
    yield b""
    yield b"rate"


@route
def exc_info(environ, start_response):
    start_response("200 OK", PLAIN)
    try:
        raise ValueError("caught")
    except ValueError:
        start_response("500 Replaced", PLAIN, sys.exc_info())
    return [b"exc_info"]


@route
def file(environ, start_response):
    content = tempfile.TemporaryFile()  # noqa: SIM115 - the server closes it
    content.write(b"file")
    content.seek(0)
    start_response("200 OK", PLAIN)
    return environ["wsgi.file_wrapper"](content, 3)


@route
def empty(environ, start_response):
    start_response("204 No Content", [])
    return []


@route
def headers(environ, start_response):
    start_response("200 Caf\u00e9", [*PLAIN, ("Set-Cookie", "a=b"), ("X-Latin", "\u00e9")])
    return [b"headers"]


# Validated inside and outside: the second validator sees what a middleware would.
app = validator(validator(routes.app))
