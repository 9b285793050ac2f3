"""Answers in every way that PEP 3333 allows, and in many that it forbids."""

import contextlib
import hashlib
import os
import random
import sys
import time

from routes import Body, app, as_json, query, route

__all__ = ["app"]

PLAIN = [("Content-Type", "text/plain")]
KEPT = []


def started(start_response, *headers, status="200 OK"):
    return start_response(status, [*PLAIN, *headers])


def broken(message="broken on purpose"):
    raise ValueError(message)


# ---- kinds of bodies


def body_route(name, make):
    def answer(environ, start_response):
        started(start_response)
        return make()

    answer.__name__ = name
    route(answer)


body_route("one", lambda: [b"hello"])
body_route("tuple", lambda: (b"he", b"llo"))
body_route("list", lambda: [b"he", b"", b"llo"])
body_route("empty_list", lambda: [])
body_route("empty_piece", lambda: [b""])
body_route("generator", lambda: (piece for piece in (b"he", b"llo")))
body_route("generator_with_empty", lambda: (piece for piece in (b"", b"he", b"", b"llo", b"")))
body_route("empty_generator", lambda: iter([]))
body_route("old_sequence", lambda: OldSequence())
body_route("bytes_subclass", lambda: [type("Mine", (bytes,), {})(b"hello")])
body_route("str_in_list", lambda: ["text"])
body_route("str_itself", lambda: "text")
body_route("bytes_itself", lambda: b"text")
body_route("bytearray", lambda: [bytearray(b"text")])
body_route("none_in_list", lambda: [b"text", None])
body_route("str_from_generator", lambda: (piece for piece in ["text"]))
body_route("none", lambda: None)
body_route("number", lambda: 5)


class OldSequence:
    """Iterable only by the protocol of before iterators."""

    def __getitem__(self, index):
        return [b"he", b"llo"][index]


@route
def length(environ, start_response):
    """Pieces of 5 bytes in all, with the Content-Length that the query says."""
    started(start_response, ("Content-Length", query(environ)))
    return iter([b"he", b"llo"])


@route
def length_of_list(environ, start_response):
    started(start_response, ("Content-Length", query(environ)))
    return [b"hello"]


@route
def status(environ, start_response):
    """A body, whether the status allows one or not."""
    start_response(query(environ), PLAIN)
    return [b"hello"]


@route
def not_modified(environ, start_response):
    start_response("304 Not Modified", [("Content-Length", "5"), ("ETag", '"e"')])
    return []


@route
def length_without_body(environ, start_response):
    started(start_response, ("Content-Length", "5"))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"hello"]


@route
def many_headers(environ, start_response):
    fields = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("x-Y", "caf\u00e9"), ("X", "")]
    start_response("299 \u00c0 ma guise", fields)
    return [b""]


