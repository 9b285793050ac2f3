"""Workers with greenlets: many requests wait at once, and none is another's business."""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from contextlib import ExitStack
from itertools import pairwise

import pytest
from harness import embedded, read_all, run, wait_until
from load import Load
from servers import WHO

#: Waiting at once in one worker. The machine's limit of descriptors may allow fewer.
MANY = int(os.environ.get("SERVE_MANY", "1000"))

#: What gevent can wait with.
LOOPS = pytest.mark.parametrize("loop", ["libev-cext", "libuv"])

#: Waits in several ways; /wait until somebody asks for /open.
APP = """
    import contextvars, threading, time
    import gevent, gevent.event, gevent.monkey, gevent.queue

    assert gevent.monkey.is_module_patched("socket"), "too late to patch"
    opened = gevent.event.Event()
    variable = contextvars.ContextVar("variable")
    variable.set("import")
    local = threading.local()
    waiting = most = 0

    def app(environ, start_response):
        body = globals()[environ["PATH_INFO"][1:] or "hello"](environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return body if not isinstance(body, str) else [body.encode()]

    def hello(environ):
        return f"Hello {environ['wsgi.multithread']}"

    def wait(environ):
        global waiting
        waiting += 1
        print("waiting", waiting, flush=True)
        opened.wait()
        gevent.sleep(0)  # The event wakes all of them in one turn of the hub.
        return "waited"

    def open(environ):
        opened.set()
        return "opened"

    def count(environ):
        global waiting, most
        waiting += 1
        most = max(most, waiting)
        time.sleep(0.01)
        waiting -= 1
        return str(most)

    def context(environ):
        found = variable.get()
        variable.set("request")
        time.sleep(0.001)
        return found

    def meet(environ):
        '''Two that are there at the same time, and see what the other has set.'''
        global waiting
        waiting += 1
        mine = getattr(local, "value", "unset")
        local.value = "set"
        while waiting < 2:
            time.sleep(0.001)
        return mine

    def leave(environ):
        gevent.Timeout(0.2).start()
        return "left"

    def nap(environ):
        time.sleep(0.02)
        return "napped"

    def work(environ):
        '''What cooperates: greenlets, queues, timeouts, sockets.'''
        queue = gevent.queue.Queue()
        gevent.spawn(queue.put, "spawned")
        said = [queue.get()]
        try:
            with gevent.Timeout(0.01):
                gevent.sleep(60)
        except gevent.Timeout:
            said.append("timeout")
        import urllib.request
        url = f"http://{environ['SERVER_NAME']}:{environ['SERVER_PORT']}/hello"
        said.append(urllib.request.urlopen(url).read().decode())
        return " ".join(said)

    def exits(environ):
        raise SystemExit("not for the worker")
"""


def ask(connection, path):
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())


def begin(server, path):
    """A connection that has asked for `path`."""
    connection = server.connect()
    ask(connection, path)
    return connection


def answered(connection):
    """The status and the body of the last response on a connection."""
    head, _, body = read_all(connection).partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def all_of(server, paths):
    """Asks for all of them at once."""
    with ExitStack() as stack:
        connections = [stack.enter_context(begin(server, path)) for path in paths]
        return [answered(connection) for connection in connections]


@pytest.fixture
def gevent(serve):
    """Makes servers with greenlets; `loop` is what gevent waits with."""

    def make(app=APP, *options, loop="libev-cext", **arguments):
        environment = {"GEVENT_LOOP": loop, **arguments.pop("env", {})}
        return serve(app, "-k", "async", *options, env=environment, **arguments)

    return make


