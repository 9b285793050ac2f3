"""gunicorn's configuration files work as they are."""

import os
from signal import SIGKILL

import pytest
from harness import ROOT

CONFIGS = ROOT / "tests" / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.py"))

APP = """
import os

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [os.environ.get(environ["PATH_INFO"][1:], "fine").encode()]
"""


def test_there_are_enough_of_them():
    assert len(NAMES) >= 30


@pytest.fixture
def configured(serve):
    """Makes servers that have one of the files as their gunicorn.conf.py."""

    def start(name, env=None, **arguments):
        env = {"PYTHONPATH": str(CONFIGS / "beside"), **(env or {})}
        server = serve(APP, workers=None, env=env, start=False, **arguments)
        server.write("gunicorn.conf.py", (CONFIGS / f"{name}.py").read_text())
        # The log is where the test can see it, whatever the file says.
        server.arguments[1:1] = ["--error-logfile", "-", "--log-level", "info"]
        server.launch().log.wait(r" serves main:app at .*config=gunicorn\.conf\.py")
        return server

    return start


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_gunicorn_takes_starts_and_serves(configured, name):
    spec = None if name == "names_the_application" else "main:app"
    server = configured(name, spec=spec)
    assert server.get("/")[:3:2] == (200, b"fine")
    assert server.stop() == 0
    assert server.log.count(r" error: ") == 0
    assert server.log.count(r"is not a setting") == 0


def test_what_a_file_computes_reaches_the_server(configured):
    server = configured("environment_loop", env={"GUNICORN_WORKERS": "3", "GUNICORN_TIMEOUT": "9"})
    server.log.wait(r"info: workers=3: gunicorn\.conf\.py$")
    server.log.wait(r"worker=\d+ .* ready in=", count=3)


def test_what_a_file_puts_into_the_environment_reaches_the_application(configured):
    server = configured("secrets_in_a_helper")
    assert server.get("/SECRET_KEY")[2] == b"a, b = c"


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("airflow", [r"worker\[(\d+)\] info: worker \1 serves"] * 4),
        ("database_pools", [r"worker\[(\d+)\] info: opened a pool in \1"] * 2),
        ("gevent_psycogreen", [r"info: psycopg is patched"]),
        ("telemetry", [r"worker\[(\d+)\] info: Worker spawned \(pid: \1\)"] * 2),
        (
            "error_reporting",
            [
                "info: starting",
                "info: ready, 2 workers",
                "info: 2 workers",
                "info: worker .* of age 2",
            ],
        ),
    ],
)
def test_what_the_hooks_of_a_file_say_is_in_the_log(configured, name, lines):
    server = configured(name)
    for line in lines:
        server.log.wait(line, count=lines.count(line))


def test_the_last_hook_of_a_file_is_called(configured):
    server = configured("error_reporting")
    assert server.stop() == 0
    assert server.log.count("info: bye") == 1


def test_prometheus_is_told_of_a_worker_that_has_died(configured):
    server = configured("prometheus")
    server.log.wait(r"worker=\d+ .* ready in=", count=2)
    assert (server.cwd / "metrics").is_dir()
    pid = server.worker_pids()[0]
    os.kill(pid, SIGKILL)
    assert server.out.wait(r"dead: (\d+)")[1] == str(pid)


def test_what_a_file_asks_for_in_vain_is_told(configured):
    server = configured("control_socket")
    assert server.log.count(r"warning: .*, line 10: enable_stdio_inheritance has no effect") == 1
    assert server.log.count(r"info: .*, line 5: control_socket_disable is not needed") == 1
    assert server.log.count(r"http_parser|http_protocols") == 0
