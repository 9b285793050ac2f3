"""What the applications of these tests share: a route for each function, and a memory."""

import json
from urllib.parse import unquote

ROUTES = {}
#: What the application has seen happen, by the name a test gave it.
EVENTS = {}


def route(function):
    """Serves a WSGI application at the path of its name."""
    ROUTES["/" + function.__name__] = function
    return function


def app(environ, start_response):
    return ROUTES.get(environ["PATH_INFO"], missing)(environ, start_response)


def missing(environ, start_response):
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"the application of this test has no such route"]


def query(environ):
    return unquote(environ["QUERY_STRING"])


def as_json(start_response, value):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(value).encode()]


class Body:
    """An iterable that remembers what was done with it, under the name that the query gives."""

    def __init__(self, environ, pieces):
        self._name = query(environ)
        self._pieces = iter(pieces)

    @property
    def events(self):
        return EVENTS.setdefault(self._name, [])

    def __iter__(self):
        return self

    def __next__(self):
        piece = next(self._pieces)
        self.events.append("piece")
        return piece

    def close(self):
        self.events.append("close")


@route
def log(environ, start_response):
    """Writes a line into the log, so that a test knows what came before it."""
    environ["wsgi.errors"].write(query(environ) + "\n")
    environ["wsgi.errors"].flush()
    return as_json(start_response, None)


@route
def events(environ, start_response):
    """What happened under this name, and forgets it."""
    return as_json(start_response, EVENTS.pop(query(environ), []))