@route
def own_date_and_server(environ, start_response):
    started(start_response, ("date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("SERVER", "mine"))
    return []


@route
def large(environ, start_response):
    data = random.Random(query(environ)).randbytes(8 * 1024 * 1024)
    started(start_response, ("X-Digest", hashlib.sha256(data).hexdigest()))
    if query(environ) == "pieces":
        return (data[at : at + 50_000] for at in range(0, len(data), 50_000))
    return [data]


@route
def flood(environ, start_response):
    """64 MiB, faster than any client takes it."""
    started(start_response)
    piece = bytes(1024 * 1024)
    return (piece for _ in range(64))


# ---- write()


@route
def write_alone(environ, start_response):
    write = started(start_response)
    write(b"he")
    write(b"")
    write(b"llo")
    return []


@route
def write_and_return(environ, start_response):
    started(start_response)(b"he")
    return [b"l", b"lo"]


@route
def write_and_yield(environ, start_response):
    write = started(start_response)
    yield b"h"
    write(b"e")
    yield b"ll"
    write(b"o")


@route
def write_with_length(environ, start_response):
    started(start_response, ("Content-Length", "5"))(b"hel")
    return [b"lo"]


@route
def write_nothing(environ, start_response):
    started(start_response)(b"")
    return []


@route
def write_str(environ, start_response):
    started(start_response)("hello")
    return []


@route
def write_and_raise(environ, start_response):
    started(start_response)(b"he")
    broken()


@route
def keep_write(environ, start_response):
    KEPT[:] = [started(start_response), start_response]
    return [b"kept"]


@route
def use_kept(environ, start_response):
    """What the callables of a request before say now."""
    told = []
    for call in (lambda: KEPT[0](b"late"), lambda: KEPT[1]("200 OK", [])):
        try:
            told.append(repr(call()))
        except Exception as error:
            told.append(f"{type(error).__name__}: {error}")
    return as_json(start_response, told)


# ---- start_response


@route
def never_started(environ, start_response):
    return Body(environ, [b"hello"])


@route
def never_started_empty(environ, start_response):
    return Body(environ, [])


@route
def never_started_list(environ, start_response):
    return [b"hello"]


@route
def started_late(environ, start_response):
    """In the first step of the iterable, as a generator function does."""
    started(start_response)
    yield b"hello"


@route
def started_after_empty(environ, start_response):
    yield b""
    started(start_response)
    yield b"hello"


@route
def started_too_late(environ, start_response):
    yield b"hello"
    started(start_response)


@route
def started_twice(environ, start_response):
    started(start_response)
    started(start_response, status="201 Created")
    return [b"hello"]


@route
def started_twice_late(environ, start_response):
    started(start_response)
    yield b"hello"
    started(start_response, status="201 Created")


@route
def start(environ, start_response):
    """start_response(*ARGUMENTS), where the query is the Python of the arguments."""
    start_response(*eval(query(environ)))
    return [b"hello"]


@route
def start_again(environ, start_response):
    """An application that handles the error of a bad header itself."""
    try:
        started(start_response, ("X-A", "a\r\nX-B: b"))
    except ValueError:
        started(start_response, ("X-C", "c"), status="202 Accepted")
    return [b"hello"]


@route
def replaced(environ, start_response):
    """exc_info before a byte is sent: the second head counts."""
    started(start_response, ("X-First", "1"), ("Content-Length", "99"))
    try:
        broken()
    except ValueError:
        start_response("503 Sorry", [("X-Second", "2")], sys.exc_info())
    return [b"sorry"]


@route
def replaced_after_empty(environ, start_response):
    started(start_response, ("X-First", "1"))
    yield b""
    try:
        broken()
    except ValueError:
        start_response("503 Sorry", [("X-Second", "2")], sys.exc_info())
    yield b"sorry"


@route
def replaced_at_once(environ, start_response):
    """exc_info although there is no first head."""
    try:
        broken()
    except ValueError:
        start_response("503 Sorry", [], sys.exc_info())
    return [b"sorry"]


@route
def replaced_too_late(environ, start_response):
    """exc_info after a byte is sent: start_response raises it anew."""

    def pieces():
        yield b"hello"
        try:
            broken("the one in exc_info")
        except ValueError:
            start_response("503 Sorry", [("X-Second", "2")], sys.exc_info())
        yield b"sorry"

    started(start_response)
    return Body(environ, pieces())


@route
def replaced_badly(environ, start_response):
    """The second head is invalid, and the application does not care."""
    started(start_response)
    try:
        broken()
    except ValueError:
        with contextlib.suppress(ValueError):
            start_response("503 Sorry", [("X-A", "a\r\nb")], sys.exc_info())
    return [b"hello"]


@route
def no_exc_info(environ, start_response):
    start_response("200 OK", PLAIN, None)
    return [b"hello"]


# ---- failures


@route
def raises(environ, start_response):
    broken()


@route
def raises_after_start(environ, start_response):
    started(start_response)
    broken()


@route
def exits(environ, start_response):
    """Raises the exception that the query names."""
    raise {
        "SystemExit": SystemExit(1),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "GeneratorExit": GeneratorExit(),
        "StopIteration": StopIteration(),
        "MemoryError": MemoryError(),
        "BaseException": BaseException("base"),
    }[query(environ)]


@route
def exits_midway(environ, start_response):
    """The same in the middle of the body."""
    started(start_response)
    pieces = [lambda: b"hello", lambda: exits(environ, start_response)]
    return map(lambda piece: piece(), pieces)


@route
def pid(environ, start_response):
    return as_json(start_response, os.getpid())


# ---- close()


def closing(name, pieces, *headers):
    def answer(environ, start_response):
        started(start_response, *headers)
        return Body(environ, pieces())

    answer.__name__ = name
    route(answer)


def then_raise():
    yield b"hello"
    broken()


def at_once_raise():
    broken()
    yield


def then_str():
    yield b"hello"
    yield "text"


closing("closing", lambda: [b"he", b"llo"])
closing("closing_empty", list)
closing("closing_raises_first", at_once_raise)
closing("closing_raises_midway", then_raise)
closing("closing_raises_midway_length", then_raise, ("Content-Length", "99"))
closing("closing_str", lambda: ["text"])
closing("closing_str_midway", then_str)
closing("closing_short", lambda: [b"hello"], ("Content-Length", "99"))
closing("closing_excess", lambda: [b"hello", b"world"], ("Content-Length", "7"))


@route
def closing_bad_iter(environ, start_response):
    class Stubborn(Body):
        def __iter__(self):
            broken("no iterator today")

    started(start_response)
    return Stubborn(environ, [])


@route
def closing_raises(environ, start_response):
    """close() itself fails."""

    class Reluctant(Body):
        def close(self):
            super().close()
            broken("no closing today")

    started(start_response)
    return Reluctant(environ, [b"hello"])


@route
def closing_after_write(environ, start_response):
    started(start_response)(b"he")
    return Body(environ, [b"llo"])


@route
def closing_list(environ, start_response):
    """A list with a close() of its own is not to be taken for a plain one."""

    class Closing(Body, list):
        pass

    started(start_response)
    return Closing(environ, [b"he", b"llo"])


# ---- while it runs


@route
def fifo(environ, start_response):
    """A piece, then whatever is written to the fifo named in the query."""

    def pieces():
        yield b"first"
        with open(query(environ), "rb") as file:
            yield file.read()

    started(start_response)
    return pieces()


@route
def endless(environ, start_response):
    """A piece, a wait for the fifo, and pieces without end, too slow to be sent together."""

    def pieces():
        yield b"first"
        with open(query(environ), "rb") as file:
            file.read()
        while True:
            time.sleep(0.001)
            yield b"more"

    started(start_response)
    return Body(environ, pieces())
