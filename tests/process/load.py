"""A constant load, and what its clients had to complain about."""

import socket
import threading
import time
from dataclasses import dataclass

from harness import PATIENCE, wait_until

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST_REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@dataclass
class Failure:
    """A request without an answer: when it was begun, and all of it had been sent (or None)."""

    client: str
    began: float
    sent: float | None
    reason: str


class Unanswered(ConnectionError):
    """The connection was closed in good order, before the first byte of an answer."""


#: Seconds; what is quicker than this is no stall on any machine.
SLOW = 0.05

#: Client, worker, relay and client again: how often a request waits for a processor.
TURNS = 4


class Lateness:
    """How late the machine wakes one who only sleeps, measured while this is entered.

    On a busy machine a request waits for processors rather than for the server. A bound on its
    time is a bound on what is left of it without that.
    """

    def __init__(self):
        self._samples = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sleep, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._done.set()
        self._thread.join(PATIENCE)

    def _sleep(self):
        while not self._done.is_set():
            began = time.monotonic()
            time.sleep(0.001)
            self._samples.append((began + 0.001, time.monotonic()))

    def between(self, began, ended):
        """Seconds that a request at that time may have waited for processors."""
        met = [up - down for down, up in self._samples if down < ended and up > began]
        return TURNS * max(met, default=0)

    def of_most(self, part):
        """The same for any request, but for a part of them."""
        samples = sorted(up - down for down, up in self._samples)
        return TURNS * samples[int(part * (len(samples) - 1))]


class Load:
    """Eight clients, half of them kept alive, the others with a connection for each request.

    A connection may only end after a response that announced it. After a failure, a client goes
    on with a new connection. One that was kept alive, and is closed without a word to the request
    that comes, is counted in `retried` and asked for anew, as RFC 9112 section 9.3.1 lets a client
    do with GET; tests that do not expect it check that there was none.

    With a `pause` (seconds) between its requests, the clients leave the machine idle in part, so
    that `longest` and `stall` measure the server rather than the scheduler. Without `kept_alive`,
    all eight have a connection for each request. With a `context`, they speak TLS.
    """

    def __init__(self, server, *, pause=0.0, kept_alive=True, context=None):
        self.address = server.address
        self.context = context
        self.pause = pause
        self.failures = []
        self.retried = 0
        #: When each was asked for, and the body.
        self._answers = []
        #: Seconds from the first attempt to the last byte of the answer, at worst.
        self.longest = 0.0
        #: From when to when the slow ones among them lasted.
        self._slow = []
        self._lateness = Lateness()
        self._done = threading.Event()
        kinds = [self._keep if kept_alive else self._close, self._close] * 4
        self.clients = len(kinds)
        self._threads = [threading.Thread(target=kind, daemon=True) for kind in kinds]

    def __enter__(self):
        self._lateness.__enter__()
        for thread in self._threads:
            thread.start()
        self.wait_for_answers(50)
        return self

    def __exit__(self, *exception):
        self._done.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        self._lateness.__exit__(*exception)

    @property
    def stall(self):
        """What the server has to do with the slow ones, at worst; 0 if none was slow."""
        lost = [ended - began - self._lateness.between(began, ended) for began, ended in self._slow]
        return max(lost, default=0.0)

    @property
    def answers(self):
        """The bodies of all answers."""
        return self.answers_since(0)

    def answers_since(self, moment):
        """Those to requests that were begun after a moment of the monotonic clock. Their order
        would not tell: a client may be held up between an answer and writing it down."""
        return [body for began, body in list(self._answers) if began > moment]

    def wait_for_answers(self, more):
        """Waits until this many requests that begin now or later have been answered."""
        now, seen = time.monotonic(), len(self._answers)
        wait_until(
            lambda: sum(began > now for began, _ in self._answers[seen:]) >= more,
            f"{more} answers, after {self.failures}",
        )

    def report(self, what):
        text = f"{what}: {len(self._answers)} requests, {len(self.failures)} failed"
        text += f", {self.retried} retried"
        print(f"{text}, longest {self.longest * 1000:.1f} ms, stall {self.stall * 1000:.1f} ms")

    def _keep(self):
        connection = None
        while not self._done.wait(self.pause):
            connection = self._ask(connection, REQUEST)
        if connection is not None:
            connection.close()

    def _close(self):
        while not self._done.wait(self.pause):
            self._ask(None, LAST_REQUEST)

    def _connect(self):
        connection = socket.create_connection(self.address, PATIENCE)
        if self.context is None:
            return connection
        return self.context.wrap_socket(connection, server_hostname="localhost")

    def _ask(self, connection, request):
        """One request; returns the connection if another one may follow on it."""
        began, sent = time.monotonic(), None
        reused = connection is not None
        try:
            connection = connection or self._connect()
            connection.sendall(request)
            sent = time.monotonic()
            head, body = response(connection)
            ended = time.monotonic()
            self.longest = max(self.longest, ended - began)
            if ended - began > SLOW:
                self._slow.append((began, ended))
            if not head.startswith(b"HTTP/1.1 200 "):
                raise OSError(f"status {head[9:12].decode()}")
            self._answers.append((began, body))
            if b"\r\nconnection: close" not in head.lower():
                return connection
        except OSError as error:
            if reused and isinstance(error, Unanswered):
                connection.close()
                self.retried += 1
                return self._ask(None, request)
            kind = "kept alive" if request is REQUEST else "closing"
            self.failures.append(Failure(kind, began, sent, repr(error)))
        if connection is not None:
            connection.close()
        return None


def response(connection):
    """The head and the body of a response with a length."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += more(connection, received)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += more(connection, head + body)
    return head, body


def more(connection, before):
    piece = connection.recv(65536)
    if not piece:
        raise (ConnectionError if before else Unanswered)(
            f"closed after {len(before)} bytes of a response"
        )
    return piece