@pytest.fixture
def descriptors():
    """Both sides of the connections need them; the server inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MANY + 1000 if hard == resource.RLIM_INFINITY else min(2 * MANY + 1000, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---- many at once


@LOOPS
def test_one_worker_has_many_requests_that_wait(gevent, descriptors, loop):
    server = gevent(APP, "--worker-connections", MANY + 1, loop=loop)
    with ExitStack() as stack:
        connections = [stack.enter_context(begin(server, "/wait")) for _ in range(MANY)]
        server.out.wait(rf"^waiting {MANY}$")
        assert server.get("/open")[0] == 200
        assert {answered(connection) for connection in connections} == {(200, b"waited")}
    assert server.stop() == 0
    assert server.log.count(r" (warning|error): ") == 0


def test_worker_connections_limits_the_requests_in_flight(gevent):
    server = gevent(APP, "--worker-connections", "3")
    answers = all_of(server, ["/count"] * 30)
    assert {status for status, _ in answers} == {200}
    assert max(int(body) for _, body in answers) == 3


def test_gevent_is_another_name(serve):
    server = serve(APP, "-k", "gevent")
    assert server.get()[2] == b"Hello True"
    server.log.wait(r"class=gevent")


def test_memory_for_a_crowd_is_given_back(gevent):
    """Greenlets that were used for it end, some of them every two seconds."""
    crowd = 200
    server = gevent("""
        import gc, time
        import greenlet

        waiting = 0

        def app(environ, start_response):
            global waiting
            start_response("200 OK", [])
            if environ["PATH_INFO"] == "/crowd":
                waiting += 1
                while waiting < 200:
                    time.sleep(0.01)
            return [str(sum(isinstance(it, greenlet.greenlet) for it in gc.get_objects())).encode()]
    """)
    answers = all_of(server, ["/crowd"] * crowd)
    most = max(int(body) for _, body in answers)
    assert most >= crowd
    wait_until(lambda: int(server.get("/")[2]) < most - crowd / 10, "greenlets to end")


# ---- each request by itself


@LOOPS
def test_what_cooperates_works_inside_a_request(gevent, loop):
    server = gevent(loop=loop)
    assert server.get("/work")[2] == b"spawned timeout Hello True"


def test_each_request_has_a_context_of_its_own(gevent):
    server = gevent()
    answers = all_of(server, ["/context"] * 20) + [server.get("/context")[::2] for _ in range(20)]
    assert set(answers) == {(200, b"import")}


def test_thread_locals_are_the_greenlets(gevent):
    server = gevent()
    assert all_of(server, ["/meet", "/meet"]) == [(200, b"unset")] * 2


def test_a_timeout_left_behind_hits_no_later_request(gevent):
    """Greenlets are used again, but not one that somebody still means to wake."""
    server = gevent()
    for _ in range(5):
        assert server.get("/leave")[2] == b"left"
        for _ in range(15):
            assert server.get("/nap")[::2] == (200, b"napped")


TOGETHER = """
    import contextvars, time
    import gevent, greenlet

    variable = contextvars.ContextVar("variable", default="unset")
    switches = 0

    def trace(*_):
        global switches
        switches += 1

    greenlet.settrace(trace)

    class Closing(list):
        def close(self):
            end = time.monotonic() + 3
            while time.monotonic() < end:
                pass

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        path = environ["PATH_INFO"]
        if path == "/leave":
            gevent.Timeout(0.2).start()
        elif path == "/nap":
            gevent.sleep(float(environ["QUERY_STRING"]))
        elif path == "/close":
            return Closing([b"closes later"])
        found = variable.get()
        variable.set(path)
        return [f"{found} {switches}".encode()]
"""


def answers_of_a_few_turns(server, paths):
    """What those get that all have asked before the worker looks."""
    (worker,) = server.worker_pids()
    os.kill(worker, signal.SIGSTOP)
    with ExitStack() as stack:
        connections = [stack.enter_context(begin(server, path)) for path in paths]
        os.kill(worker, signal.SIGCONT)
        answers = [answered(connection) for connection in connections]
    assert {status for status, _ in answers} == {200}
    return [body.decode().split() for _, body in answers]


@LOOPS
def test_quick_requests_that_come_together_share_a_greenlet_and_nothing_else(gevent, loop):
    answers = answers_of_a_few_turns(gevent(TOGETHER, loop=loop), ["/quick"] * 40)
    assert {found for found, _ in answers} == {"unset"}
    # To the hub and back for each would be 80.
    switches = [int(switches) for _, switches in answers]
    assert max(switches) - min(switches) < 40


WAITED = """
    import gevent, greenlet

    switches = 0

    def trace(*_):
        global switches
        switches += 1

    greenlet.settrace(trace)

    def app(environ, start_response):
        began = switches
        gevent.sleep(0)
        start_response("200 OK", [("Content-Length", "20")])
        return [f"{began} {switches}".ljust(20).encode()]
