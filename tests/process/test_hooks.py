"""gunicorn's hooks: when they are called, in which process, and with what."""

import os
import re
from signal import SIGHUP, SIGKILL, SIGQUIT, SIGTTIN

import pytest
from certificates import Authority
from harness import run
from servers import GATED, WHO

#: Every hook says in one line of the log who it is, in which process, and what it was given.
ALL = """
import os

def say(log, name, *values):
    log.info("hook %s in %s: %s", name, os.getpid(), " ".join(map(str, values)))

def on_starting(server):
    say(server.log, "on_starting", server.pid, server.address)

def on_reload(server):
    say(server.log, "on_reload", server.num_workers)

def when_ready(server):
    say(server.log, "when_ready", server.num_workers)

def on_exit(server):
    say(server.log, "on_exit")

def nworkers_changed(server, new_value, old_value):
    say(server.log, "nworkers_changed", old_value, new_value, server.num_workers)

def pre_fork(server, worker):
    say(server.log, "pre_fork", worker.age, worker.pid)

def child_exit(server, worker):
    say(server.log, "child_exit", worker.age, worker.pid, worker.alive)

def post_fork(server, worker):
    say(worker.log, "post_fork", worker.age, worker.pid, worker.ppid, worker.alive)

def post_worker_init(worker):
    say(worker.log, "post_worker_init", worker.wsgi.__name__, worker.app.callable is worker.wsgi)

def worker_int(worker):
    say(worker.log, "worker_int", worker.pid)

def worker_exit(server, worker):
    say(worker.log, "worker_exit", worker.pid, worker.nr, worker.alive)
"""


@pytest.fixture
def hooked(serve):
    """Makes servers that have a config file."""

    def make(config, app=WHO, *options, start=True, **arguments):
        server = serve(app, *options, start=False, **arguments)
        server.write("serve.conf.py", config)
        return server.start() if start else server

    return make


def said(server, hook):
    """What a hook has said so far: (pid, values) of each call."""
    lines = re.findall(rf"hook {hook} in (\d+): (.*)", server.log.text())
    return [(int(pid), values) for pid, values in lines]


def order(server):
    return re.findall(r"hook (\w+) in", server.log.text())


@pytest.mark.parametrize("worker_class", ["sync", "async", "threads"])
@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_every_hook_of_a_life_is_called_in_its_place(hooked, worker_class, preload):
    server = hooked(ALL, WHO, "-k", worker_class, *preload)
    worker = server.served_by()
    [mold] = server.mold_pids()
    server.log.wait("hook when_ready")
    assert server.stop() == 0
    assert order(server) == [
        "on_starting",
        "pre_fork",
        "post_fork",
        "post_worker_init",
        "nworkers_changed",
        "when_ready",
        "worker_exit",
        "child_exit",
        "on_exit",
    ]
    [(pid, values)] = said(server, "on_starting")
    assert pid == mold
    assert values.startswith(f"{server.pid} ['fd://")
    assert said(server, "pre_fork") == [(mold, "1 None")]
    assert said(server, "post_fork") == [(worker, f"1 {worker} {server.pid} True")]
    assert said(server, "post_worker_init") == [(worker, "app True")]
    assert said(server, "nworkers_changed") == [(mold, "None 1 1")]
    assert said(server, "when_ready") == [(mold, "1")]
    assert said(server, "worker_exit") == [(worker, f"{worker} 1 False")]
    assert said(server, "child_exit") == [(mold, f"1 {worker} False")]
    assert said(server, "on_exit") == [(mold, "")]


def test_a_reload_has_its_own_hooks(hooked):
    server = hooked(ALL, workers=2)
    server.log.wait("hook when_ready")
    old = server.workers_of(1)
    server.signal(SIGHUP)
    server.log.wait(r"gen=1 left")
    server.log.wait("hook child_exit", count=2)
    assert order(server).count("on_starting") == order(server).count("when_ready") == 1
    assert order(server).count("on_exit") == 0
    [(mold, workers)] = said(server, "on_reload")
    assert workers == "2"
    assert order(server).index("on_reload") > order(server).index("when_ready")
    # Whichever mold is there is told.
    assert {values.split()[1] for _, values in said(server, "child_exit")} == set(map(str, old))
    assert server.stop() == 0
    assert [pid for pid, _ in said(server, "on_exit")] == [mold]


