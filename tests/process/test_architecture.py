"""Who runs what: the master no Python and no thread, a worker one of each, and nothing leaks."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
from itertools import combinations

import pytest
from harness import PATIENCE, descriptors, embedded, read_all, read_proc, wait_until
from servers import WHO

PRELOAD = pytest.mark.parametrize("options", [[], ["--preload"]], ids=["", "preload"])

#: The harness's interpreter is the one that the server is told to be.
PYTHON = ["--python", sys.executable]


def status(pid, field):
    return re.search(rf"^{field}:\s*(.*)$", read_proc(pid, "status"), re.M)[1]


# ---- processes and threads


@PRELOAD
def test_every_process_forks_with_one_thread(serve, options):
    """A worker forks nobody, and has a second one: the relay."""
    server = serve(WHO, *options, workers=2)
    server.served_by()
    everybody = server.session()
    assert len(everybody) == 4
    threads = {pid: int(status(pid, "Threads")) for pid in everybody}
    workers = server.worker_pids()
    assert threads == {pid: 2 if pid in workers else 1 for pid in everybody}


@PRELOAD
def test_workers_and_mold_are_the_masters_children(serve, options):
    server = serve(WHO, *options, workers=3)
    others = [pid for pid in server.session() if pid != server.pid]
    assert len(others) == 4
    assert {status(pid, "PPid") for pid in others} == {str(server.pid)}


@embedded
@PRELOAD
def test_the_master_runs_no_python(serve, options, tmp_path):
    """Python imports sitecustomize wherever it starts."""
    pids = tmp_path / "pids"
    source = (
        f"import os\n\nwith open({str(pids)!r}, 'a') as file:\n    print(os.getpid(), file=file)\n"
    )
    (tmp_path / "sitecustomize.py").write_text(source)
    server = serve(WHO, *options, workers=2, env={"PYTHONPATH": str(tmp_path)})
    (mold,) = server.mold_pids()
    server.signal(signal.SIGHUP)
    server.log.wait(r"gen=2 serves")
    wait_until(lambda: len(server.mold_pids()) == 1, "the old mold to leave")
    started = [int(line) for line in pids.read_text().split()]
    assert started == [mold, *server.mold_pids()]
    assert server.pid not in started


COUNTED = """
    import os

    with open("imports", "a") as file:
        print(os.getpid(), file=file)

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""


def imports(server):
    return sorted(int(line) for line in (server.cwd / "imports").read_text().split())


def test_app_is_imported_once_when_preloaded(serve):
    server = serve(COUNTED, "--preload", workers=3)
    assert imports(server) == server.mold_pids()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    server.log.wait(r"ready in=", count=4)
    assert imports(server) == server.mold_pids(), "a respawn is a fork of what is loaded"


def test_app_is_imported_once_per_worker_when_not_preloaded(serve):
    server = serve(COUNTED, workers=3)
    assert imports(server) == sorted(server.worker_pids())


FORKED = """
    import gc, os, random

    value = random.random()
    forks = []
    os.register_at_fork(after_in_child=lambda: forks.append(os.getpid()))

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        told = os.getpid(), os.getpid() in forks, value, random.random(), gc.get_freeze_count()
        return [repr(told).encode()]
"""


def ask(server):
    return ast.literal_eval(server.get()[2].decode())


def test_what_a_fork_means_to_a_preloaded_application(serve):
    """Its hooks run in each worker, `random` is seeded anew, and its objects are left alone."""
    server = serve(FORKED, "--preload", workers=1)
    (first,) = server.worker_pids()
    answers = [ask(server)]
    os.kill(first, signal.SIGKILL)
    server.log.wait(r"ready in=", count=2)
    answers.append(ask(server))
    (one, hooked, value, drawn, frozen), (other, *told) = answers
    assert one != other
    assert hooked and told[0]
    assert value == told[1], "the application was loaded once"
    assert drawn != told[2], "the workers would draw the same secrets"
    assert frozen > ask(serve(FORKED, workers=1))[4], "more than the server's own"


