"""What somebody sees who has never used it: a mistake is answered by what to type next."""

import os
import pty
import re
import subprocess
import sys

import pytest
from harness import BINARY, PATIENCE, embedded, run

APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"fine"]
"""
FLASK = "import somewhere_else\n\n{name} = somewhere_else.Flask(__name__)\n"


def answer(place, *options, code, env=None):
    """The sentence that a command is answered with; the master may add whose it is."""
    found, out, err = run(*options, cwd=place, env=env)
    assert (found, out) == (code, ""), err
    lines = [line for line in err.splitlines() if re.search(r"(error|warning): ", line)]
    assert all("gen=1 cannot start: worker=1" in line for line in lines[1:]), err
    return lines[0]


# ---- serve, and nothing else


@pytest.mark.parametrize(
    "files, written",
    [
        ({"main.py": APP}, "`serve main:app` for the one in main.py"),
        ({"shop.py": FLASK.format(name="app")}, "`serve shop:app` for the one in shop.py"),
        (
            {"manage.py": "", "shop/wsgi.py": "application = get_wsgi_application()\n"},
            "`serve shop.wsgi:application` for the one in shop/wsgi.py",
        ),
        (
            {"wsgi.py": "def create_app():\n    pass\n", "aaa.py": "app = 1\n"},
            "`serve 'wsgi:create_app()'` for the one in wsgi.py",
        ),
        ({"__init__.py": "", "web.py": APP}, "`serve web:app` for the one in web.py"),
        ({"notes.txt": "app = 1\n"}, "`serve main:app`, where main.py has a WSGI application"),
        (
            {"blog/blog/wsgi.py": "application = 1\n", "blog/manage.py": ""},
            "`serve blog.wsgi:application --chdir blog` for the one in blog/blog/wsgi.py",
        ),
        (
            {"venv/app.py": APP, "venv/pyvenv.cfg": "", ".git/app.py": APP, "src/web.py": APP},
            "`serve web:app --chdir src` for the one in src/web.py",
        ),
    ],
)
def test_without_an_application_the_one_that_is_there_is_named(tmp_path, files, written):
    here = tmp_path / "here"
    for name, source in files.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(source)
    line = answer(here, "-b", "127.0.0.1:0", code=2)
    assert f"no application is named: write {written}" in line
    assert "`serve --help` shows more" in line


@pytest.mark.parametrize("files", [{}, {"main.py": APP}], ids=["empty", "one"])
def test_a_check_without_an_application_says_what_a_start_would(tmp_path, files):
    for name, source in files.items():
        (tmp_path / name).write_text(source)
    options = ("-b", "127.0.0.1:0")
    assert said(answer(tmp_path, "--check-config", *options, code=2)) == said(
        answer(tmp_path, *options, code=2)
    )


def said(line):
    """A line of the log without its time and its process."""
    return line.split("no application is named: ")[1]


def test_inside_a_package_the_folder_above_is_named(tmp_path):
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "wsgi.py").write_text("import shop.settings\n\napplication = 1\n")
    line = answer(package, "-b", "127.0.0.1:0", code=2)
    assert "write `serve shop.wsgi:application --chdir ..` for the one in ../shop/wsgi.py" in line


# ---- what other servers are told


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--host", "0.0.0.0"], "unknown option '--host'; write --bind HOST:PORT"),
        (["--port", "80"], "unknown option '--port'; write --bind HOST:PORT"),
        (["--debug"], "unknown option '--debug'; --reload reloads"),
        (["--worker", "4"], "unknown option '--worker'; did you mean '--workers'?"),
        (["-w", "abc"], "--workers: 'abc' is not a whole number from 1 to 500"),
    ],
)
def test_a_wrong_option_is_answered_by_the_right_one(place, arguments, advice):
    code, out, err = run("main:app", *arguments, cwd=place)
    assert (code, out) == (2, "")
    assert err.startswith(f"serve: {advice}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("spec", "written"),
    [
        ("main.py", "write main:app"),
        ("./main.py", "write main:app"),
        ("./main.py:web", "write main:web"),
        ("src/shop/main.py:app", "write main:app --chdir src/shop"),
        ("src/main", "write main:app --chdir src"),
    ],
)
def test_a_path_is_answered_by_the_module(place, spec, written):
    line = answer(place, "-w", "1", "-b", "127.0.0.1:0", spec, code=3)
    assert line.endswith(f", and a module is wanted: {written}")


@pytest.mark.parametrize("spec", ["main", "main:app"])
def test_a_module_without_an_application_says_so(tmp_path, spec):
    (tmp_path / "main.py").write_text("import os\n\nsizes = [1]\n")
    line = answer(tmp_path, "-w", "1", "-b", "127.0.0.1:0", spec, code=4)
    assert line.endswith("; no application is defined there: is 'main' the module that you mean?")


@pytest.mark.parametrize(("spec", "code"), [("shop", 4), ("wsgi", 3), ("wsgi:application", 3)])
def test_a_module_of_a_package_is_named_in_full(tmp_path, spec, code):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "wsgi.py").write_text(APP)
    line = answer(tmp_path, "-w", "1", "-b", "127.0.0.1:0", spec, code=code)
    assert line.endswith("; did you mean 'shop.wsgi'?")


# ---- Django

MANAGE = """
import os
import sys


