"""The hooks: functions of the configuration that are called when something happens.

A mold collects them and makes one `Hooks`, of which each worker has a copy. The server calls its
methods; no hook that raises does any harm. Names, arguments and the attributes of what is passed
are gunicorn's.
"""

import importlib
import inspect
import json
import logging
import os

#: What each hook is called with.
HOOKS = {
    "on_starting": ("server",),
    "when_ready": ("server",),
    "on_reload": ("server",),
    "on_exit": ("server",),
    "nworkers_changed": ("server", "new_value", "old_value"),
    "pre_fork": ("server", "worker"),
    "child_exit": ("server", "worker"),
    "post_fork": ("server", "worker"),
    "post_worker_init": ("worker",),
    "worker_int": ("worker",),
    "worker_abort": ("worker",),
    "worker_exit": ("server", "worker"),
    "pre_request": ("worker", "req"),
    "post_request": ("worker", "req", "environ", "resp"),
}
#: With how many of them it is content.
LEAST = {"post_request": 2}


class Refusal(Exception):
    """Why the hooks cannot be: (exit code, sentence, traceback or '')."""


def collect(names):
    """The hooks among the names of a configuration, or None."""
    given = {name: names[name] for name in HOOKS if names.get(name) not in (None, "")}
    return Hooks(given, names) if given else None


class Hooks:
    def __init__(self, given, names):
        self.given = given
        self.names = names
        self.functions = {}
        self.server = self.count = self.ended = None
        #: In a worker, it; in a mold, the one that was or is to be forked last.
        self.worker = None
        #: In a mold: those alive, by number.
        self.workers = {}
        self.age = 0

    def resolve(self, settings, places, handler, count, ended):
        """Imports what is named and looks at what it takes.

        `handler` writes into the server's log, `count` returns the number of requests of this
        process, `ended` is the exception that ends a request.
        """
        self.functions = {
            name: fitted(name, value, places.get(name, "the configuration"))
            for name, value in self.given.items()
        }
        self.server = Server(Config(self.names, json.loads(settings)), logger(handler))
        self.count = count
        self.ended = ended

    def has_request_hooks(self):
        return bool({"pre_request", "post_request"} & set(self.functions))

    def call(self, name, *arguments):
        function = self.functions.get(name)
        if function is not None:
            try:
                function(*arguments)
            except BaseException as error:
                self.raised(name, error)

    def raised(self, name, error):
        trace = error.__traceback__
        while trace.tb_next and trace.tb_frame.f_globals is globals():
            trace = trace.tb_next
        told = type(error), error, trace
        self.server.log.error("the hook %s raised", name, exc_info=told)

    # ---- in the mold

    def starting(self):
        self.call("on_starting", self.server)

    def serving(self):
        self.call("when_ready", self.server)

    def reloading(self):
        self.call("on_reload", self.server)

    def exiting(self):
        self.call("on_exit", self.server)

    def resized(self, now, before):
        self.server.num_workers = now
        self.call("nworkers_changed", self.server, now, before)

    def forking(self, number):
        self.age += 1
        self.worker = self.workers[number] = Worker(self.age, self.server, self.count)
        self.call("pre_fork", self.server, self.worker)

    def died(self, number, pid):
        # An earlier generation's worker is not known here.
        worker = self.workers.pop(number, None) or Worker(0, self.server, self.count)
        if pid is not None:
            worker.pid, worker.alive = pid, False
            self.call("child_exit", self.server, worker)

    # ---- in a worker

    def forked(self):
        self.workers.clear()
        self.worker.pid = os.getpid()
        self.call("post_fork", self.server, self.worker)

    def loaded(self, wsgi):
        self.worker.wsgi = wsgi
        self.worker.app = Application(wsgi, self.server.cfg)
        self.worker.booted = True
        self.call("post_worker_init", self.worker)

    def quitting(self):
        self.worker.alive = False
        self.call("worker_int", self.worker)

    def late(self):
        self.call("worker_abort", self.worker)

    def leaving(self):
        self.worker.alive = False
        self.call("worker_exit", self.server, self.worker)

    def before(self, environ):
        """Returns what `after` wants to have."""
        request = Request(environ)
        self.call_in_request("pre_request", self.worker, request)
        return request

    def after(self, request, environ, head):
        self.call_in_request("post_request", self.worker, request, environ, Response(head))

    def call_in_request(self, name, *arguments):
        """What ends the request passes: its timeout, or gevent's way to kill a greenlet."""
        function = self.functions.get(name)
        if function is not None:
            try:
                function(*arguments)
            except self.ended:
                raise
            except Exception as error:
                self.raised(name, error)