def test_a_worker_is_the_masters_child_from_the_first_line_of_python_on(serve):
    """Its fork has a process in between, which takes long to end when there is much memory."""
    source = """
        import mmap, os

        memory = mmap.mmap(-1, 128 << 20, flags=mmap.MAP_PRIVATE)
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        memory.write(b"x" * len(memory))
        parents = []
        os.register_at_fork(after_in_child=lambda: parents.append(os.getppid()))

        def app(environ, start_response):
            start_response("200 OK", [])
            return [repr(parents).encode()]
    """
    server = serve(source, "--preload", workers=1)
    assert ask(server) == [server.pid]


def test_threads_of_a_preloaded_application_are_warned_about(serve):
    server = serve(
        """
        import threading

        threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()

        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"fine"]
        """,
        "--preload",
    )
    assert server.log.count(r"warning: .*started threads while it was preloaded \(poller\)") == 1
    assert server.get()[2] == b"fine"


# ---- descriptors


def modes(pid):
    """{number: (what it is, its access mode)} of the descriptors of a process."""
    found = {}
    for fd, what in descriptors(pid).items():
        if text := read_proc(pid, f"fdinfo/{fd}"):
            mode = int(re.search(r"flags:\s*(\d+)", text)[1], 8) & os.O_ACCMODE
            found[fd] = (what, mode)
    return found


@PRELOAD
def test_a_later_worker_has_no_more_descriptors_than_the_first(serve, options):
    server = serve(WHO, *options, workers=4)
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    server.log.wait(r"ready in=", count=5)

    def kinds(pid):
        return sorted(re.sub(r"\d+", "N", what) for what in descriptors(pid).values())

    first, *others = server.worker_pids()
    wait_until(lambda: [kinds(pid) for pid in others] == [kinds(first)] * 3, "equal descriptors")


@PRELOAD
def test_a_worker_holds_no_end_of_anothers_pipes(serve, options):
    """But the lifeline, which the master alone can write to, the hand-off's pair, and what was
    there before. A mold has no sockets: it would keep them open after its workers."""
    server = serve(WHO, *options, workers=3)
    standard = {what for fd, what in descriptors(server.pid).items() if fd <= 2}
    standard |= {"/dev/null", f"socket:[{os.fstat(server.listener.fileno()).st_ino}]"}

    def held(pid):
        """Sockets and pipes of its own."""
        everything = set(modes(pid).values())
        return {
            (what, mode)
            for what, mode in everything
            if what not in standard and not what.startswith(("anon_inode:", "/memfd:"))
        }

    def shared():
        """For each pair of processes, the access modes of what both have."""
        everybody = {pid: held(pid) for pid in server.session()}
        masters = {what for what, _ in everybody.pop(server.pid)}
        with_master = [
            [mode for what, mode in mine if what in masters] for mine in everybody.values()
        ]
        with_each_other = [
            [mode for _, mode in one & other] for one, other in combinations(everybody.values(), 2)
        ]
        return with_master, with_each_other

    assert len(server.session()) == 5
    lifeline, ready, hand_off = os.O_RDONLY, os.O_WRONLY, [os.O_RDWR] * 2
    common = [lifeline, *hand_off]
    expected = [[[lifeline], *[[lifeline, ready, *hand_off]] * 3], [[lifeline]] * 3 + [common] * 3]
    wait_until(
        lambda: [sorted(map(sorted, pairs)) for pairs in shared()] == expected,
        "workers to have lifeline and hand-off in common, and with the master their ready pipe",
    )


TOOL = """
    import json, os, signal

    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink("/proc/self/fd/" + name)
        except OSError:
            pass  # The listing's own.
    ignored = [int(n) for n in signal.Signals if signal.getsignal(n) == signal.SIG_IGN]
    blocked = [int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, [])]
    print(json.dumps([found, ignored, blocked]))
"""

STARTS_IT = """
    import subprocess, sys

    def app(environ, start_response):
        command = [sys.executable, "tool.py"]
        done = subprocess.run(command, close_fds=False, stdout=subprocess.PIPE, check=True)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [done.stdout]
"""