def main():
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
"""
#: What Django's does: it imports the settings.
DJANGO = "import mysite.settings\n\n\ndef application(environ, start_response):\n    pass\n"


@pytest.fixture
def project(tmp_path):
    """The files that `django-admin startproject mysite` makes."""
    package = tmp_path / "mysite"
    package.mkdir()
    (tmp_path / "manage.py").write_text(MANAGE)
    (package / "__init__.py").write_text("")
    (package / "settings.py").write_text("")
    (package / "wsgi.py").write_text(DJANGO)
    return tmp_path


def follow(line, here):
    """Types what the last words of the line say."""
    command = line.rpartition(": write ")[2].split()
    assert run("--check-config", *command, cwd=here)[0] == 0, line


@pytest.mark.parametrize("regular", [True, False], ids=["package", "namespace"])
@pytest.mark.parametrize(
    ("below", "spec", "written"),
    [
        ("", "mysite/wsgi.py", "mysite.wsgi"),
        ("", "mysite/wsgi.py:application", "mysite.wsgi:application"),
        ("mysite", "wsgi.py", "mysite.wsgi --chdir .."),
        ("mysite", "../mysite/wsgi.py", "mysite.wsgi --chdir .."),
    ],
)
def test_the_file_of_a_package_is_answered_by_its_whole_name(
    project, below, spec, written, regular
):
    if not regular:
        (project / "mysite" / "__init__.py").unlink()
    here = project / below
    line = answer(here, "-w", "1", "-b", "127.0.0.1:0", spec, code=3)
    assert line.endswith(f", and a module is wanted: write {written}")
    follow(line, here)


def test_a_file_of_nested_packages_is_answered_by_its_whole_name(tmp_path):
    (tmp_path / "src" / "shop" / "web").mkdir(parents=True)
    for folder in ("shop", "shop/web"):
        (tmp_path / "src" / folder / "__init__.py").write_text("")
    (tmp_path / "src" / "shop" / "web" / "main.py").write_text(APP)
    line = answer(tmp_path, "-w", "1", "-b", "127.0.0.1:0", "src/shop/web/main.py", code=3)
    assert line.endswith("a module is wanted: write shop.web.main:app --chdir src")
    follow(line, tmp_path)


@pytest.mark.parametrize(
    ("spec", "code"),
    [("manage.py", 3), ("./manage.py:app", 3), ("manage", 4), ("manage:app", 4)]
    + [("manage:main", 4), ("manage:main()", 4)],
)
def test_djangos_manage_is_answered_by_the_application(project, spec, code):
    line = answer(project, "-w", "1", "-b", "127.0.0.1:0", spec, code=code)
    assert "manage.py is Django's command line, and its WSGI application is elsewhere" in line
    assert line.endswith(": write mysite.wsgi")
    follow(line, project)


def test_djangos_manage_in_a_folder_is_answered_by_the_application(project):
    line = answer(project.parent, "-b", "127.0.0.1:0", f"{project.name}/manage.py", code=3)
    assert line.endswith(f": write mysite.wsgi --chdir {project.name}")
    follow(line, project.parent)


def test_djangos_manage_alone_is_answered_by_the_usual_name(tmp_path):
    (tmp_path / "manage.py").write_text(MANAGE)
    line = answer(tmp_path, "-b", "127.0.0.1:0", "manage", code=4)
    assert line.endswith(": write PROJECT.wsgi, where PROJECT is the folder of Django's wsgi.py")


@pytest.mark.parametrize("spec", ["tool", "tool:main"])
def test_main_is_taken_for_no_factory(tmp_path, spec):
    (tmp_path / "tool.py").write_text("def main():\n    pass\n")
    line = answer(tmp_path, "-b", "127.0.0.1:0", spec, code=4)
    assert "main()" not in line


@pytest.mark.parametrize("spec", ["wsgi", "wsgi:application"])
def test_inside_djangos_package_the_folder_above_is_named(project, spec):
    here = project / "mysite"
    line = answer(here, "-w", "1", "-b", "127.0.0.1:0", spec, code=3)
    assert "No module named 'mysite'" in line
    assert line.endswith(f"; it is in ..: write mysite.{spec} --chdir ..")
    follow(line, here)


@pytest.mark.parametrize("settings", ["nosuch.settings", "mysite.nosuch"])
def test_settings_that_are_not_there_are_named(project, settings):
    source = 'import os\nfrom importlib import import_module\n\nimport_module(os.environ["{}"])\n'
    (project / "mysite" / "wsgi.py").write_text(source.format("DJANGO_SETTINGS_MODULE"))
    env = {"DJANGO_SETTINGS_MODULE": settings}
    line = answer(project, "-w", "1", "-b", "127.0.0.1:0", "mysite.wsgi", code=3, env=env)
    assert line.endswith(f"; DJANGO_SETTINGS_MODULE is '{settings}': is that right?")


# ---- what it is not allowed to do


@pytest.mark.parametrize("folder", ["none/serve.pid", "/proc/none/serve.pid"])
def test_a_pidfile_that_cannot_be_ends_the_start(tmp_path, folder):
    (tmp_path / "main.py").write_text(APP)
    line = answer(tmp_path, "-b", "127.0.0.1:0", "--pid", folder, "main:app", code=1)
    assert f"--pid: the pidfile {folder}: No such file or directory" in line


@embedded
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not")
def test_an_environment_that_this_user_may_not_read_is_told_apart(tmp_path):
    hidden = tmp_path / "hidden" / "bin"
    hidden.mkdir(parents=True)
    (hidden / "python").symlink_to(sys.executable)
    hidden.parent.chmod(0)
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--reuid=0"]
    os.chown(hidden.parent, 65534, 65534)
    command = [*drop, BINARY, "--python", str(hidden / "python"), "main:app"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert "--python: this user may not enter a folder on the way to" in done.stderr


# ---- the wrong folder


@pytest.mark.parametrize("inside", [False, True], ids=["below", "beside"])
def test_an_application_in_a_neighbouring_folder_is_found(tmp_path, inside):
    (tmp_path / "src").mkdir()
    (tmp_path / "empty").mkdir()
    where = tmp_path if inside else tmp_path / "src"
    (where / "main.py").write_text(APP)
    here, folder = (tmp_path / "empty", "..") if inside else (tmp_path, "src")
    line = answer(here, "-w", "1", "-b", "127.0.0.1:0", "main:app", code=3)
    assert f"no module 'main' in {here}" in line
    assert line.endswith(f"; it is in {folder}: add --chdir {folder}")
    assert run("--check-config", "--chdir", folder, "main:app", cwd=here)[0] == 0


def test_a_package_is_suggested_too(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text(APP)
    line = answer(tmp_path, "-w", "1", "-b", "127.0.0.1:0", "shpo:app", code=3)
    assert "did you mean 'shop'?" in line


# ---- the wrong environment

MISSING = "import serve_tests_have_no_such_module\n"


@pytest.fixture
def place(tmp_path):
    (tmp_path / "main.py").write_text(MISSING)
    return tmp_path


def test_an_environment_that_is_not_active_is_named(place):
    (place / ".venv").mkdir()
    (place / ".venv" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    line = answer(place, "-w", "1", "-b", "127.0.0.1:0", "main:app", code=3)
    assert "raised ModuleNotFoundError: No module named 'serve_tests_have" in line
    assert line.endswith(
        "; the virtual environment .venv is not active: run `. .venv/bin/activate` first, "
        "or add --python .venv"
    )


def test_an_active_environment_without_the_package_is_named(place):
    if sys.prefix == sys.base_prefix:
        pytest.skip("the tests run outside a virtual environment")
    env = {"VIRTUAL_ENV": sys.prefix}
    line = answer(place, "-w", "1", "-b", "127.0.0.1:0", "main:app", code=3, env=env)
    assert line.endswith(
        f"; install it into the virtual environment {sys.prefix}, "
        "or if it is yours, see --pythonpath and --chdir"
    )


def test_a_module_of_the_folder_above_is_found(tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "main.py").write_text("import common\n" + APP)
    (tmp_path / "common.py").write_text("")
    line = answer(tmp_path / "web", "-b", "127.0.0.1:0", "main:app", code=3)
    assert line.endswith("No module named 'common'; it is in ..: add --pythonpath ..")
    options = ["--check-config", "--pythonpath", ".."]
    assert run(*options, "main:app", cwd=tmp_path / "web")[0] == 0


def test_a_folder_that_is_called_as_a_missing_package_is_not_taken_for_it(tmp_path):
    folder = tmp_path / "serve_tests_have_no_such_module"
    folder.mkdir()
    (folder / "main.py").write_text(MISSING)
    line = answer(folder, "-w", "1", "-b", "127.0.0.1:0", "main:app", code=3)
    assert "it is in" not in line


@embedded
def test_without_an_environment_one_is_asked_for(place):
    env = {"VIRTUAL_ENV": ""}
    line = answer(place, "-w", "1", "-b", "127.0.0.1:0", "main:app", code=3, env=env)
    assert line.endswith(
        "; activate the application's virtual environment first, or name it with --python"
    )


def test_a_module_that_a_package_lacks_is_no_matter_of_environments(place):
    (place / "main.py").write_text("import json.nothing\n")
    line = answer(place, "-w", "1", "-b", "127.0.0.1:0", "main:app", code=3)
    assert line.endswith("No module named 'json.nothing'")


# ---- the start


def test_the_start_tells_what_serves_where_and_why(serve):
    server = serve(APP, workers=None, start=False)
    server.write("gunicorn.conf.py", "workers = 2\n")
    server.start(workers=2)
    port = server.address[1]
    server.log.wait(
        rf"serve \d+\.\d+\.\d+ serves main:app at http://127\.0\.0\.1:{port} "
        rf"\(workers=2 class=sync config=gunicorn\.conf\.py pid={server.pid}\)$"
    )
    server.log.wait(r"info: workers=2: gunicorn\.conf\.py, line 1$")
    assert "\x1b" not in server.log.text()


def read_until(terminal, text):
    """What a terminal shows, to the end of the line that has `text`."""
    shown = ""
    while not re.search(rf"{text}.*\n", shown):
        shown += os.read(terminal, 4096).decode()
    return shown


def test_in_a_terminal_lines_are_short_and_coloured(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    terminal, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    command = [BINARY, "-w", "1", "-b", "unix:s", "--spew", "main:app"]
    server = subprocess.Popen(
        command, cwd=tmp_path, env=env, stderr=theirs, stdout=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        shown = read_until(terminal, "serves main:app")
        server.terminate()
        assert server.wait(PATIENCE) == 0
    finally:
        server.kill()
        server.wait()
        os.close(terminal)
    assert re.search(
        r"^\x1b\[2m\d\d:\d\d:\d\d\x1b\[0m \x1b\[33mwarning: --spew", shown, re.MULTILINE
    )
    assert "\x1b[1;32munix:s\x1b[0m" in shown
    assert "master[" not in shown
