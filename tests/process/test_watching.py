"""`--reload`: what is saved is served, and what is broken is shown."""

import os
from signal import SIGKILL

import pytest
from harness import wait_until

APP = """
import helper

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/lazy":
        import package.lazy
        return [package.lazy.VALUE]
    return [helper.VALUE]
"""


@pytest.fixture
def watched(serve):
    server = serve(APP, "--reload", start=False)
    server.write("helper.py", "VALUE = b'one'\n")
    server.write("package/__init__.py", "")
    server.write("package/lazy.py", "VALUE = b'early'\n")
    server.start()
    server.log.wait(r"serves main:app")
    return server


def saved(server, name, source, generation):
    """Writes a file and waits until its generation serves alone."""
    server.write(name, source)
    server.log.wait(rf"{name} has changed")
    server.log.wait(rf"gen={generation} serves")
    wait_until(lambda: not server.workers_of(generation - 1), "the old workers to leave")


def test_a_save_is_served(watched):
    watched.log.wait(r"watching \*\.py in .* and below, 2 folders")
    assert watched.get()[2] == b"one"
    saved(watched, "helper.py", "VALUE = b'two'\n", 2)
    assert watched.get()[2] == b"two"
    saved(watched, "helper.py", "VALUE = b'three'\n", 3)
    assert watched.get()[2] == b"three"


def test_of_several_workers_one_watches_and_a_save_is_one_reload(serve):
    server = serve(APP, "--reload", "--log-level", "debug", start=False, workers=3)
    server.write("helper.py", "VALUE = b'one'\n")
    server.start()
    saved(server, "helper.py", "VALUE = b'two'\n", 2)
    server.log.wait(r"gen=1 left", count=3)
    assert server.log.count("helper.py has changed") == 1
    assert server.log.count(r"info: watching \*\.py") == 2, "one for each generation"
    # When the one that watches dies, another does.
    watching = int(server.log.wait(r"worker\[(\d+)\] info: watching", count=2)[1])
    since = len(server.log.lines)
    os.kill(watching, SIGKILL)
    heir = int(server.log.wait(r"worker\[(\d+)\] \w+: watching", since=since)[1])
    assert heir in server.workers_of(2)
    saved(server, "helper.py", "VALUE = b'three'\n", 3)
    assert server.get()[2] == b"three"
    assert server.log.count("helper.py has changed") == 2


def test_a_file_that_is_written_in_place_counts(watched):
    (watched.cwd / "helper.py").write_text("VALUE = b'two'\n")
    watched.log.wait(r"gen=1 left")
    assert watched.get()[2] == b"two"


def test_a_module_that_is_loaded_late_counts(watched):
    assert watched.get("/lazy")[2] == b"early"
    saved(watched, "package/lazy.py", "VALUE = b'late'\n", 2)
    assert watched.get("/lazy")[2] == b"late"


def test_a_broken_save_is_shown_and_the_server_stays(watched):
    watched.write("helper.py", "VALUE = (\n")
    watched.log.wait(r"SyntaxError: '\(' was never closed")
    watched.log.wait(r"gen=2 abandoned.*gen=1 keeps serving")
    assert watched.get()[2] == b"one"
    watched.write("helper.py", "VALUE = b'repaired'\n")
    watched.log.wait(r"gen=1 left")
    assert watched.get()[2] == b"repaired"


def test_a_new_folder_is_watched(watched):
    (watched.cwd / "made").mkdir()
    saved(watched, "made/module.py", "", 2)


@pytest.mark.parametrize("name", [".hidden", "node_modules", "env"])
def test_what_is_not_the_application_is_not_watched(serve, name):
    server = serve(APP, "--reload", start=False)
    server.write("helper.py", "VALUE = b'one'\n")
    server.write(f"{name}/module.py", "")
    if name == "env":
        server.write("env/pyvenv.cfg", "home = /usr/bin\n")
    server.start()
    server.log.wait(r"serves main:app")
    server.write(f"{name}/module.py", "1")
    server.write("notes.txt", "1")
    # Events come in order: were they watched, these would have been told first.
    saved(server, "helper.py", "VALUE = b'two'\n", 2)
    assert server.log.count(r"has changed") == 1


def test_extra_files_count(serve):
    server = serve(APP, "--reload", "--reload-extra-file", "pages/**/*.html", start=False)
    server.write("helper.py", "VALUE = open('pages/a/index.html', 'rb').read().strip()\n")
    server.write("pages/a/index.html", "one\n")
    server.start()
    server.log.wait(r"serves main:app")
    saved(server, "pages/a/index.html", "two\n", 2)
    assert server.get()[2] == b"two"


def test_one_worker_is_enough_unless_more_are_asked_for(serve):
    server = serve(APP, "--reload", workers=None, start=False)
    server.write("helper.py", "VALUE = b'one'\n")
    server.start(workers=1)
    server.log.wait(r"gen=1 workers=1: --reload$")
    server.log.wait(r"serves main:app .*workers=1 ")


def test_without_it_nothing_is_watched(serve):
    server = serve("def app(environ, start_response):\n    pass\n", "--no-reload")
    server.log.wait(r"serves main:app")
    assert server.log.count(r"watching") == 0
