"""A first start that fails ends: one exit code, one sentence, no pidfile, no process."""

from collections import namedtuple

import pytest
from harness import embedded

# What is wrong, the exit code, how many tracebacks, and the sentence.
Failure = namedtuple("Failure", "source spec code tracebacks sentence")


def failure(source, code, tracebacks, sentence, spec="main:app"):
    return Failure(source, spec, code, tracebacks, sentence)


APP = """
    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"app"]
"""

#: Longer than a test waits: whoever does not end by itself fails it.
UNHURRIED = ["--boot-timeout", "600", "--graceful-timeout", "600"]

FAILURES = {
    "import raises": failure(
        'def load():\n    raise ValueError("no database")\n\nload()\n',
        3,
        1,
        r"importing 'main' raised ValueError",
    ),
    "import of a missing dependency": failure(
        "import serve_tests_have_no_such_module\n",
        3,
        1,
        r"importing 'main' raised ModuleNotFoundError",
    ),
    "syntax error": failure("def (\n", 3, 1, r"importing 'main' raised SyntaxError"),
    "sys.exit": failure(
        'import sys\n\nsys.exit("no")\n', 3, 1, r"importing 'main' raised SystemExit"
    ),
    "sys.exit(0)": failure(
        "import sys\n\nsys.exit(0)\n", 3, 1, r"importing 'main' raised SystemExit"
    ),
    "factory raises": failure(
        'def create_app():\n    raise ValueError("no database")\n',
        3,
        1,
        r"calling 'create_app\(\)' raised ValueError",
        "main:create_app()",
    ),
    "missing module": failure(APP, 3, 0, r"no module 'mian'.*did you mean 'main'", "mian:app"),
    "module named as a file": failure(APP, 3, 0, r"write main:app", "main.py:app"),
    "dot for a colon": failure(
        APP, 3, 0, r"no module 'main\.app'.*did you mean 'main:app'", "main.app"
    ),
    "missing attribute": failure(APP, 4, 0, r"no attribute 'ap'; did you mean 'app'\?", "main:ap"),
    "neither application nor app": failure(
        "def wsgi(environ, start_response):\n    pass\n",
        4,
        0,
        r"neither 'application' nor 'app'.*main:wsgi",
        "main",
    ),
    "not callable": failure("app = 3\n", 4, 0, r"'main:app' is an? int, not a WSGI application"),
    "factory returns nothing": failure(
        "def create_app():\n    pass\n", 4, 0, r"returned None", "main:create_app()"
    ),
    "ASGI": failure(
        "async def app(scope, receive, send):\n    pass\n", 4, 0, r"is an ASGI application"
    ),
    "ASGI, an object": failure(
        "class App:\n    async def __call__(self, scope, receive, send):\n        pass\n\n"
        "app = App()\n",
        4,
        0,
        r"is an ASGI application",
    ),
    "ASGI, without async": failure(
        "def app(scope, receive, send):\n    pass\n", 4, 0, r"is an ASGI application"
    ),
    "a factory that is not called": failure(
        "def create_app():\n    return print\n",
        4,
        0,
        r"'main:create_app' takes no arguments: it is a factory, .*write 'main:create_app\(\)'$",
        "main:create_app",
    ),
    "only a factory": failure(
        "def helper(a, b, c):\n    pass\n\ndef create_app(config=None):\n    return print\n",
        4,
        0,
        r"neither 'application' nor 'app'; it has create_app: .* as in 'main:create_app\(\)'$",
        "main",
    ),
    "not callable with an environ": failure(
        "def app(request):\n    pass\n", 4, 0, r"cannot be called with the two arguments environ"
    ),
    "os._exit": failure("import os\n\nos._exit(7)\n", 3, 0, r"exit code 7"),
    "a crash": failure(
        "import os, signal\n\nos.kill(os.getpid(), signal.SIGKILL)\n", 3, 0, r"SIGKILL"
    ),
}


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
@pytest.mark.parametrize("name", FAILURES)
def test_a_first_start_that_fails_says_why_and_leaves_nothing(serve, name, preload):
    source, spec, code, tracebacks, sentence = FAILURES[name]
    options = [*UNHURRIED, "--pid", "serve.pid", *(["--preload"] if preload else [])]
    server = serve(source, *options, spec=spec, workers=4, start=False)
    assert server.launch().wait() == code
    server.still_alone()
    assert not (server.cwd / "serve.pid").exists()
    # A SyntaxError has no frames, only a place.
    assert server.log.count(r"^(Traceback|SyntaxError: )") == tracebacks
    assert server.log.count(sentence) == 1
    assert "panicked" not in server.log.text()


def test_the_traceback_begins_in_the_application(serve):
    server = serve(FAILURES["import raises"].source, workers=4, start=False)
    server.launch().wait()
    frames = [line for line in server.log.lines if line.startswith("  File")]
    assert frames[0].startswith(f'  File "{server.cwd}/main.py", line 4'), server.log.text()