"""


def test_a_greenlet_that_has_waited_takes_no_further_request(gevent):
    """It would keep the hub from all that only a turn does: the next one begins there."""
    server = gevent(WAITED, "--worker-connections", "1")
    (worker,) = server.worker_pids()
    with server.connect() as first, server.connect() as second:
        for _ in range(20):  # A busy machine may need longer than a turn lasts.
            os.kill(worker, signal.SIGSTOP)
            for client in (first, second):
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            os.kill(worker, signal.SIGCONT)
            times = sorted(read_counts(client) for client in (first, second))
            (_, ended), (began, _) = times
            # From its greenlet to the hub, and to one for the next.
            assert began - ended >= 2


def read_counts(client):
    answer = b""
    while not (head := answer.partition(b"\r\n\r\n"))[2][19:]:
        answer += client.recv(1000)
    return [int(count) for count in head[2].split()]


def test_a_timeout_left_behind_does_not_hit_the_request_that_follows_at_once(gevent):
    answers_of_a_few_turns(gevent(TOGETHER), ["/leave", "/nap?0.4"] * 10)


def test_the_time_of_a_request_begins_when_the_one_before_has_ended(gevent):
    """Its greenlet may have been busy long after it has answered that one."""
    server = gevent(TOGETHER, "--request-timeout", "4")
    answers_of_a_few_turns(server, ["/close", "/nap?2"])


def test_an_exit_in_a_request_is_its_own(gevent):
    server = gevent()
    (worker,) = server.worker_pids()
    assert server.get("/exits")[0] == 500
    server.log.wait("the application raised")
    assert server.get()[0] == 200
    assert server.worker_pids() == [worker]


# ---- streams


EVENTS = """
    import gevent

    pieces = 0

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        if environ["PATH_INFO"] == "/slow":
            gevent.sleep(0.3)
            print("slow went on", flush=True)
            return [b"slow"]
        return {"/big": big, "/silent": silent}.get(environ["PATH_INFO"], events)()

    def told(generate):
        def wrapper():
            try:
                yield from generate()
            finally:
                print(generate.__name__, "closed", flush=True)
        return wrapper

    @told
    def events():
        number = 0
        while True:
            yield f"data: {number}\\n\\n".encode()
            number += 1
            gevent.sleep(0.05)

    @told
    def silent():
        yield b"data: only\\n\\n"
        gevent.sleep(600)

    @told
    def big():
        global pieces
        while True:
            pieces += 1
            print("piece", pieces, flush=True)
            yield b"x" * 1_000_000
