"""gunicorn's logconfig settings: Python's logging is set up before the application is there."""

import json
import os
import re
from signal import SIGHUP, SIGKILL, SIGUSR1

import pytest
from harness import run, wait_until

APP = """
    import logging

    at_import = logging.getLogger("shop.import")
    at_import.info("imported")

    def app(environ, start_response):
        name, _, level = environ["PATH_INFO"][1:].partition("/")
        logging.getLogger(name).log(getattr(logging, level), "asked by %s", environ["REMOTE_ADDR"])
        start_response("200 OK", [])
        return [b"ok"]
"""

#: As of many projects: everything as JSON on stdout.
JSON = """
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "()": "pythonjsonlogger.jsonlogger.JsonFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s %(process)d %(message)s",
        }
    },
    "handlers": {
        "stdout": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stdout",
            "formatter": "json",
        }
    },
    "root": {"level": "INFO", "handlers": ["stdout"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["stdout"], "propagate": False},
        "gunicorn.access": {"level": "INFO", "handlers": ["stdout"], "propagate": False},
    },
}
"""

#: A formatter and a filter of the file's own, and objects in place of their names.
OWN = """
import logging
import sys

class Tagged(logging.Formatter):
    def format(self, record):
        return "shop|" + super().format(record)

class NoProbes(logging.Filter):
    def filter(self, record):
        return "probe" not in record.name

class Make:
    def __call__(self):
        return NoProbes()

logconfig_dict = dict(
    version=1,
    formatters={"tagged": {"()": Tagged, "format": "%(name)s %(message)s"}},
    filters={"no probes": {"()": Make()}},
    handlers={
        "out": {
            "class": "logging.StreamHandler",
            "stream": sys.stdout,
            "formatter": "tagged",
            "filters": ["no probes"],
        }
    },
    root={"level": "DEBUG", "handlers": ["out"]},
)
"""

#: A file for fileConfig, as older deployments have it.
INI = """
[loggers]
keys=root, shop, gunicorn.error

[handlers]
keys=out

[formatters]
keys=plain

[logger_root]
level=WARNING
handlers=out

[logger_shop]
level=INFO
handlers=out
propagate=0
qualname=shop.import

[logger_gunicorn.error]
level=INFO
handlers=out
propagate=0
qualname=gunicorn.error

[handler_out]
class=StreamHandler
formatter=plain
args=(sys.stdout,)

[formatter_plain]
format=%(levelname)s %(name)s %(message)s
"""

#: Only a rotating file, and levels of single loggers.
FILES = {
    "version": 1,
    "formatters": {"plain": {"format": "%(name)s %(message)s"}},
    "handlers": {
        "console": {"class": "logging.NullHandler"},
        "file": {
            "class": "logging.handlers.RotatingFileHandler",
            "filename": "shop.log",
            "maxBytes": 10000000,
            "formatter": "plain",
        },
    },
    "loggers": {"shop": {"level": "INFO", "handlers": ["file"]}, "shop.quiet": {"level": "ERROR"}},
}


@pytest.fixture
def configured(serve):
    """Makes servers that have a config file."""

    def start(config, *options, name="gunicorn.conf.py", files=None, **arguments):
        server = serve(APP, *options, start=False, **arguments)
        server.write(name, config)
        for path, text in (files or {}).items():
            server.write(path, text)
        return server.start()

    return start


@pytest.mark.parametrize("options", [(), ("--preload",), ("-k", "threads"), ("-k", "gevent")])
def test_the_application_s_lines_are_as_the_file_says(configured, options):
    server = configured(JSON, *options)
    first = json.loads(server.out.wait("imported").string)
    assert (first["levelname"], first["name"]) == ("INFO", "shop.import")
    assert server.get("/shop/INFO")[0] == 200
    line = json.loads(server.out.wait("asked by").string)
    assert line["message"] == "asked by 127.0.0.1"
    assert line["process"] == server.worker_pids()[0]
    server.get("/gunicorn.error/WARNING")
    assert json.loads(server.out.wait('"gunicorn.error"').string)["levelname"] == "WARNING"


def test_one_line_says_that_the_server_s_own_lines_are_not_there(configured):
    server = configured(JSON, workers=2)
    told = (
        r"warning: gunicorn\.conf\.py, line 2: logconfig_dict sets up gunicorn\.error and "
        r"gunicorn\.access, .*--log-format json and --access-logformat json make them JSON, "
        r"--access-logfile - logs requests$"
    )
    server.log.wait(told)
    server.signal(SIGHUP)
    server.log.wait(r"gen=1 left")
    assert server.log.count(r"logconfig_dict") == 1
    assert not any("serves main:app" in line for line in server.out.lines)