def test_a_worker_that_is_killed_is_told_of(hooked):
    server = hooked(ALL)
    worker = server.served_by()
    os.kill(worker, SIGKILL)
    assert server.log.wait(r"hook child_exit .*: (.*)")[1] == f"1 {worker} False"
    server.log.wait("hook post_fork .*: 2 ")


def test_the_number_of_workers_is_told(hooked):
    server = hooked(ALL)
    server.signal(SIGTTIN)
    assert server.log.wait(r"hook nworkers_changed .*: (1 .*)")[1] == "1 2 2"


@pytest.mark.parametrize("worker_class", ["sync", "async", "threads"])
def test_a_worker_that_quits_says_so(hooked, worker_class):
    server = hooked(ALL, WHO, "-k", worker_class)
    worker = server.served_by()
    os.kill(worker, SIGQUIT)
    server.log.wait("hook child_exit")
    assert said(server, "worker_int") == [(worker, str(worker))]
    own = re.findall(rf"hook (\w+) in {worker}:", server.log.text())
    assert own[-2:] == ["worker_int", "worker_exit"]


def test_quitting_waits_for_the_request_of_a_sync_worker(hooked):
    server = hooked(ALL, GATED).gate()
    with server.connect() as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        worker = int(server.out.wait(r"began (\d+)")[1])
        os.kill(worker, SIGQUIT)
        assert order(server).count("worker_int") == 0
        server.open_gate()
        server.log.wait("hook worker_int")


def test_a_thread_of_the_mold_runs_while_workers_come_and_go(hooked):
    config = """
import threading

died = threading.Event()

def when_ready(server):
    def run():
        died.wait()
        server.log.info("heard in the thread")
    threading.Thread(target=run, daemon=True).start()

def child_exit(server, worker):
    died.set()
"""
    server = hooked(config)
    worker = server.served_by()
    os.kill(worker, SIGKILL)
    server.log.wait("heard in the thread")
    server.log.wait(r"ready in=", count=2)
    assert server.served_by() != worker
    assert server.stop() == 0


def test_a_reload_to_a_wrong_hook_is_called_off(hooked):
    server = hooked(ALL)
    server.write("serve.conf.py", "def post_fork(): pass")
    server.signal(SIGHUP)
    server.log.wait(r"gen=2 abandoned.*post_fork is called with \(server, worker\)")
    assert server.get()[0] == 200
    assert server.stop() == 0
    assert order(server)[-1] == "on_exit"


LATE = """
def worker_abort(worker):
    worker.log.warning("hook worker_abort in %s", worker.pid)
"""

SLOW = """
    import os, serve, time

    def app(environ, start_response):
        try:
            if environ["PATH_INFO"] == "/slow":
                while True:
                    time.sleep(0.01)
        except serve.RequestTimeout:
            os.write(2, b"told\\n")
            raise
        start_response("200 OK", [])
        return []
"""


@pytest.mark.parametrize("worker_class", ["sync", "async", "threads"])
def test_a_request_over_its_time_is_told_of_before_it_is_ended(hooked, worker_class):
    server = hooked(LATE, SLOW, "--request-timeout", "0.3", "-k", worker_class)
    assert server.get("/slow")[0] == 504
    server.log.wait("^told$")
    lines = [line for line in server.log.lines if re.search("hook worker_abort|^told$", line)]
    assert len(lines) == 2
    assert re.search(rf"warning: .*hook worker_abort in {server.worker_pids()[0]}", lines[0])
    assert server.get("/")[0] == 200


AROUND = """
def pre_request(worker, req):
    worker.log.info("before %s %s %s %s", req.method, req.path, req.query, dict(req.headers)["X-A"])

def post_request(worker, req, environ, resp):
    worker.log.info("after %s %s %s %s", req.path, environ["app"], resp.status, resp.headers)
"""

