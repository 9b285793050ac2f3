"""What the pages tell a reader to type is accepted, and what they link to is there."""

import ast
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import ROOT, run

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name(page):
    return str(page.relative_to(ROOT))


def blocks(*languages):
    """(page, number, text) of every block in one of the languages, for parametrize."""
    found = []
    for page in PAGES:
        for number, (language, text) in enumerate(BLOCK.findall(page.read_text()), 1):
            if language in languages:
                found.append(pytest.param(text, id=f"{name(page)}-{number}"))
    return found


def lines(program):
    """The lines of all shell blocks that start a program, for parametrize."""
    found = {}
    for block in blocks("sh"):
        (text,) = block.values
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0].rpartition("/")[2] == program:
                found.setdefault(shlex.join(words[1:]), block.id)
    return [pytest.param(shlex.split(line), id=f"{id}: {line}") for line, id in found.items()]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """The folder in which the commands for certificates were run."""
    folder = tmp_path_factory.mktemp("certificate")
    for command in lines("openssl"):
        (arguments,) = command.values
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def project(tmp_path, certificate):
    """A folder with the applications that the pages speak of."""
    app = "def app(environ, start_response): ...\napplication = app\n"
    (tmp_path / "main.py").write_text(app)
    shutil.copytree(certificate, tmp_path, dirs_exist_ok=True)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "wsgi.py").write_text(app)
    (tmp_path / "shop" / "deploy.py").write_text("def open_pools(server, worker): ...\n")
    return tmp_path


def accepted(*arguments, cwd):
    code, out, err = run(*arguments, cwd=cwd)
    assert code == 0, err
    assert "warning" not in err, err
    return out


#: What ends by itself; anything else would serve.
SHOWS = {"--version", "--help", "--print-config", "--check-config"}


@pytest.mark.parametrize("arguments", lines("serve"))
def test_a_command_is_accepted(arguments, project):
    if "--user" in arguments:
        # To become another user, and to write where only root may, one has to be root.
        at = arguments.index("--user")
        arguments = [*arguments[:at], *arguments[at + 2 :]]
    arguments = [re.sub(r"^/(var|run)/", "./", argument) for argument in arguments]
    # Nor is there a syslog daemon everywhere; a datagram needs none.
    arguments = [arg.replace("unix:///dev/log", "udp://127.0.0.1") for arg in arguments]
    (project / "log").mkdir()
    check = [] if SHOWS & set(arguments) else ["--check-config"]
    accepted(*arguments, *check, cwd=project)


def test_a_command_that_is_wrong_would_be_found(project):
    assert run("main:app", "--wrokers", "4", "--check-config", cwd=project)[0] == 2
    assert len(lines("serve")) > 25


@pytest.mark.parametrize("arguments", lines("make"))
def test_make_has_such_a_target(arguments):
    makefile = (ROOT / "Makefile").read_text()
    for target in arguments:
        if "=" not in target:
            assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def is_configuration(text):
    """Whether all that a piece of Python does is to set variables and define hooks."""
    settings = (ast.Assign, ast.FunctionDef, ast.Import)
    body = ast.parse(text).body
    return all(isinstance(part, settings) for part in body) and any(
        isinstance(part, ast.Assign) and part.targets[0].id in ("bind", "workers") for part in body
    )


@pytest.mark.parametrize("text", blocks("python"))
def test_python_is_python(text, project):
    compile(text, "block", "exec")
    if is_configuration(text):
        (project / "serve.conf.py").write_text(text.replace("unix:/run/", "unix:./"))
        accepted("main:app", "--check-config", cwd=project)


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml_is_a_configuration(text, project):
    (project / "serve.toml").write_text(text.replace("unix:/run/", "unix:./"))
    accepted("shop.wsgi:application", "--check-config", cwd=project)


#: Of pip, podman and the tests' own commands.
NOT_OURS = {"--format", "--no-index", "--ulimit", "--cpus", "--memory", "--enable-shared"}


def flags():
    """Every flag that a page names in the text."""
    found = {}
    for page in PAGES:
        for flag in re.findall(r"`(?:serve )?(--[a-z][a-z0-9-]+)", page.read_text()):
            found.setdefault(flag, name(page))
    return found


def test_every_flag_exists(project):
    reference = (ROOT / "docs" / "reference" / "settings.md").read_text()
    help = accepted("--help", cwd=project)
    known = {*re.findall(r"--[a-z][a-z0-9-]+", reference + help), *NOT_OURS}
    unknown = {flag: page for flag, page in flags().items() if flag not in known}
    assert not unknown


def anchors(page):
    """What a link may name in a page: its headings, as GitHub and MkDocs spell them."""
    text = BLOCK.sub("", page.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    spelt = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return {*spelt, *re.findall(r'<a (?:id|name)="([^"]+)"', text)}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_a_heading_that_exists(page):
    text = BLOCK.sub("", page.read_text())
    for file, anchor in re.findall(r"\]\(([^)#:\s]*)#([^)]+)\)", text):
        target = (page.parent / file).resolve() if file else page
        assert anchor in anchors(target), f"{file}#{anchor}"


def test_the_site_has_every_page():
    listed = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    there = {str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")}
    assert set(listed) == there
    assert len(listed) == len(there), "one of them twice"
    assert Path(ROOT / "docs" / listed[0]).name == "quickstart.md"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_is_said_to_hold_a_promise_is_there(page):
    text = BLOCK.sub("", page.read_text())
    for file, test in re.findall(r"`((?:tests|crates)/[\w/.-]+)(?:::(\w+))?`", text):
        assert (ROOT / file).exists(), file
        if test:
            assert re.search(rf"\b(def|fn) {test}\b", (ROOT / file).read_text()), f"{file}::{test}"