"""


def read_until(connection, what):
    received = b""
    while what not in received:
        piece = connection.recv(65536)
        assert piece, received[-200:]
        received += piece


@LOOPS
def test_events_reach_many_and_stop_for_those_who_leave(gevent, descriptors, loop):
    server = gevent(EVENTS, loop=loop)
    with ExitStack() as stack:
        clients = [stack.enter_context(begin(server, "/events")) for _ in range(200)]
        for client in clients:
            read_until(client, b"data: 2\n")
        for client in clients[:150]:
            client.close()
        server.out.wait("^events closed$", count=150)
        for client in clients[150:]:
            read_until(client, b"data: 6\n")
        assert server.out.count("closed") == 150
    server.out.wait("^events closed$", count=200)
    assert "the application raised" not in server.log.text()


def test_a_stream_that_waits_ends_when_its_client_has_gone(gevent):
    server = gevent(EVENTS)
    with begin(server, "/silent") as client:
        read_until(client, b"only")
    server.out.wait("^silent closed$")
    assert server.log.count(r" (warning|error): ") == 0


def test_a_client_that_shuts_its_writing_side_has_gone(gevent):
    server = gevent(EVENTS)
    with begin(server, "/silent") as client:
        read_until(client, b"only")
        client.shutdown(socket.SHUT_WR)
        assert not read_all(client).endswith(b"0\r\n\r\n"), "it is not complete"
    server.out.wait("^silent closed$")


def test_a_request_that_has_not_begun_its_response_goes_on_without_a_client(gevent):
    server = gevent(EVENTS)
    begin(server, "/slow").close()
    server.out.wait("^slow went on$")


def test_a_stream_waits_for_its_reader_and_the_others_do_not(gevent):
    server = gevent(EVENTS)
    with begin(server, "/big") as reader:
        server.out.wait("^piece 3$")
        with begin(server, "/events") as other:
            read_until(other, b"data: 5\n")
            made = server.out.count("^piece ")
            # What the kernel takes, and 2 MiB.
            assert made < 20
            received = 0
            while received < 30_000_000:
                received += len(reader.recv(1 << 20))
            server.out.wait(f"^piece {made + 5}$")
            read_until(other, b"data: 7\n")
    server.out.wait("^big closed$")


#: Greenlets of one request write to its client.
WRITERS = """
    import gevent

    def app(environ, start_response):
        write = start_response("200 OK", [])

        def pieces():
            try:
                for _ in range(100):
                    write(b"x" * 100_000)
            except RuntimeError as error:
                print(error, flush=True)
                raise

        writers = [gevent.spawn(pieces) for _ in range(4)]
        print("full", flush=True) if gevent.wait(writers, timeout=0.5, count=1) == [] else None
        if environ["PATH_INFO"] == "/all":
            gevent.joinall(writers)
        return []