ANSWERS = """
    def app(environ, start_response):
        environ["app"] = "was here"
        if environ["PATH_INFO"] == "/broken":
            raise ValueError("broken")
        start_response("418 I'm a teapot", [("X-B", "b")])
        if environ["PATH_INFO"] == "/late":
            raise ValueError("broken")
        return [b"tea"]
"""


@pytest.mark.parametrize("worker_class", ["sync", "async", "threads"])
def test_requests_have_hooks_around_them(hooked, worker_class):
    server = hooked(AROUND, ANSWERS, "-k", worker_class)
    assert server.get("/tea?hot=1", headers={"X-A": "a"})[0] == 418
    server.log.wait("before GET /tea hot=1 a$")
    server.log.wait(r"after /tea was here 418 I'm a teapot \[\('X-B', 'b'\)\]$")
    assert server.get("/broken", headers={"X-A": "a"})[0] == 500
    server.log.wait(r"after /broken was here 500 Internal Server Error \[\]$")
    assert server.get("/late", headers={"X-A": "a"})[0] == 500
    server.log.wait(r"after /late was here 500 Internal Server Error \[\]$")


@pytest.mark.parametrize("arguments", ["worker, req", "worker, req, environ", "*all", "a, b, c, d"])
def test_a_hook_after_a_request_may_take_less(hooked, arguments):
    server = hooked(f"def post_request({arguments}): print('after', flush=True)")
    assert server.get("/")[0] == 200
    server.out.wait("after")


@pytest.mark.parametrize("worker_class", ["sync", "async", "threads"])
def test_who_writes_while_a_hook_waits_hears_that_the_request_is_over(hooked, worker_class):
    config = """
def post_request(worker, req, environ, resp):
    environ["app.go"].set()
    environ["app.thread"].join()
"""
    app = """
        import threading

        def app(environ, start_response):
            write = start_response("200 OK", [])
            go = environ["app.go"] = threading.Event()

            def late():
                go.wait()
                try:
                    write(b"late")
                except RuntimeError as error:
                    print(error, flush=True)

            environ["app.thread"] = threading.Thread(target=late)
            environ["app.thread"].start()
            return [b"body"]
    """
    server = hooked(config, app, "-k", worker_class)
    assert server.get("/")[::2] == (200, b"body")
    server.out.wait("^the request is over; nothing can be sent$")
    assert "panicked" not in server.log.text()


def test_a_hook_that_raises_is_told_of_and_harms_nobody(hooked):
    names = {
        "server": ["on_starting", "when_ready", "on_exit"],
        "server, new, old": ["nworkers_changed"],
        "server, worker": ["pre_fork", "post_fork", "child_exit", "worker_exit"],
        "worker": ["post_worker_init"],
        "worker, req": ["pre_request", "post_request"],
    }
    lines = [
        f"def {name}({arguments}): raise {'SystemExit' if 'request' not in name else 'OSError'}(7)"
        for arguments, given in names.items()
        for name in given
    ]
    server = hooked("\n".join(lines))
    assert server.get("/")[0] == 200
    server.log.wait("the hook when_ready raised")
    assert server.stop() == 0
    for name in sum(names.values(), []):
        assert server.log.count(f"error: .*the hook {name} raised") == 1, name
    assert server.log.count('serve.conf.py", line') == len(lines)
    assert server.log.count("<serve>") == 0, "what is ours helps nobody"


def test_a_request_that_is_ended_in_a_hook_never_reaches_the_application(hooked):
    config = """
import time

def pre_request(worker, req):
    while req.path == "/hook":
        time.sleep(0.01)
"""
    server = hooked(config, GATED, "--request-timeout", "0.3")
    assert server.get("/hook")[0] == 504
    assert server.get("/")[0] == 200
    assert server.log.count("the hook pre_request raised") == 0


@pytest.mark.parametrize("path", ["hooks:Own.hook", "hooks.hook"])
def test_hooks_can_be_named_in_any_form_of_file(serve, path):
    server = serve(WHO, start=False)
    server.write(
        "hooks.py",
        """
        def hook(server):
            server.log.info("from toml")

        class Own:
            hook = hook
        """,
    )
    server.write("serve.toml", f'when_ready = "{path}"\n')
    server.start()
    server.log.wait("from toml")


