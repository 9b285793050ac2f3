"""What the servers of a soak serve."""

import gc
import os
import sys
import threading
import time

TEXT = [("Content-Type", "text/plain")]
waiting = 0


def app(environ, start_response):
    body = ROUTES[environ["PATH_INFO"]](environ)
    if body is not None:
        start_response("200 OK", TEXT)
    return body or []


def hello(environ):
    return [b"hello"]


def wait(environ):
    time.sleep(0.05)
    return [b"waited"]


def compute(environ):
    return [str(sum(range(20_000))).encode()]


def upload(environ):
    size, stream = 0, environ["wsgi.input"]
    while piece := stream.read(65536):
        size += len(piece)
    return [str(size).encode()]


def fail(environ):
    raise RuntimeError("on purpose")


def events(environ):
    """Server-sent events, about one in a tenth of a second, until the client has had enough."""
    number = 0
    while True:
        yield f"data: {number}\n\n".encode()
        number += 1
        time.sleep(0.1)


def heavy(environ):
    """More than a client reads: the generator waits for room, until the client goes."""
    while True:
        yield b"x" * 100_000


def socket(environ):
    """Takes the connection, and says back what it hears."""
    connection = environ["werkzeug.socket"]
    while data := connection.recv(1000):
        connection.sendall(data)


def crowd(environ):
    """Waits until `/open` is asked for."""
    global waiting
    waiting += 1
    opened.wait()
    return [b"waited"]


def count(environ):
    return [str(waiting).encode()]


def open_all(environ):
    opened.set()
    return [b"opened"]


def census(environ):
    """What there is of everything that could leak."""
    gc.collect()
    greenlets = 0
    if greenlet := sys.modules.get("greenlet"):
        greenlets = sum(isinstance(it, greenlet.greenlet) for it in gc.get_objects())
    threads = len(os.listdir("/proc/self/task"))
    descriptors = len(os.listdir("/proc/self/fd"))
    return [f"{descriptors} {threads} {greenlets}".encode()]


opened = threading.Event()
ROUTES = {
    "/": hello,
    "/wait": wait,
    "/compute": compute,
    "/upload": upload,
    "/fail": fail,
    "/events": events,
    "/heavy": heavy,
    "/socket": socket,
    "/crowd": crowd,
    "/count": count,
    "/open": open_all,
    "/census": census,
}