"""


@LOOPS
def test_greenlets_of_a_request_that_wait_for_its_reader_all_go_on(gevent, loop):
    server = gevent(WRITERS, loop=loop)
    with begin(server, "/all") as reader:
        server.out.wait("^full$")
        assert read_all(reader).count(b"x") == 4 * 100 * 100_000


def test_a_greenlet_that_waits_for_a_reader_hears_that_its_request_is_over(gevent):
    server = gevent(WRITERS)
    with begin(server, "/") as reader:
        server.out.wait("^full$")
        assert read_all(reader).endswith(b"0\r\n\r\n")
    server.out.wait("^the request is over; nothing can be sent$", count=4)


# ---- time


LATE = """
    import time
    import serve

    def app(environ, start_response):
        path, seconds = environ["PATH_INFO"], float(environ["QUERY_STRING"] or 0)
        if path == "/extended":
            environ["serve.extend_timeout"](60)
        if path == "/loop":
            while True:  # the guilty line
                pass
        elif path == "/deaf":
            sum(iter(int, 1))  # C code that neither ends nor looks at signals
        elif path == "/compute":
            end = time.monotonic() + seconds
            while time.monotonic() < end:  # the guilty line
                pass
        else:
            print("begun", path, flush=True)
            try:
                time.sleep(seconds)
            except serve.RequestTimeout:
                print("told", path, flush=True)
                raise
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [path.encode()]
"""


@LOOPS
def test_only_the_requests_that_are_late_are_told(gevent, loop):
    server = gevent(LATE, "--request-timeout", "1", loop=loop)
    paths = [f"/late{n}?600" if n % 2 else f"/quick{n}?0.01" for n in range(20)]
    answers = all_of(server, [*paths, "/extended?1.5"])
    for path, answer in zip(paths, answers[:20], strict=True):
        if path.startswith("/late"):
            assert answer[0] == 504
        else:
            assert answer == (200, path.partition("?")[0].encode())
    assert answers[20] == (200, b"/extended")
    server.out.wait("^told /late", count=10)
    server.log.wait(r'request="GET /late1" .*: over its time \(request_timeout\), ended')
    server.log.wait(r"Greenlet of the request")
    # Their greenlets serve on.
    assert set(all_of(server, ["/quick?0.01"] * 40)) == {(200, b"/quick")}
    assert server.out.count("^told ") == 10
    assert "the application raised" not in server.log.text()


@LOOPS
def test_late_requests_are_told_when_they_are_late(gevent, loop):
    server = gevent(
        """
        import time
        import gevent, serve

        def app(environ, start_response):
            seconds = float(environ["QUERY_STRING"])
            begun = time.monotonic()
            environ["serve.extend_timeout"](seconds)
            try:
                gevent.sleep(600)
            except serve.RequestTimeout:
                print("told after", time.monotonic() - begun - seconds, flush=True)
                raise
        """,
        loop=loop,
    )
    for number in range(12):
        assert server.get(f"/?{0.02 + number / 3000}")[0] == 504
    server.out.wait("^told after", count=12)
    told = sorted(float(line.removeprefix("told after ")) for line in server.out.lines)
    assert told[0] >= 0 and told[9] < 0.1, told
    assert "UserWarning" not in server.log.text()


def test_a_request_that_keeps_the_hub_is_ended_and_no_other(gevent):
    server = gevent(LATE, "--timeout", "1")
    (worker,) = server.worker_pids()
    with begin(server, "/patient?2") as patient:
        assert server.get("/loop")[0] == 504
        assert answered(patient) == (200, b"/patient")
    server.log.wait(r'request="GET /loop" .*: over its time \(timeout\), ended')
    assert re.search(r'File ".*main.py", line (10|11|12) in app', server.log.text())
    assert server.worker_pids() == [worker]
    assert "the application raised" not in server.log.text()


def test_a_request_that_computes_too_long_is_late(gevent):
    server = gevent(LATE, "--request-timeout", "0.5")
    assert server.get("/loop")[0] == 504
    server.log.wait(r'request="GET /loop" .*: over its time \(request_timeout\), ended')
    assert server.get()[0] == 200


def test_a_request_that_keeps_the_hub_is_named(gevent):
    server = gevent(LATE)
    assert server.get("/compute?3")[0] == 200
    server.log.wait(r'warning: .*request="GET /compute" .*: has kept all others waiting for')
    assert re.search(r'File ".*main.py", line \d+ in app', server.log.text())


def test_a_stream_without_a_client_cleans_up_beyond_its_time_in_peace(gevent):
    server = gevent(
        """
        import time
        import gevent

        def app(environ, start_response):
            start_response("200 OK", [])
            try:
                yield b"begun"
                gevent.sleep(600)
            finally:
                gevent.sleep(0.5)  # Its time is over after this.
                before = time.process_time()
                gevent.sleep(1)
                print("computed for", time.process_time() - before, flush=True)
        """,
        *("--request-timeout", "0.3"),
    )
    with begin(server, "/") as client:
        read_until(client, b"begun")
    assert float(server.out.wait("^computed for (.*)")[1]) < 0.2
    assert server.log.count("over its time") == 0


def test_a_worker_that_gets_no_cpu_is_not_mistaken_for_one_that_computes(gevent):
    server = gevent(
        """
        import os, subprocess, sys, time

        def app(environ, start_response):
            cpus = {min(os.sched_getaffinity(0))}
            os.sched_setaffinity(0, cpus)
            # On the same CPU, and of a higher priority.
            hog = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            os.setpriority(os.PRIO_PROCESS, 0, 19)
            end = time.monotonic() + 4
            while time.monotonic() < end:
                pass
            hog.kill()
            hog.wait()
            start_response("200 OK", [])
            return [b"computed"]
        """
    )
    assert server.get()[0] == 200
    line = server.log.wait(r"all others waiting for (.*)s, (.*)s of it without a CPU")
    assert float(line[2]) > float(line[1]) / 4


def test_what_cannot_be_interrupted_costs_its_worker(gevent):
    server = gevent(LATE, "--timeout", "1")
    with begin(server, "/patient?600") as patient:
        assert server.get("/deaf")[0] == 504
        assert answered(patient)[0] == 504
    server.log.wait(r"is stuck: \d requests are answered 504")
    for path in ("/deaf", "/patient"):
        ended = rf'error: .* request="GET {path}" .*: over its time \(timeout\), ended'
        assert server.log.count(ended) == 1
    server.log.wait(r"worker=\d .* ready in=", count=2)
    assert server.get()[0] == 200


IN_C = """
    import itertools, time

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        seconds = float(environ["QUERY_STRING"])
        if environ["PATH_INFO"] == "/patient":
            time.sleep(seconds)
            return [b"waited"]
        # The only piece is made at that time, and Python runs no bytecode until then.
        until = time.monotonic() + seconds
        late = itertools.dropwhile(until.__gt__, iter(time.monotonic, None))
        return map(b"%f".__mod__, itertools.islice(late, 1))