def test_the_log_of_a_hook_is_a_logger(hooked):
    config = """
def when_ready(server):
    server.log.debug("not asked for")
    server.log.error("%(a)s and %%", {"a": 1})
    try:
        1 / 0
    except ZeroDivisionError:
        server.log.exception("divided by %d", 0)
    server.log.critical("the %s", "end")
"""
    server = hooked(config)
    server.log.wait("error: .*the end")
    server.log.wait("error: .*1 and %$")
    server.log.wait("error: .*divided by 0$")
    server.log.wait("^ZeroDivisionError")
    assert server.log.count("not asked for") == 0


def test_hooks_see_the_settings_and_what_else_the_file_has(hooked):
    config = """
workers = 3
pool = {"size": 5}

def when_ready(server):
    cfg = server.cfg
    server.log.info("cfg %s %s %s %s", cfg.workers, cfg.timeout, cfg.pool["size"], cfg.wsgi_app)
"""
    server = hooked(config, workers=1)
    server.log.wait("cfg 1 30 5 main:app")


def test_hooks_find_what_gunicorn_s_have(hooked):
    """The attributes that public configurations use, beside those of ALL."""
    config = """
max_requests = 9
raw_env = ["A=1=2"]

def post_fork(server, worker):
    worker.notify()
    cfg = worker.cfg
    worker.log.info("1 %s %s %s", server.proc_name, server.timeout, server.cfg is cfg)
    worker.log.info("2 %s %s %s", cfg.address == server.address, cfg.worker_class_str, cfg.is_ssl)
    worker.log.info("3 %s %s %s %s", cfg.env, worker.max_requests, worker.booted, worker.nr)
"""
    server = hooked(config)
    server.log.wait("info: 1 main:app 30 True$")
    server.log.wait("info: 2 True sync False$")
    server.log.wait(r"info: 3 \{'A': '1=2'\} 9 False 0$")
    assert server.log.count("raised") == 0


def test_hooks_see_that_there_is_tls(hooked, tmp_path):
    certificate = Authority(tmp_path).server()
    config = f"""
certfile = {str(certificate)!r}
keyfile = {str(certificate.with_suffix(".key"))!r}

def when_ready(server):
    server.log.info("is_ssl %s", server.cfg.is_ssl)
"""
    hooked(config).log.wait("is_ssl True$")


def test_hooks_see_the_number_of_workers_that_the_server_has_chosen(hooked):
    config = """
def on_starting(server):
    server.log.info("chosen: %d", server.cfg.workers)
"""
    server = hooked(config, workers=None, start=False).launch()
    chosen = server.log.wait(r"chosen: (\d+)")[1]
    server.log.wait(rf"serves main:app .*workers={chosen} ")


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            "\ndef post_fork(server): pass",
            r"serve\.conf\.py, line 2: post_fork is called with \(server, worker\), "
            r"and this function takes \(server\)",
        ),
        (
            "def post_request(worker): pass",
            r"line 1: post_request is called with \(worker, req, environ, resp\), ",
        ),
        (
            "on_exit = 'nowhere:hook'",
            r"line 1: on_exit: cannot import 'nowhere:hook': ModuleNotFoundError: No module",
        ),
        ("on_exit = 'os:sep'", r"line 1: on_exit: 'os:sep' is no function"),
        ("on_exit = 3", r"line 1: on_exit: 3 is neither a function nor the path of one"),
    ],
)
def test_a_hook_that_cannot_be_called_ends_the_start(hooked, config, sentence):
    server = hooked(config, start=False).launch()
    assert server.wait() == 2
    assert server.log.count(sentence) == 1
    server.still_alone()
    code, _, errors = run("--check-config", "main:app", cwd=server.cwd)
    assert code == 2
    assert re.search(sentence, errors)


def test_what_is_no_hook_here_is_told(hooked):
    server = hooked("def pre_exec(server): pass\ndef post_frok(server, worker): pass\n")
    server.log.wait(r"line 1: pre_exec has no effect: after USR2 the new server .* on_starting")
    server.log.wait(r"line 2: 'post_frok' is not a setting .* did you mean 'post_fork'\?")
