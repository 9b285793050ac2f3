"""What the class `threads` promises beyond what every class does."""

import contextlib
import os
import re
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from harness import wait_until

THREADS = ("-k", "threads", "--threads")

APP = """
    import os, sys, threading, time
    import serve

    LOCAL = threading.local()
    BARRIER = threading.Barrier(8)

    def app(environ, start_response):
        path = environ["PATH_INFO"]
        body = threading.current_thread().name
        if path == "/together":
            # Returns only when 8 requests are here at the same time.
            BARRIER.wait(30)
        elif path == "/count":
            LOCAL.count = getattr(LOCAL, "count", 0) + 1
            body = f"{LOCAL.count} {threading.current_thread() in threading.enumerate()}"
        elif path == "/interval":
            body = str(sys.getswitchinterval())
        elif path == "/sleep":
            time.sleep(600)
        elif path == "/loop":
            while True:
                pass
        elif path == "/while":
            print("computes", flush=True)
            end = time.monotonic() + float(environ["QUERY_STRING"])
            while time.monotonic() < end:
                pass
        elif path == "/begun":
            print("begun", flush=True)
            time.sleep(float(environ["QUERY_STRING"]))
        elif path == "/extended":
            environ["serve.extend_timeout"](30)
            time.sleep(3)
        elif path == "/shortened":
            environ["serve.extend_timeout"](0.01)
            while True:
                pass
        elif path == "/caught":
            try:
                while True:
                    pass
            except serve.RequestTimeout:
                print("cleaned up", flush=True)
                raise
        start_response("200 OK", [("X-Pid", str(os.getpid()))])
        return [body.encode()]
"""