@PRELOAD
def test_a_program_that_the_application_starts_inherits_nothing(serve, options):
    logs = ["--error-logfile", "error.log", "--access-logfile", "access.log"]
    server = serve(STARTS_IT, *PYTHON, *options, *logs, start=False)
    server.write("tool.py", TOOL)
    server.launch()
    found, ignored, blocked = json.loads(server.get()[2])
    assert sorted(found) == ["0", "1", "2"], found
    # Python ignores these for itself when it starts.
    assert set(ignored) <= {signal.SIGPIPE, signal.SIGXFSZ}
    assert blocked == []


# ---- the interpreter

ABOUT = """
import json, sys, locale

def about():
    return {
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "exec_prefix": sys.exec_prefix,
        "executable": sys.executable,
        "version": sys.version,
        "utf8_mode": sys.flags.utf8_mode,
        "filesystem": sys.getfilesystemencoding(),
        "preferred": locale.getpreferredencoding(False),
        "stdout": sys.stdout.encoding,
        "flags": [int(flag) for flag in sys.flags],
        "path": [entry for entry in sys.path[1:]],
    }
"""

SERVED = """
    import json, sys
    from about import about

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        told = {**about(), "argv": sys.argv, "first": sys.path[0]}
        return [json.dumps(told).encode()]
"""


@PRELOAD
@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}, {"LC_ALL": "POSIX"}])
def test_the_interpreter_is_the_venvs_own(serve, options, locale):
    server = serve(None, *PYTHON, *options, start=False, env=locale)
    server.write("about.py", ABOUT)
    server.write("main.py", SERVED)
    server.start()
    told = json.loads(server.get()[2])
    assert told.pop("argv") == ["serve", "main:app"]
    assert told.pop("first") == str(server.cwd.resolve())
    command = "import json, about; print(json.dumps(about.about()))"
    real = subprocess.run(
        [sys.executable, "-c", command],
        cwd=server.cwd,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **locale},
        capture_output=True,
        check=True,
    )
    assert told == json.loads(real.stdout)


MANY = """
    import json, multiprocessing, os, signal, subprocess, sys

    def square(n):
        return n * n

    def into(queue, n):
        queue.put(square(n))

    def processes(method):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        child = context.Process(target=into, args=(queue, 7))
        child.start()
        answer = queue.get(timeout=20)
        child.join()
        pool = context.Pool(2)
        squares = pool.map(square, [1, 2, 3])
        pool.close()
        pool.join()
        return [answer, child.exitcode, squares]

    def work(name):
        if name == "subprocess":
            done = subprocess.run([sys.executable, "-c", "import sys; print(sys.prefix)"],
                                  capture_output=True, text=True)
            return [done.returncode, done.stdout.strip()]
        if name == "false":
            return [subprocess.run(["false"]).returncode, os.system("exit 3") >> 8]
        if name == "signals":
            return [int(signal.getsignal(signal.SIGCHLD)),
                    len(signal.pthread_sigmask(signal.SIG_BLOCK, []))]
        if name == "fork":
            pid = os.fork()
            if pid == 0:
                os._exit(5)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return processes(name.partition("-")[2])

    def app(environ, start_response):
        told = work(environ["PATH_INFO"][1:])
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(told).encode()]
"""


@PRELOAD
def test_an_application_can_use_processes(serve, options):
    server = serve(MANY, *PYTHON, *options)
    (worker,) = server.worker_pids()

    def told(name):
        status, _, body = server.get(f"/{name}")
        assert status == 200, server.log.text()
        return json.loads(body)

    assert told("signals") == [int(signal.SIG_DFL), 0]
    assert told("false") == [1, 3]
    assert told("subprocess") == [0, sys.prefix]
    assert told("fork") == 5
    for method in ("fork", "spawn", "forkserver"):
        assert told(f"processes-{method}") == [49, 0, [1, 4, 9]], method
    assert server.worker_pids() == [worker]
    assert server.log.count(r" (warning|error): ") == 0
    assert server.stop() == 0