def test_a_file_may_use_classes_and_objects_of_its_own(configured):
    server = configured(OWN)
    server.get("/probe/INFO")
    server.get("/shop/DEBUG")
    server.out.wait(r"^shop\|shop asked by 127\.0\.0\.1$")
    assert server.out.lines == ["shop|shop.import imported", "shop|shop asked by 127.0.0.1"]
    assert server.log.count("logconfig") == 0
    server.signal(SIGHUP)
    server.log.wait(r"gen=1 left")
    assert server.log.count("logconfig") == 0, "objects at another address are no change"


def test_an_ini_file_is_read(configured):
    server = configured("logconfig = 'logging.ini'\n", files={"logging.ini": INI})
    server.get("/else/INFO")
    server.get("/else/WARNING")
    server.out.wait("WARNING else asked")
    assert server.out.lines == ["INFO shop.import imported", "WARNING else asked by 127.0.0.1"]
    server.log.wait(r"line 1: logconfig sets up gunicorn\.error, ")


@pytest.mark.parametrize("how", ["flag", "file", "toml", "variable"])
def test_a_table_is_read_from_wherever_it_is(configured, how):
    text = json.dumps(FILES)
    files = {"logging.json": text}
    if how == "flag":
        server = configured("", "--log-config-json", "logging.json", files=files)
    elif how == "file":
        server = configured("logconfig_json = 'logging.json'\n", files=files)
    elif how == "variable":
        server = configured("", env={"SERVE_LOGCONFIG_DICT": text})
    else:
        server = configured(f'{{"logconfig_dict": {text}}}', name="serve.json")
    for name in ("shop", "shop.quiet", "else"):
        server.get(f"/{name}/WARNING")
    lines = (server.cwd / "shop.log").read_text().splitlines()
    assert lines == ["shop.import imported", "shop asked by 127.0.0.1"]
    assert server.out.lines == []


def test_what_a_table_leaves_out_is_as_in_gunicorn(configured):
    server = configured("logconfig_dict = {'loggers': {'shop': {'level': 'ERROR'}}}")
    server.get("/shop/WARNING")
    server.get("/else/DEBUG")
    server.get("/else/INFO")
    [worker] = server.worker_pids()
    server.out.wait(rf"^\[[-\d]+ [:\d]+ \+\d+\] \[{worker}\] \[INFO\] asked by 127\.0\.0\.1$")
    assert len(server.out.lines) == 1


def test_without_a_setting_the_application_s_logging_is_its_own(configured):
    server = configured("")
    server.get("/shop/WARNING")
    server.log.wait("^asked by 127")
    assert server.log.count("imported") == 0
    assert server.out.lines == []


@pytest.mark.parametrize("config", ["", OWN], ids=["", "logconfig_dict"])
def test_what_is_logged_to_gunicorn_s_logger_is_in_the_server_s_log(configured, config):
    server = configured(config)
    server.get("/gunicorn.error/INFO")
    server.log.wait(r"worker\[\d+\] info: asked by 127\.0\.0\.1$")
    server.get("/gunicorn.error/DEBUG")
    server.get("/gunicorn.error/ERROR")
    server.log.wait(r"worker\[\d+\] error: asked by")
    assert server.log.count("asked by") == 2
    assert not any("asked" in line for line in server.out.lines)


def test_an_application_may_take_gunicorn_s_handlers_for_its_own(serve):
    """As a well-known page on Flask and gunicorn advises."""
    server = serve(
        """
        import logging

        from flask import Flask

        app = Flask(__name__)
        given = logging.getLogger("gunicorn.error")
        app.logger.handlers = given.handlers
        app.logger.setLevel(given.level)

        @app.get("/")
        def index():
            app.logger.debug("too little")
            app.logger.info("hello from %s", app.name)
            return "ok"
        """
    )
    assert server.get("/")[0] == 200
    server.log.wait(r"worker\[\d+\] info: hello from main$")
    assert server.log.count("too little") == 0


