"""What `pip install` leaves behind. Runs against an installed wheel (`make test-pythons`)."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from harness import BINARY, CLASSES, ROOT, Server, is_script

pytestmark = pytest.mark.skipif(not is_script(BINARY), reason="no wheel is installed")

APP = """
    import serve, sys

    def app(environ, start_response):
        start_response("200 OK", [])
        same = environ["serve.RequestTimeout"] is serve.RequestTimeout
        return [f"{serve.__version__} {same} {sys.executable}".encode()]
"""


EXAMPLES = {
    "flask_distance": ("main:app", "/distance?base=seoul&target=tokyo", b'"km":'),
    "django_site": ("main:application", "/", b"Hello from Django"),
}


@pytest.mark.parametrize("klass", CLASSES)
@pytest.mark.parametrize("example", EXAMPLES)
def test_flask_and_django_say_hello(example, klass):
    spec, path, expected = EXAMPLES[example]
    folder = ROOT / "examples" / example
    with Server(None, *CLASSES[klass], cwd=folder, spec=spec, workers=2) as server:
        for _ in range(3):
            status, _, body = server.get(path)
            assert (status, expected in body) == (200, True), body
        assert server.log.count("no gevent|falls back|warning:") == 0
        assert server.stop() == 0


def test_the_application_finds_the_package():
    with Server(APP) as server:
        told = server.get()[2].decode()
    assert told == f"{metadata.version('serve')} True {sys.executable}"


def test_python_m_serve_is_the_command():
    server = Server(APP)
    server.arguments[:1] = [sys.executable, "-m", "serve"]
    with server:
        assert server.get()[0] == 200
        assert server.stop() == 0


def test_the_package_offers_what_it_says():
    program = "import serve; print(*serve.__all__, serve.__version__); serve.nothing"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == f"RequestTimeout __version__ {metadata.version('serve')}\n"
    assert "AttributeError: module 'serve' has no attribute 'nothing'" in run.stderr


def test_only_what_is_imported_is_installed():
    names = {Path(file).name for file in metadata.files("serve") if "serve/" in str(file)}
    ours = {name for name in names if not name.startswith("_serve.cpython") and "pyc" not in name}
    assert ours == {"__init__.py", "__init__.pyi", "__main__.py", "_serve.pyi", "py.typed"}


def test_a_type_checker_knows_what_the_package_offers(tmp_path):
    (tmp_path / "right.py").write_text(
        "import serve\n"
        "def end(error: serve.RequestTimeout) -> str:\n"
        "    return serve.__version__ + str(error.args)\n"
    )
    (tmp_path / "wrong.py").write_text("import serve\nserve.nothing\nserve._serve\n")

    def check(file):
        command = [sys.executable, "-m", "mypy", "--strict", file]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).stdout

    assert "Success" in check("right.py")
    assert 'wrong.py:2: error: Module has no attribute "nothing"' in (wrong := check("wrong.py"))
    assert 'wrong.py:3: error: Module has no attribute "_serve"' in wrong


def test_another_environments_python_cannot_be_named(tmp_path):
    other = subprocess.run(
        [BINARY, "--python", tmp_path, "main:app"], capture_output=True, text=True, cwd=tmp_path
    )
    assert other.returncode == 2
    assert "this serve runs in the Python that it is installed in" in other.stderr


def test_an_active_environment_that_is_not_its_own_is_told_of(tmp_path):
    with Server(APP, env={"VIRTUAL_ENV": str(tmp_path)}) as server:
        line = server.log.wait(r"the active virtual environment is").string
    assert str(tmp_path) in line and "install serve into the active one" in line