def together(count, act):
    """Runs act(number) on so many threads; what they returned."""
    results = [None] * count

    def run(number):
        results[number] = act(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_requests_run_at_the_same_time(serve):
    server = serve(APP, *THREADS, 8)
    names = together(8, lambda _: server.get("/together")[2])
    assert sorted(names) == [b"serve-%d" % number for number in range(1, 9)]


def test_threads_are_started_when_needed_and_kept(serve):
    server = serve(APP, *THREADS, 8)
    (pid,) = server.worker_pids()
    # The main thread, and the one that turns the loop.
    assert len(list(Path(f"/proc/{pid}/task").iterdir())) == 2
    assert server.get()[2] == b"serve-1"
    assert len(list(Path(f"/proc/{pid}/task").iterdir())) == 3
    # The last thread to become idle is the first to be used again.
    wait_until(lambda: server.get("/count")[2] == b"5 True", "a thread's fifth request")


@pytest.mark.parametrize("klass", [("--threads", "2"), ("-k", "gthread"), ("-k", "threads")])
def test_how_the_class_is_chosen(serve, klass):
    server = serve(APP, *klass)
    assert server.get()[2] == b"serve-1"
    said = server.log.count("info: gen=1 class=threads, since a sync worker has one thread")
    assert said == (klass[0] == "--threads")
    server.log.wait(r"serves main:app .*class=threads threads=\d")


def interval(server):
    return float(server.get("/interval")[2])


@contextlib.contextmanager
def computing(server):
    """A request that computes meanwhile, and another that has waited for the interpreter."""
    with server.connect() as connection:
        connection.sendall(b"GET /while?2 HTTP/1.1\r\nHost: a\r\n\r\n")
        server.out.wait("^computes$")
        server.get()
        yield
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_the_switch_interval_is_short_while_requests_compute(serve):
    server = serve(APP, *THREADS, 4)
    # On a loaded machine, a worker's first request may be one that computes.
    wait_until(lambda: interval(server) == 0.005, "the usual interval")
    with computing(server):
        wait_until(lambda: interval(server) == 0.0005, "a shorter interval")
    wait_until(lambda: interval(server) == 0.005, "the usual interval")


def test_the_switch_interval_stays_as_the_application_chose_it(serve):
    server = serve("    import sys; sys.setswitchinterval(0.002)\n" + APP, *THREADS, 4)
    with computing(server):
        assert together(3, lambda _: interval(server)) == [0.002] * 3


def test_the_switch_interval_is_pythons_own_once_nine_threads_were_needed(serve):
    server = serve(APP, *THREADS, 16)
    with server.connect() as ninth:
        ninth.sendall(b"GET /begun?2 HTTP/1.1\r\nHost: a\r\n\r\n")
        server.out.wait("^begun$")
        together(8, lambda _: server.get("/together"))
    with computing(server):
        assert together(3, lambda _: interval(server)) == [0.005] * 3


def test_a_stack_has_the_size_that_was_asked_for(serve):
    server = serve(APP, *THREADS, 4, "--thread-stack-size", "512M")
    (pid,) = server.worker_pids()

    def size():
        return int(re.search(r"VmSize:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])

    before = size()
    server.get()
    assert size() - before > 500_000


def test_a_stack_that_cannot_be_had_is_refused(serve):
    server = serve(APP, *THREADS, 4, "--thread-stack-size", "1k", start=False).launch()
    server.log.wait(
        "cannot start: --thread-stack-size: 1024 bytes are less than the 32k that Python"
    )
    assert server.wait() == 2
    server = serve(APP, *THREADS, 4, "--thread-stack-size", "32k")
    assert server.stop() == 0


def test_signal_handlers_run_on_the_main_thread(serve):
    handler = """
    import signal

    def handle(number, frame):
        print("handled by", threading.current_thread().name, flush=True)

    signal.signal(signal.SIGALRM, handle)
    """
    server = serve(APP + handler, *THREADS, 4)
    server.get()
    for pid in server.worker_pids():
        os.kill(pid, signal.SIGALRM)
    server.out.wait("handled by MainThread")


def test_chain_under_load(serve):
    """No wake-up is lost: every request of a burst is answered, on few and on many threads."""
    server = serve(APP, *THREADS, 16)
    each, clients = 1500, 24
    batch = 25

    def ask(_):
        done = 0
        with server.connect() as connection:
            file = connection.makefile("rb")
            while done < each:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * batch)
                for _ in range(batch):
                    assert file.readline() == b"HTTP/1.1 200 OK\r\n"
                    length = 0
                    while (line := file.readline()) != b"\r\n":
                        if line.lower().startswith(b"content-length:"):
                            length = int(line.split(b":")[1])
                    assert file.read(length).startswith(b"serve-")
                    done += 1
        return done

    assert together(clients, ask) == [each] * clients
    assert server.stop() == 0


def test_a_computing_request_does_not_starve_the_others(serve):
    server = serve(APP, *THREADS, 8)
    busy = []
    for _ in range(2):
        connection = server.connect()
        connection.sendall(b"GET /while?3 HTTP/1.1\r\nHost: a\r\n\r\n")
        busy.append(connection)
    times = []
    for _ in range(100):
        begun = time.perf_counter()
        assert server.get()[0] == 200
        times.append(time.perf_counter() - begun)
    for connection in busy:
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        connection.close()
    p50 = sorted(times)[50]
    print(f"p50 {p50 * 1000:.2f} ms")
    # Behind them it would be 3 s, and a quarter of a second in the interpreter's turn.
    assert p50 < 0.25


# ---- timeouts


def test_the_timeout_hits_the_right_thread(serve):
    server = serve(APP, *THREADS, 4, "--request-timeout", "2")
    pid = server.get()[1]["X-Pid"]
    answers = together(3, lambda n: server.get(["/loop", "/begun?0.1", "/extended"][n])[0])
    assert answers == [504, 200, 200]
    server.log.wait(
        r'request="GET /loop" client=127\S+ age=\d+\.\ds: over its time \(request_timeout\)'
    )
    server.log.wait(r'main.py", line \d+ in app')
    assert server.get()[1]["X-Pid"] == pid
    assert server.log.count("over its time") == 1
    assert "raised" not in server.log.text()


def test_it_never_hits_the_next_request(serve):
    """Requests that end around their deadline, and others that would be hit by mistake."""
    server = serve(
        """
        import random, time

        def app(environ, start_response):
            body = environ["PATH_INFO"].encode()
            if body == b"/edge":
                # The others have no limit, which they could miss by themselves on a busy machine.
                environ["serve.extend_timeout"](0.05)
                end = time.monotonic() + 0.05 + random.uniform(-0.003, 0.003)
                while time.monotonic() < end:
                    pass
            else:
                for _ in range(20000):
                    pass
            start_response("200 OK", [])
            return [body]
        """,
        *(*THREADS, 2),
    )
    late = 0
    for number in range(60):
        status, _, body = server.get("/edge")
        assert (status, body) == (200, b"/edge") or status == 504
        late += status == 504
        path = f"/quick/{number}"
        assert server.get(path)[::2] == (200, path.encode())
    assert late > 0
    server.log.wait("over its time", count=late)
    assert server.log.count("over its time") == late
    assert "the application raised" not in server.log.text()


def test_what_has_not_hit_a_request_by_its_end_is_taken_back(serve):
    """No bytecode runs in the rest of the first request, in which it could be raised."""
    server = serve(
        """
        import os, threading

        read, write = os.pipe()

        def app(environ, start_response):
            start_response("200 OK", [])
            if environ["PATH_INFO"] == "/":
                return [b"quick"]
            threading.Timer(1, os.write, [write, b"x"]).start()
            return map(os.read, [read], [1])
        """,
        *("-k", "threads", "--request-timeout", "0.5"),
    )
    assert server.get("/c")[0] == 504
    assert server.get()[::2] == (200, b"quick")


def test_an_application_may_clean_up_and_shorten_its_time(serve):
    server = serve(APP, *THREADS, 2, "--request-timeout", "1")
    assert server.get("/caught")[0] == 504
    server.out.wait("cleaned up")
    assert server.get("/shortened")[0] == 504
    server.log.wait(r"over its time \(serve\.extend_timeout\)")
    assert "raised" not in server.log.text()


def test_a_request_that_does_not_let_go_costs_its_worker_but_no_other_request(serve):
    server = serve(APP, *THREADS, 4, "--request-timeout", "1")
    pid = server.get()[1]["X-Pid"]
    begun = time.monotonic()
    assert server.get("/sleep")[0] == 504
    assert time.monotonic() - begun < 20
    server.log.wait(r"worker=1 .* is to be replaced: a request does not end")
    server.log.wait("ready in=", count=2)
    server.log.wait(rf"worker=1 pid={pid} gen=1 left")
    assert server.get()[1]["X-Pid"] != pid
    assert server.stop() == 0


def test_a_worker_whose_interpreter_is_blocked_is_replaced(serve):
    server = serve(
        """
        import os

        def app(environ, start_response):
            if environ["PATH_INFO"] == "/deaf":
                sum(iter(int, 1))  # C code that neither ends nor lets the GIL go
            start_response("200 OK", [])
            return [str(os.getpid()).encode()]
        """,
        *(*THREADS, 4, "--timeout", "1"),
    )
    pid = server.get()[2]
    with server.connect() as connection:
        connection.sendall(b"GET /deaf HTTP/1.1\r\nHost: a\r\n\r\n")
        server.log.wait(r'request="GET /deaf"')
        server.log.wait("ready in=", count=2)
    assert server.get()[2] != pid


def test_clients_are_heard_while_requests_wait_for_the_interpreter(serve, tmp_path):
    """The thread that reads rests then, but not until the end."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    server = serve(
        f"""
        import ctypes, os

        def app(environ, start_response):
            if environ["PATH_INFO"] == "/hold":
                fd = os.open({str(fifo)!r}, os.O_RDONLY)
                ctypes.PyDLL(None).read(fd, ctypes.create_string_buffer(1), 1)
                os.close(fd)
            start_response("200 OK", [])
            return [b"served"]
        """,
        *(*THREADS, 12),
    )
    request = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(9)]
        clients[0].sendall(request % b"/hold")
        release = os.open(fifo, os.O_WRONLY)
        for client in clients[1:]:
            client.sendall(request % b"/")
        for _ in range(3):
            with server.connect() as wrong:
                wrong.sendall(b"wrong\r\n\r\n")
                assert wrong.recv(100).startswith(b"HTTP/1.1 400")
        os.write(release, b"1")
        os.close(release)
        for client in clients:
            assert client.recv(1000).endswith(b"served")


def test_a_long_request_is_no_stuck_worker(serve):
    server = serve(APP, *THREADS, 2, "--timeout", "0.5")
    assert server.get("/begun?1.5")[0] == 200
    server.get()
    time.sleep(0.7)  # idle for longer than the timeout
    assert server.get()[2].startswith(b"serve-")
    assert server.log.count("ready in=") == 1


# ---- ends


def test_a_stop_waits_for_what_runs(serve):
    server = serve(APP, *THREADS, 4)
    with server.connect() as connection:
        connection.sendall(b"GET /begun?1 HTTP/1.1\r\nHost: a\r\n\r\n")
        server.out.wait("begun")
        server.signal(signal.SIGTERM)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert server.wait() == 0


def test_a_quick_stop_waits_for_nobody(serve):
    server = serve(
        "    import atexit; atexit.register(print, 'atexit ran', flush=True)\n" + APP, *THREADS, 4
    )
    with server.connect() as connection:
        connection.sendall(b"GET /begun?600 HTTP/1.1\r\nHost: a\r\n\r\n")
        server.out.wait("begun")
        server.stop(signal.SIGINT)
    server.out.wait("atexit ran")
    assert not re.search("panicked|core dumped|SIGABRT|SIGSEGV", server.log.text())


def test_streams_of_slow_readers_wait_and_end_with_their_clients(serve):
    server = serve(
        """
        import os

        def endless():
            try:
                while True:
                    yield b"x" * 1_000_000
            finally:
                os.write(1, b"closed\\n")

        def app(environ, start_response):
            start_response("200 OK", [])
            return endless() if environ["PATH_INFO"] == "/endless" else [b"quick"]
        """,
        *(*THREADS, 8),
    )
    clients = []
    for _ in range(6):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(server.address)
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        clients.append(client)
    (pid,) = server.worker_pids()

    def memory():
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])

    for _ in range(20):
        assert server.get()[2] == b"quick"
    # Six buffers above their mark, and not what six producers could make meanwhile.
    assert memory() < 120_000
    for client in clients:
        client.close()
    server.out.wait("closed", count=6)
    wait_until(lambda: server.get()[2] == b"quick", "an answer")
