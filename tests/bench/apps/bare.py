"""The applications of the workloads that no framework takes part in."""

import json
import time

TEXT = [("Content-Type", "text/plain; charset=utf-8")]
JSON = [("Content-Type", "application/json")]

GREETING = b"Hello, world!\n"
PROFILE = json.dumps({f"key {n:02}": "x" * 20 for n in range(57)}).encode()  # 2 KB
ITEMS = [
    {"sku": f"A-10{n}", "name": "Espresso cups, set of four", "quantity": n % 3, "price": "24.90"}
    for n in range(8)
]
ADDRESS = {"street": "12 High Street", "city": "Springfield", "postcode": "12345", "country": "GB"}
ORDER = json.dumps(  # 1 KB
    {
        "customer": {"id": 48213, "email": "customer@shop.example", "address": ADDRESS},
        "items": ITEMS,
        "coupon": None,
        "gift": False,
        "note": "Please leave it with the neighbours: they are at home in the afternoon, "
        "and so is their dog, who barks.",
    }
).encode()
RECEIPT = b"x" * 10_000
CHUNK = b"x" * 1000
CHUNKS = 100
LARGE = b"x" * 1_000_000
PIECE = 64 * 1024
SLOW = 0.010  # seconds
WAIT = 0.100  # seconds
COMPUTE = 0.050  # seconds, of the processor's time


def with_length(headers, body):
    return [*headers, ("Content-Length", str(len(body)))]


def hello(environ, start_response):
    start_response("200 OK", with_length(TEXT, GREETING))
    return [GREETING]


def profile(environ, start_response):
    start_response("200 OK", with_length(JSON, PROFILE))
    return [PROFILE]


def order(environ, start_response):
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    assert len(json.loads(body)["items"]) == len(ITEMS)
    start_response("200 OK", with_length(JSON, RECEIPT))
    return [RECEIPT]


def stream(environ, start_response):
    start_response("200 OK", TEXT)
    return (CHUNK for _ in range(CHUNKS))


def large(environ, start_response):
    start_response("200 OK", with_length(TEXT, LARGE))
    return [LARGE]


def upload(environ, start_response):
    stream, left = environ["wsgi.input"], int(environ["CONTENT_LENGTH"])
    size = 0
    while left > size and (piece := stream.read(min(PIECE, left - size))):
        size += len(piece)
    answer = str(size).encode()
    start_response("200 OK", with_length(TEXT, answer))
    return [answer]


def mixed(environ, start_response):
    """One path waits, as for a database; the other does not."""
    if environ["PATH_INFO"] == "/slow":
        time.sleep(SLOW)
    return hello(environ, start_response)


def waiting(environ, start_response):
    time.sleep(WAIT)
    return hello(environ, start_response)


def neighbours(environ, start_response):
    """One path computes for some time of its own thread; the other does not."""
    if environ["PATH_INFO"] == "/compute":
        end = time.thread_time() + COMPUTE
        while time.thread_time() < end:
            pass
    return hello(environ, start_response)