FORKS = """
    import json, multiprocessing, os, signal, time

    def sleep(ready):
        os.write(ready, b"!")
        time.sleep(25)
        os._exit(77)  # It took no notice of the signal.

    def forked(number):
        told, ready = os.pipe()
        pid = os.fork()
        if pid == 0:
            sleep(ready)
        os.read(told, 1)
        os.kill(pid, number)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def terminated():
        told, ready = os.pipe()
        child = multiprocessing.get_context("fork").Process(target=sleep, args=(ready,))
        child.start()
        os.read(told, 1)
        child.terminate()
        child.join()
        return child.exitcode

    def app(environ, start_response):
        name = environ["PATH_INFO"][1:]
        code = terminated() if name == "terminate" else forked(int(name))
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps([os.getpid(), code]).encode()]
"""


@pytest.mark.parametrize("name", ["terminate", "SIGTERM", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGHUP"])
def test_a_forked_child_does_not_take_signals_in_its_workers_name(serve, name):
    """It dies of them, as any program; and the worker does not think that they were for it."""
    server = serve(FORKS)
    (worker,) = server.worker_pids()
    number = signal.SIGTERM if name == "terminate" else getattr(signal, name)
    path = name if name == "terminate" else int(number)
    assert json.loads(server.get(f"/{path}")[2]) == [worker, -number]
    assert json.loads(server.get(f"/{path}")[2]) == [worker, -number]
    assert server.worker_pids() == [worker]


def test_what_an_import_forks_ends_with_its_mold(serve):
    """A daemon of multiprocessing is terminated, and waited for, when its parent ends."""
    server = serve(
        """
        import multiprocessing, os, signal

        def work():
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            print("begun", os.getpid(), flush=True)
            while True:
                signal.pause()

        multiprocessing.get_context("fork").Process(target=work, daemon=True).start()

        def app(environ, start_response):
            start_response("200 OK", [("Content-Length", "2")])
            return [b"ok"]
        """,
        "--preload",
    )
    first = int(server.out.wait("^begun (.*)")[1])
    server.signal(signal.SIGHUP)
    second = int(server.out.wait("^begun (.*)", count=2)[1])
    wait_until(lambda: not os.path.exists(f"/proc/{first}"), "the old mold's child has ended")
    assert server.get()[2] == b"ok"
    assert server.stop() == 0
    assert not os.path.exists(f"/proc/{second}")
    assert server.log.count(r" (warning|error): ") == 0


SOCKETS = """
    import os, re, socket, stat, threading

    # Who started the server has given it this one, and may do with it what he likes.
    with open(f"/proc/{os.getppid()}/cmdline") as file:
        [inherited] = map(int, re.findall(r"fd://(\\d+)", file.read()))

    def sockets():
        fds = {int(name) for name in os.listdir("/proc/self/fd")}
        for fd in fds - {inherited}:
            try:
                if stat.S_ISSOCK(os.fstat(fd).st_mode):
                    yield fd, socket.socket(fileno=os.dup(fd)).getsockname()
            except OSError:
                pass

    def fork():
        if os.fork() == 0:
            names = [name for _, name in sockets() if name]
            os.write(1, f"forked {names}\\n".encode())
            while not os.path.exists("end"):
                threading.Event().wait(0.01)
            os._exit(0)

    def app(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/fork":
            threading.Event().wait(float(environ["QUERY_STRING"]))
            fork()
        elif path == "/thread":
            threading.Timer(float(environ["QUERY_STRING"]), fork).start()
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]
"""

CLASSES = pytest.mark.parametrize("worker_class", ["sync", "threads", "async"])


@CLASSES
def test_what_the_application_forks_has_none_of_the_servers_sockets(serve, worker_class):
    """Else nobody could listen there again as long as it lives."""
    server = serve(SOCKETS, "-k", worker_class)
    others = [server.connect() for _ in range(3)]
    for other in others:
        other.sendall(b"GET / HTTP/1.1\r\n")
    paths = [f"/{by}?{after}" for by in ("fork", "thread") for after in (0, 0.005, 0.05)] * 3
    for path in paths:
        assert server.get(path)[0] == 200
    server.out.wait("^forked", count=len(paths))
    assert set(server.out.lines) == {"forked []"}
    server.write("end", "")
    for other in others:
        other.sendall(b"Host: a\r\n\r\n")
        assert other.recv(12) == b"HTTP/1.1 200"
        other.close()
    assert server.stop() == 0
    assert server.log.count(r" (warning|error): ") == 0


@CLASSES
def test_what_an_import_forks_has_none_of_the_servers_sockets(serve, worker_class):
    """As a Manager of multiprocessing that is made there."""
    server = serve(SOCKETS + "\n    fork()\n", "-k", worker_class)
    assert server.out.wait("^forked (.*)")[1] == "[]"
    server.write("end", "")
    assert server.get()[0] == 200
    assert server.stop() == 0


@CLASSES
@PRELOAD
def test_what_an_import_forks_does_not_come_back_to_serve(serve, worker_class, options):
    server = serve(WHO + "\n    os.fork()\n", "-k", worker_class, *options)
    (worker,) = server.worker_pids()
    server.log.wait("warning: a process that was forked here came back")
    assert {server.get()[2].split()[0] for _ in range(50)} == {str(worker).encode()}
    assert server.stop() == 0


@pytest.mark.parametrize(
    "config",
    [
        "os.fork()",
        "def when_ready(server): os.fork()",
        "def post_fork(server, worker): os.fork()",
        "def post_worker_init(worker): os.fork()",
    ],
    ids=["", "when_ready", "post_fork", "post_worker_init"],
)
def test_what_a_config_file_forks_does_not_come_back_to_serve(serve, config):
    server = serve(WHO, start=False)
    server.write("serve.conf.py", f"import os\n{config}\n")
    server.start()
    server.log.wait("warning: a process that was forked here came back")
    assert len(server.mold_pids()) == 1
    assert server.get()[0] == 200
    assert server.stop() == 0


@CLASSES
def test_what_a_signal_handler_forks_does_not_come_back_to_serve(serve, worker_class):
    source = (
        WHO
        + """
    import signal

    signal.signal(signal.SIGALRM, lambda *_: os.fork())
    """
    )
    server = serve(source, "-k", worker_class)
    (worker,) = server.worker_pids()
    os.kill(worker, signal.SIGALRM)
    server.log.wait("warning: a process that was forked here came back")
    assert {server.get()[2] for _ in range(50)} == {str(worker).encode()}
    assert server.stop() == 0


@CLASSES
def test_a_fork_that_waits_for_a_request_does_not_keep_that_waiting(serve, worker_class):
    """By a hook, as the locks of a library have one."""
    source = """
        import os, threading

        lock = threading.Lock()

        def hold():
            print("forking")
            lock.acquire()

        os.register_at_fork(before=hold, after_in_parent=lock.release, after_in_child=lock.release)

        def fork():
            if os.fork() == 0:
                os._exit(0)
            print("forked")

        def app(environ, start_response):
            start_response("200 OK", [])
            with lock:
                threading.Thread(target=fork).start()
                for _ in range(20):
                    yield b"x" * 1_000_000
    """
    server = serve(source, "-k", worker_class)
    with server.connect() as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        server.out.wait("^forking")
        assert len(read_all(client)) > 20_000_000
    server.out.wait("^forked")
    assert server.stop() == 0


@CLASSES
def test_what_the_application_forks_does_not_come_back_to_serve(serve, worker_class):
    server = serve(
        """
        import os

        def app(environ, start_response):
            if environ["PATH_INFO"] == "/fork":
                os.fork()
            start_response("200 OK", [])
            return [str(os.getpid()).encode()]
        """,
        "-k",
        worker_class,
    )
    (worker,) = server.worker_pids()
    with server.connect() as client:
        client.sendall(b"GET /fork HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.endswith(str(worker).encode())
        assert answer.count(b"HTTP/1.1") == 1
    server.log.wait("warning: a process that was forked here came back")
    assert {server.get()[2] for _ in range(50)} == {str(worker).encode()}
    assert server.stop() == 0


MANAGED = """
    import multiprocessing, os, time

    manager = multiprocessing.Manager()
    shared = manager.dict(count=0)

    def app(environ, start_response):
        while not os.path.exists("gate"):
            shared["count"] += 1
            print("counted", flush=True)
            time.sleep(0.01)
        start_response("200 OK", [])
        return [b"counted"]
"""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
@pytest.mark.parametrize("worker_class", ["sync", "threads"])
def test_what_is_preloaded_is_there_for_the_last_request(serve, worker_class, number):
    """A Manager is a process that the mold has started, and that ends with it."""
    server = serve(MANAGED, "--preload", "-k", worker_class)
    with server.connect() as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        server.out.wait("counted")
        server.signal(number)
        server.log.wait("gen=2 serves" if number == signal.SIGHUP else ": stopping")
        server.out.wait("counted", count=100, since=len(server.out.lines))
        server.write("gate", "")
        assert read_all(client).endswith(b"\r\n\r\ncounted")
    if number == signal.SIGHUP:
        wait_until(lambda: len(server.mold_pids()) == 1, "the old mold to leave")
        assert server.get()[0] == 200
        server.signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE) == 0
    assert server.log.count(r" (warning|error): ") == 0


# ---- a worker's life

ENDING = """
    import atexit, threading, sys

    def goodbye():
        with open("goodbye", "a") as file:
            file.write("goodbye\\n")

    atexit.register(goodbye)

    def finish():
        event.wait()
        with open("joined", "a") as file:
            file.write("joined\\n")

    event = threading.Event()
    threading.Thread(target=finish).start()
    threading._register_atexit(event.set)

    def app(environ, start_response):
        print("not flushed")
        sys.stdout.write("nor ended with a newline")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"served"]
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_ends_as_a_python_program_does(serve, number):
    server = serve(ENDING)
    assert server.get()[2] == b"served"
    assert server.stop(number) == 0
    assert (server.cwd / "goodbye").read_text() == "goodbye\n"
    assert (server.cwd / "joined").read_text() == "joined\n"
    assert server.out.lines == ["not flushed", "nor ended with a newline"]


@pytest.mark.parametrize("worker_class", ["threads", "async"])
def test_nobody_waits_for_the_exit_handlers_of_a_worker(serve, worker_class):
    server = serve(
        """
        import atexit, os, time

        def leave():
            print("leaving", flush=True)
            while not os.path.exists("gate"):
                time.sleep(0.01)

        atexit.register(leave)

        def app(environ, start_response):
            start_response("200 OK", [("Content-Length", "3")])
            yield b"ok"
            print("begun", flush=True)
            time.sleep(30)
            yield b"!"
        """,
        "-k",
        worker_class,
        "--threads",
        "2",
    )
    with server.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        server.out.wait("begun")
        server.signal(signal.SIGINT)
        server.out.wait("leaving")
        while client.recv(65536):
            pass
        server.write("gate", "")
    assert server.process.wait(PATIENCE) == 0
    assert server.log.count(" (warning|error): ") == 0


def test_threads_of_the_application_run_while_its_worker_is_idle(serve):
    server = serve("""
        import itertools, threading, time

        def tick():
            for number in itertools.count():
                print("tick", number, flush=True)
                time.sleep(0.01)

        threading.Thread(target=tick, daemon=True).start()

        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"served"]
    """)
    server.out.wait(r"tick 20$")
    assert server.get()[2] == b"served"
    assert server.stop() == 0


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_the_application_prints_comes_out(serve, unbuffered):
    source = """
        import sys

        def app(environ, start_response):
            print("to stdout")
            print("to stderr", file=sys.stderr)
            print("to wsgi.errors", file=environ["wsgi.errors"])
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"served"]
    """
    server = serve(source, env={"PYTHONUNBUFFERED": unbuffered})
    server.get()
    server.out.wait(r"^to stdout$")
    server.log.wait(r"to stderr")
    server.log.wait(r"to wsgi\.errors")