class Config:
    """All settings as attributes, and what else the configuration file defines."""

    def __init__(self, names, settings):
        own = {name: value for name, value in names.items() if not name.startswith("_")}
        settings.pop("origins")
        vars(self).update(own, **settings)
        self.address = [address(bind) for bind in self.bind]
        self.worker_class_str = self.worker_class
        self.env = dict(pair.split("=", 1) for pair in self.raw_env)
        self.is_ssl = self.certfile is not None


class Server:
    """What hooks know as `server`."""

    def __init__(self, cfg, log):
        self.cfg = cfg
        self.log = log
        self.pid = os.getppid()
        self.num_workers = cfg.workers
        self.address = cfg.address
        self.timeout = cfg.timeout
        self.proc_name = cfg.proc_name or cfg.wsgi_app


class Worker:
    """What hooks know as `worker`."""

    def __init__(self, age, server, count):
        #: The how-many-eth of its generation; 0 if it is of another one.
        self.age = age
        self.pid = None
        self.ppid = server.pid
        self.cfg = server.cfg
        self.log = server.log
        self.timeout = server.cfg.timeout
        self.max_requests = server.cfg.max_requests
        self.alive = True
        self.booted = False
        self.app = None
        self.wsgi = None
        self._count = count

    def notify(self):
        """Nothing: heartbeats are the server's own matter. Slow hooks of gunicorn's give them."""

    @property
    def nr(self):
        """How many requests it has begun."""
        return self._count()


class Application:
    """What hooks know as `worker.app`."""

    def __init__(self, function, cfg):
        self.callable = function
        self.cfg = cfg

    def wsgi(self):
        return self.callable


class Request:
    """What hooks know as `req`."""

    def __init__(self, environ):
        self.method = environ["REQUEST_METHOD"]
        self.path = environ["PATH_INFO"]
        self.query = environ["QUERY_STRING"]
        self.uri = environ.get("RAW_URI") or self.path + "?" * bool(self.query) + self.query
        self.scheme = environ["wsgi.url_scheme"]
        self.version = tuple(map(int, environ["SERVER_PROTOCOL"].removeprefix("HTTP/").split(".")))
        self.remote_addr = (environ.get("REMOTE_ADDR", ""), int(environ.get("REMOTE_PORT") or 0))
        self.peer_addr = self.remote_addr
        self.headers = [
            (name.removeprefix("HTTP_").replace("_", "-"), value)
            for name, value in environ.items()
            if name.startswith("HTTP_") or (name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value)
        ]


class Response:
    """What hooks know as `resp`: what the application gave to start_response."""

    def __init__(self, head):
        line, *fields = head.decode("latin-1").split("\r\n")
        #: 500, if it has failed before its response began.
        self.status = line.partition(" ")[2].strip() or "500 Internal Server Error"
        self.status_code = int(self.status[:3])
        self.headers = [tuple(field.split(": ", 1)) for field in fields if field]


def fitted(name, value, place):
    """The function, such that it can be called with everything."""
    function = imported(name, value, place) if isinstance(value, str) else value
    arguments = HOOKS[name]
    for count in range(len(arguments), LEAST.get(name, len(arguments)) - 1, -1):
        if accepts(function, count):
            return lambda *given: function(*given[:count])
    raise Refusal(
        2,
        f"{place}: {name} is called with ({', '.join(arguments)}), and this function takes "
        f"{inspect.signature(function)}",
        "",
    )


def imported(name, path, place):
    module, _, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    try:
        function = importlib.import_module(module)
        for part in attribute.split("."):
            function = getattr(function, part)
    except BaseException as error:
        text = f"{place}: {name}: cannot import '{path}': {type(error).__name__}: {error}"
        raise Refusal(2, text, "") from None
    if not callable(function):
        raise Refusal(2, f"{place}: {name}: '{path}' is no function", "")
    return function


def accepts(function, count):
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True  # Compiled code may not tell what it takes.
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def address(bind):
    """As sockets take it: a pair, or the text as it is."""
    host, _, port = bind.rpartition(":")
    return (host.strip("[]"), int(port)) if port.isdigit() else bind


def logger(handler):
    """A logger of its own, which no configuration of the application's can silence."""
    own = logging.Logger("serve")
    own.addHandler(handler)
    return own