"""


def test_a_hub_that_turns_again_when_it_is_asked_costs_nobody(gevent):
    server = gevent(IN_C, "--timeout", "1")
    (worker,) = server.worker_pids()
    with begin(server, "/patient?10") as patient:
        # It is asked after one second to one and a quarter, for half a second.
        while server.log.count("request=none: has kept all others waiting") == 0:
            assert server.get("/?1.4")[0] == 200
        assert server.log.count(" is stuck: ") == 0
        assert answered(patient) == (200, b"waited")
    assert server.worker_pids() == [worker]


# ---- the life of a worker


BACKGROUND = """
    import os, signal
    import gevent

    ticks = 0

    def tick():
        global ticks
        while True:
            gevent.sleep(0.01)
            ticks += 1

    gevent.spawn(tick)
    gevent.sleep(0.01)
    in_thread = gevent.get_hub().threadpool.apply
    in_thread(len, ("",))
    signal.signal(signal.SIGALRM, lambda *_: print("alarm", os.getpid(), flush=True))

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{in_thread(os.getpid)} {ticks}".encode()]
"""


@LOOPS
@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["", "preload"])
def test_the_applications_own_greenlets_run_in_each_worker(gevent, options, loop):
    server = gevent(BACKGROUND, *options, workers=2, loop=loop)
    ticking = set()

    def all_tick():
        pid, ticks = map(int, server.get()[2].split())
        if ticks > 5:
            ticking.add(pid)
        return ticking == set(server.worker_pids())

    wait_until(all_tick, "both workers to tick")
    for pid in ticking:
        os.kill(pid, signal.SIGALRM)
        server.out.wait(f"^alarm {pid}$")
    assert server.stop() == 0
    assert server.log.count(r" (warning|error): ") == 0


CROWD = """
    import time
    import gevent

    ticks = []

    def tick():
        while True:
            ticks.append(time.monotonic())
            gevent.sleep(0.001)

    gevent.spawn(tick)

    def app(environ, start_response):
        start = time.monotonic()
        busy = float(environ["QUERY_STRING"])
        while time.monotonic() < start + busy:
            pass
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{start} {time.monotonic()} {len(ticks)}".encode()]
"""


@LOOPS
@pytest.mark.parametrize(("busy", "turns"), [(0.02, 50), (0.004, 15)], ids=["long", "short"])
def test_requests_that_come_together_leave_the_hub_to_others_in_between(gevent, loop, busy, turns):
    """All of them compute for longer than the log allows one to keep the hub; none does alone."""
    server = gevent(CROWD, loop=loop)
    with ExitStack() as stack:
        first = stack.enter_context(begin(server, "/?0.5"))
        crowd = [stack.enter_context(begin(server, f"/?{busy}")) for _ in range(100)]
        start, end, _ = map(float, answered(first)[1].split())
        answers = [answered(one)[1].split() for one in crowd]
    # The background greenlet had its turn after each of the long ones, and after a few of
    # the short ones; or nearly.
    assert len({ticks for _, _, ticks in answers}) > turns
    # A worker that is ready to run, and that a busy machine does not let run, does keep the hub.
    ends = sorted([start, end, *(float(end) for _, end, _ in answers)])
    longest = max(later - earlier for earlier, later in pairwise(ends))
    assert server.log.count("kept all others waiting") == 0 or longest > 1


@LOOPS
def test_a_process_that_a_request_forks_serves_nobody(gevent, loop):
    server = gevent(
        """
        import os, time

        def app(environ, start_response):
            path = environ["PATH_INFO"]
            if path == "/fork":
                child = os.fork()
                if child == 0:
                    os.write(1, b"forked\\n")
                    while not os.path.exists("end"):
                        time.sleep(0.01)
                    os._exit(0)
                os.waitpid(child, 0)
            if path == "/wait":
                print("waits", flush=True)
                time.sleep(1)
                os.write(1, b"went on\\n")  # Two processes write, each a line.
            start_response("200 OK", [])
            return [f"{path} {os.getpid()}".encode()]
        """,
        loop=loop,
    )
    (worker,) = server.worker_pids()

    def answer(connection):
        return connection.getresponse().read().decode()

    waits = server.http()
    waits.request("GET", "/wait")
    server.out.wait("^waits$")
    with begin(server, "/fork") as forks:
        server.out.wait("^forked$")
        assert {server.get("/")[2] for _ in range(50)} == {f"/ {worker}".encode()}
        # The other process has a copy of its greenlet.
        server.out.wait("^went on$", count=2)
        assert answer(waits) == f"/wait {worker}"
        waits.request("GET", "/next")
        assert answer(waits) == f"/next {worker}"
        server.write("end", "")
        assert answered(forks) == (200, f"/fork {worker}".encode())
    waits.close()
    assert server.stop() == 0
    assert server.log.count(" (warning|error): ") == 0


def test_an_exit_in_a_greenlet_of_the_applications_own_is_told_as_such(gevent):
    server = gevent(
        """
        import sys
        import gevent

        def leave():
            sys.exit("enough")

        def app(environ, start_response):
            if environ["PATH_INFO"] == "/leave":
                gevent.spawn(leave)
                gevent.sleep(600)
            start_response("200 OK", [])
            return [b"here"]
        """
    )
    with begin(server, "/leave") as client:
        assert read_all(client) == b""
    server.log.wait("error: .*a greenlet that the application has started raised SystemExit, and")
    server.log.wait(r'File ".*main.py", line 6, in leave')
    server.log.wait("^SystemExit: enough$")
    server.log.wait(r"worker=\d+ .* ready in=", count=2)
    assert server.get()[0] == 200


def test_a_stop_waits_for_requests_in_flight(gevent):
    server = gevent()
    with begin(server, "/wait") as waiting, server.connect() as second:
        server.out.wait("^waiting 1$")
        ask(second, "/wait")
        server.out.wait("^waiting 2$")
        # In the queue before the worker looks at it for the last time, and so still accepted.
        (worker,) = server.worker_pids()
        os.kill(worker, signal.SIGSTOP)
        with server.connect() as opener:
            ask(opener, "/open")
            server.signal(signal.SIGTERM)
            server.log.wait("stopping")
            os.kill(worker, signal.SIGCONT)
            assert answered(waiting) == answered(second) == (200, b"waited")
    assert server.wait() == 0


def test_a_quick_stop_waits_for_nobody(gevent):
    server = gevent()
    with begin(server, "/wait") as waiting:
        server.out.wait("^waiting 1$")
        assert server.stop(signal.SIGQUIT) == 0
        waiting.settimeout(5)
        assert read_all(waiting) == b""
    assert "the application raised" not in server.log.text()


def test_reload_under_load_loses_no_request(gevent):
    server = gevent(WHO, workers=2)
    with Load(server) as load:
        for generation in (2, 3):
            server.signal(signal.SIGHUP)
            server.log.wait(rf"gen={generation} serves")
            load.wait_for_answers(100)
    assert not load.failures


def test_recycling_under_load_loses_no_request(gevent):
    server = gevent(WHO, "--max-requests", "100", workers=2)
    with Load(server) as load:
        server.log.wait(r"worker=\d+ .* ready in=", count=6)
    assert not load.failures


def test_the_oldest_request_is_the_one_that_a_dead_worker_is_known_by(gevent):
    server = gevent(LATE)
    (worker,) = server.worker_pids()
    paths = ["/first?1", "/second?600", "/third?600"]

    def begun(path):
        connection = begin(server, path)
        server.out.wait(f"^begun {path.partition('?')[0]}$")
        return connection

    with ExitStack() as stack:
        first, *_ = [stack.enter_context(begun(path)) for path in paths]
        assert answered(first) == (200, b"/first")
        # The worker has finished with it when it begins another one.
        assert server.get("/last?0")[0] == 200
        os.kill(worker, signal.SIGKILL)
        server.log.wait(rf'pid={worker} .*requests=[12] request="GET /second"')


def test_access_lines_do_not_wait_for_the_next_request(gevent):
    server = gevent(LATE, "--access-logfile", "-", "--keep-alive", "60")
    connection = server.http()
    connection.request("GET", "/nap?0.05")
    assert connection.getresponse().read() == b"/nap"
    server.out.wait('"GET /nap')
    connection.close()


# ---- gevent's plugins

#: Says when somebody reads what is installed.
WATCHES = """
    import sys

    class Watch:
        @staticmethod
        def find_spec(name, path=None, target=None):
            return None

        @staticmethod
        def find_distributions(context):
            print("installed packages are read", flush=True)
            return ()

    sys.meta_path.append(Watch)