def test_the_traceback_follows_the_sentence(serve):
    server = serve(FAILURES["import raises"].source, workers=4, start=False)
    server.launch().wait()
    assert "importing 'main' raised ValueError" in server.log.lines[0]
    assert server.log.lines[1] == "Traceback (most recent call last):"
    assert "above" not in server.log.lines[0]


@pytest.mark.parametrize(
    ("preload", "who"),
    [
        (False, r"worker=1 .* died before it was ready"),
        (True, r"its mold died while it loaded the application"),
    ],
)
def test_a_crash_while_the_application_is_loaded_shows_where_it_was(serve, preload, who):
    source = "import ctypes\n\nctypes.string_at(0)\n"
    server = serve(source, *(["--preload"] if preload else []), workers=1, start=False)
    assert server.launch().wait() == 3
    server.log.wait(r"Fatal Python error: Segmentation fault")
    server.log.wait(rf'File "{server.cwd}/main.py", line 3 in <module>')
    server.log.wait(rf"cannot start: {who}: signal 11")


def test_a_config_file_that_ends_the_process_is_told_as_what_it_is(serve):
    server = serve(APP, "-c", "conf.py", workers=1, start=False)
    server.write("conf.py", "import os\n\nos._exit(7)\n")
    assert server.launch().wait() == 3
    server.log.wait(r"its mold died while it evaluated the configuration: exit code 7")


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_an_import_that_hangs_ends_at_the_boot_timeout(serve, preload):
    options = [*UNHURRIED, "--boot-timeout", "0.5s", *(["--preload"] if preload else [])]
    source = "import threading\n\nthreading.Event().wait()\n"
    server = serve(source, *options, workers=4, start=False)
    assert server.launch().wait() == 3
    assert server.log.count(r"cannot start: .*boot-timeout") == 1
    server.still_alone()


FACTORY = """
    def answering(text):
        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [text.encode()]
        return app

    app = answering("app")

    def create_app(name="made", n=0):
        return answering(f"{name} {n}")

    class House:
        room = answering("room")

    house = House
"""

FORMS = {
    "main:app": "app",
    "main": "app",
    "main:create_app()": "made 0",
    'main:create_app("x", n=1)': "x 1",
    "main:create_app(n=2)": "made 2",
    "main:house.room": "room",
}


@pytest.mark.parametrize("spec", FORMS)
def test_an_application_can_be_named_in_many_ways(serve, spec):
    server = serve(FACTORY, spec=spec)
    assert server.get()[2].decode() == FORMS[spec]


def test_a_module_alone_means_application_before_app(serve):
    source = FACTORY + '\n    application = answering("application")\n'
    server = serve(source, spec="main")
    assert server.get()[2] == b"application"


def test_a_module_of_a_package_can_be_named(serve):
    server = serve(None, spec="house.kitchen:app", start=False)
    server.write("house/__init__.py", "")
    server.write("house/kitchen.py", FACTORY)
    server.start()
    assert server.get()[2] == b"app"


# ---- the interpreter


def refused_python(serve, *options, env=None):
    """The one line with which a wrong Python is refused."""
    server = serve(APP, *options, start=False, env=env)
    assert server.launch().wait() == 2
    server.still_alone()
    assert len(server.log.lines) == 1, server.log.text()
    return server.log.lines[0]


@pytest.fixture
def old_venv(tmp_path):
    """What a virtual environment of Python 3.9 looks like."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch(mode=0o755)
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.9.18\n")
    return tmp_path


@embedded
def test_a_venv_of_another_version_is_refused(serve, old_venv):
    line = refused_python(serve, "--python", old_venv)
    assert f"--python: {old_venv} was made by Python 3.9" in line


@embedded
def test_an_active_venv_of_another_version_is_refused(serve, old_venv):
    line = refused_python(serve, env={"VIRTUAL_ENV": str(old_venv)})
    assert f"VIRTUAL_ENV: {old_venv} was made by Python 3.9" in line


@embedded
def test_a_python_that_is_not_there_is_refused(serve, tmp_path):
    line = refused_python(serve, "--python", tmp_path / "nowhere")
    assert f"there is no Python at {tmp_path}/nowhere" in line


@embedded
def test_a_python_that_a_variable_names_is_told_as_its_own(serve, tmp_path):
    env = {"SERVE_PYTHON": str(tmp_path / "nowhere")}
    server = serve(APP, env=env, workers=1, start=False)
    assert server.launch().wait() == 2
    server.log.wait(r"SERVE_PYTHON: there is no Python at .*/nowhere")


@embedded
def test_a_folder_that_is_no_venv_is_refused(serve, tmp_path):
    line = refused_python(serve, "--python", tmp_path)
    assert f"there is no Python at {tmp_path}" in line