def test_logging_is_ready_for_whoever_imports_it_late(serve):
    """The server does not import it by itself: half of a start would be for that."""
    server = serve(
        """
        import importlib.util, sys

        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            if environ["PATH_INFO"] == "/modules":
                return [" ".join(sys.modules).encode()]
            assert importlib.util.find_spec("logging").origin.endswith("__init__.py")
            import logging
            import inspect

            plain = sys.modules["inspect"].__loader__
            assert type(logging.__loader__) is type(logging.__spec__.loader) is type(plain)
            assert "class Logger" in inspect.getsource(logging)
            handlers = logging.getLogger("gunicorn.error").handlers
            logging.getLogger("gunicorn.error").warning("late")
            return [str(len(handlers)).encode()]
        """
    )
    modules = server.get("/modules")[2].decode().split()
    # Of re and enum, the script that pip makes of a wheel imports both.
    assert not {"logging", "signal", "threading", "traceback"} & set(modules)
    server.signal(SIGUSR1)
    assert [server.get("/")[2], server.get("/")[2]] == [b"1", b"1"]
    server.log.wait("warning: late$", count=2)


BROKEN = {
    "a formatter that is not there": (
        JSON.replace("pythonjsonlogger.jsonlogger", "nowhere"),
        r"line 2: logconfig_dict: .*formatter 'json': .*No module named 'nowhere'",
    ),
    "a file that is not there": (
        "\nlogconfig = 'none.ini'\n",
        r"line 2: logconfig: cannot read none\.ini: No such file or directory",
    ),
    "no JSON": (
        "logconfig_json = 'broken.json'\n",
        r"line 1: logconfig_json: broken\.json: Expecting value: line 1 column 6",
    ),
    "no table": ("logconfig_dict = [1]\n", r"line 1: logconfig_dict: \[1\] is not a table"),
    "no section": ("logconfig = 'empty.ini'\n", r"line 1: logconfig: '?formatters'? is"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_wrong_with_it_ends_the_start(tmp_path, broken):
    config, sentence = BROKEN[broken]
    (tmp_path / "main.py").write_text("app = print\n")
    (tmp_path / "gunicorn.conf.py").write_text(config)
    (tmp_path / "broken.json").write_text('{"a":')
    (tmp_path / "empty.ini").write_text("[x]\n")
    for options in (["-b", "127.0.0.1:0"], ["--check-config"]):
        code, _, err = run(*options, "main:app", cwd=tmp_path)
        assert code == 2
        assert re.search(r"gunicorn\.conf\.py, " + sentence, err), err
        assert "Traceback" not in err


def test_a_reload_to_a_broken_one_is_called_off(configured):
    server = configured(OWN)
    server.write("gunicorn.conf.py", BROKEN["a file that is not there"][0])
    server.signal(SIGHUP)
    server.log.wait(r"gen=2 abandoned: .*logconfig: cannot read none\.ini.*; gen=1 keeps serving")
    assert server.get("/shop/INFO")[0] == 200


FILE = """
logconfig_dict = {
    "version": 1,
    "handlers": {
        "file": {"class": "logging.FileHandler", "filename": "shop.log"},
        "late": {"class": "logging.FileHandler", "filename": "late.log", "delay": True},
    },
    "root": {"level": "INFO", "handlers": ["file"]},
    "loggers": {"never": {"handlers": ["late"]}},
}
"""


@pytest.mark.every_class("sync", "threads", "async")
def test_usr1_has_its_files_opened_anew(serve):
    """In the workers that are there, and in those that come later."""
    server = serve(APP, "-c", "conf.py", start=False)
    server.write("conf.py", FILE)
    server.start()
    log, old = server.cwd / "shop.log", server.cwd / "shop.log.1"

    def is_logged():
        server.get("/shop/WARNING")
        return log.exists() and "asked by" in log.read_text()

    assert is_logged()
    log.rename(old)
    server.signal(SIGUSR1)
    wait_until(is_logged, "the worker to open the new file")
    before = old.read_text()
    (worker,) = server.worker_pids()
    os.kill(worker, SIGKILL)
    server.log.wait("ready in=", count=2)
    count = log.read_text().count("asked by")
    server.get("/shop/WARNING")
    assert log.read_text().count("asked by") == count + 1
    assert old.read_text() == before
    assert not (server.cwd / "late.log").exists()


def test_a_file_that_cannot_be_opened_anew_is_kept(serve):
    server = serve(APP, "-c", "conf.py", start=False)
    server.write("conf.py", FILE)
    server.start()
    (server.cwd / "shop.log").rename(server.cwd / "shop.log.1")
    (server.cwd / "shop.log").mkdir()
    server.signal(SIGUSR1)
    kept = r"Python's logging: cannot open \S+/shop.log: Is a directory; the old file is kept"
    server.log.wait(rf"worker\[\d+\] error: {kept}")
    server.log.wait(rf"mold\[\d+\] error: {kept}")
    server.get("/shop/WARNING")
    assert "asked by" in (server.cwd / "shop.log.1").read_text()
