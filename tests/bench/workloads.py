"""What the servers are asked to do."""

from dataclasses import dataclass, field
from pathlib import Path

from .apps import bare
from .servers import APPS

BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://www.example.com/profile?tab=settings",
    "Cookie": "session=b64f1c2d9a7e4f5f8a0c3d2e1b6a7f98; theme=dark; consent=all",
    "DNT": "1",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Priority": "u=0, i",
}


#: Not with the applications: they would all have it in their memory.
UPLOAD = b"x" * 20_000_000


@dataclass(frozen=True)
class Workload:
    """One kind of request, sent again and again on some connections."""

    name: str
    about: str
    app: str
    answer: bytes
    method: str = "GET"
    paths: tuple[str, ...] = ("/",)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    connections: int = 64
    #: Whether a server without an application can do the same work.
    bare: bool = True
    #: Whether it is for servers that are set up for a thousand requests at once.
    crowd: bool = False
    #: What two more clients ask for all the time, without being measured.
    beside: str = ""
    #: Milliseconds that a connection rests between two requests.
    rest: int = 0
    #: Where the application is.
    folder: Path = APPS


WORKLOADS = [
    Workload("hello", "14 bytes for a request with two headers", "bare:hello", bare.GREETING),
    Workload(
        "browser",
        "2 KB of JSON for a request with a browser's headers and a query",
        "bare:profile",
        bare.PROFILE,
        paths=("/profile?tab=settings&page=2",),
        headers=BROWSER,
    ),
    Workload(
        "post",
        "10 KB for 1 KB of JSON, which the application parses",
        "bare:order",
        bare.RECEIPT,
        method="POST",
        headers={"Content-Type": "application/json"},
        body=bare.ORDER,
    ),
    Workload(
        "connect",
        "hello, on a new connection for each request",
        "bare:hello",
        bare.GREETING,
        headers={"Connection": "close"},
    ),
    Workload(
        "stream",
        "100 chunks of 1 KB, one after another from a generator",
        "bare:stream",
        bare.CHUNK * bare.CHUNKS,
        bare=False,
    ),
    Workload("large", "a response of 1 MB", "bare:large", bare.LARGE, connections=16),
    Workload(
        "upload",
        "a body of 20 MB, which the application reads",
        "bare:upload",
        str(len(UPLOAD)).encode(),
        method="POST",
        body=UPLOAD,
        connections=4,
    ),
    Workload("flask", "hello from Flask", "flask_hello:app", bare.GREETING, bare=False),
    Workload("django", "hello from Django", "django_hello:app", bare.GREETING, bare=False),
    Workload(
        "mixed",
        "hello, but one in ten requests waits for 10 ms",
        "bare:mixed",
        bare.GREETING,
        paths=("/slow", *["/"] * 9),
        bare=False,
    ),
    Workload(
        "waiting",
        "hello after 100 ms of waiting, as for a slow database; 10,000 requests/s are the most "
        "there can be",
        "bare:waiting",
        bare.GREETING,
        connections=1000,
        bare=False,
        crowd=True,
    ),
    Workload(
        "waiting-flask",
        "the same from Flask",
        "flask_hello:app",
        bare.GREETING,
        paths=("/io",),
        connections=1000,
        bare=False,
        crowd=True,
    ),
    Workload(
        "neighbours",
        "hello every 5 ms, beside two requests that compute for 50 ms, again and again",
        "bare:neighbours",
        bare.GREETING,
        connections=1,
        bare=False,
        beside="/compute",
        rest=5,
    ),
]