"""

#: A package with what gevent calls before it patches a module.
PLUGIN = """\
[gevent.plugins.monkey.will_patch_module]
told = plugin:told
"""
TELLS = """
    def told(event):
        print("told of", event.module_name, flush=True)
"""


def test_the_plugins_of_gevent_are_looked_for_once(gevent, tmp_path):
    """It asks anew for each module, and reading all that is installed is not quick."""
    package = tmp_path / "plugin-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    (package / "entry_points.txt").write_text(PLUGIN)
    (tmp_path / "plugin.py").write_text(textwrap.dedent(TELLS))
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(WATCHES))
    server = gevent(WHO, env={"PYTHONPATH": str(tmp_path)})
    for module in ["time", "socket", "ssl", "threading"]:
        server.out.wait(f"^told of {module}$")
    assert server.out.count("installed packages are read") == 1


# ---- without gevent


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A virtual environment with nothing in it."""
    path = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", path], check=True)
    return path


@embedded
@pytest.mark.parametrize("command", [[], ["--check-config"]], ids=["", "check"])
def test_gevent_is_asked_for_where_it_is_missing(tmp_path, bare, command):
    (tmp_path / "main.py").write_text("def app(environ, start_response): pass\n")
    options = ["-k", "gevent", "-b", "127.0.0.1:0", *command, "main:app"]
    code, _, errors = run(*options, cwd=tmp_path, env={"VIRTUAL_ENV": str(bare)})
    assert code == 2
    assert "the worker class 'gevent' needs gevent" in errors
    assert errors.count("pip install gevent") == 1
    assert "Traceback" not in errors


@embedded
def test_without_gevent_async_means_threads(serve, bare):
    app = """
        import threading

        def app(environ, start_response):
            start_response("200 OK", [])
            return [threading.current_thread().name.encode()]
    """
    server = serve(app, "-k", "async", env={"VIRTUAL_ENV": str(bare)})
    assert server.get()[2] == b"serve-1"
    assert server.log.count("class=async runs with up to 256 threads") == 1


def test_threads_of_the_application_meet_its_greenlets(gevent):
    """Under a patched standard library, a thread is a greenlet."""
    server = gevent(
        """
        import threading, time

        def app(environ, start_response):
            said = []
            threads = [threading.Thread(target=said.append, args=(n,)) for n in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            start_response("200 OK", [])
            return [str(sorted(said)).encode()]
        """
    )
    answers = []
    clients = [threading.Thread(target=lambda: answers.append(server.get()[2])) for _ in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert answers == [b"[0, 1, 2, 3, 4]"] * 8
