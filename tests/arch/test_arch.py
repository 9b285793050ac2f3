"""The walls of the house: who may know whom, read from `cargo metadata` and from the tree itself.

The compiler holds most walls, since a crate cannot use what its manifest does not name. This
holds the manifests, and the few rules that no compiler knows. It builds nothing.
"""

import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CRATES = sorted(path.parent for path in ROOT.glob("crates/*/Cargo.toml"))

# A new crate needs a line here, and a sentence "it must not know ..." in docs/design.md.
MAY_KNOW = {
    "serve-http": set(),
    "serve-config": set(),
    "serve-supervisor": set(),
    "serve-net": {"serve-http"},
    "serve-python": {"serve-http", "serve-net"},
    "serve": {"serve-http", "serve-config", "serve-supervisor", "serve-net", "serve-python"},
    "serve-wheel": {"serve"},
}
LONGEST_FILE = 500  # lines, tests not counted


@cache
def metadata():
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--format-version=1"]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout)


def ours():
    return {p["name"]: p for p in metadata()["packages"] if p["source"] is None}


def dependencies(package, kinds=("normal", "build", "dev")):
    """What the manifest of `package` names."""
    entries = ours()[package]["dependencies"]
    return {entry["name"] for entry in entries if (entry["kind"] or "normal") in kinds}


def reachable(package):
    """Every package that is linked with `package`, however indirectly."""
    names = {p["id"]: p["name"] for p in metadata()["packages"]}
    nodes = {node["id"]: node["deps"] for node in metadata()["resolve"]["nodes"]}
    found, todo = set(), [ours()[package]["id"]]
    while todo:
        for dependency in nodes[todo.pop()]:
            linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if linked and dependency["pkg"] not in found:
                found.add(dependency["pkg"])
                todo.append(dependency["pkg"])
    return {names[id] for id in found}


@cache
def tracked():
    """Every file that is in git, or would be after `git add .`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for path in (ROOT / line for line in run.stdout.splitlines()) if path.is_file()]


def test_every_crate_has_its_walls():
    assert set(ours()) == set(MAY_KNOW)


@pytest.mark.parametrize("package", MAY_KNOW)
def test_a_crate_knows_only_those_below_it(package):
    assert dependencies(package) & set(MAY_KNOW) <= MAY_KNOW[package]


def test_http_needs_next_to_nothing():
    assert dependencies("serve-http", kinds=("normal", "build")) <= {"memchr", "itoa"}


@pytest.mark.parametrize("package", ["serve-http", "serve-config"])
def test_a_pure_crate_links_no_event_loop(package):
    assert not reachable(package) & {"mio", "nix", "socket2", "signal-hook"}


def test_only_python_sees_python():
    """The root may, to link libpython and set the run path; the rest is serve-python's."""
    seen_by = {p for p in ours() if any(d.startswith("pyo3") for d in dependencies(p))}
    assert seen_by <= {"serve-python", "serve", "serve-wheel"}
    for package in set(MAY_KNOW) - {"serve-python", "serve", "serve-wheel"}:
        assert not reachable(package) & {"pyo3", "pyo3-ffi"}


def test_no_second_event_loop():
    assert not {p["name"] for p in metadata()["packages"]} & {"tokio", "async-std", "smol"}


@pytest.mark.parametrize("crate", CRATES, ids=lambda path: path.name)
def test_every_ban_has_a_reason(crate):
    file = crate / "clippy.toml"
    assert file.exists(), "a crate without bans: say what it may not know"
    bans = file.read_text()
    paths, reasons = bans.count("path = "), bans.count('reason = "')
    assert paths == reasons > 0, f"{paths} bans, {reasons} reasons"


def test_unsafe_stays_where_it_is_needed():
    """In python and net a call into CPython or the kernel may need it; in the master, one file."""
    allowed = re.compile(r"crates/(python|net)/|crates/supervisor/src/sys\.rs")
    block = re.compile(r"^[^/\n]*\bunsafe (\{|fn|impl|extern)", re.MULTILINE)
    for path in rust_sources():
        name = path.relative_to(ROOT).as_posix()
        assert allowed.match(name) or not block.search(path.read_text()), name


def rust_sources():
    return [*ROOT.glob("crates/*/src/**/*.rs"), *ROOT.glob("src/**/*.rs")]


def lines_without_tests(path):
    """Lines before the module of tests, which is the last thing in a file."""
    code = re.split(
        r"^#\[cfg\(test\)\]\n(?:#.*\n)*mod \w+ \{", path.read_text(), flags=re.MULTILINE
    )
    return len(code[0].splitlines())


def is_test_module(path):
    """Whether a file is `mod NAME;` under `#[cfg(test)]` of a file beside or above it."""
    declared = re.compile(rf"#\[cfg\(test\)\]\n(?:#.*\n)*mod {path.stem};")
    around = [*path.parent.glob("*.rs"), path.parent.with_suffix(".rs")]
    return any(declared.search(other.read_text()) for other in around if other.is_file())


def test_files_are_short():
    lengths = {p: lines_without_tests(p) for p in rust_sources() if not is_test_module(p)}
    long = {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > LONGEST_FILE}
    assert not long, f"longer than {LONGEST_FILE} lines: {long}"


def test_nothing_names_what_is_outside():
    """The repository stands for itself: no file beside it, no machine it was written on."""
    outside = re.compile(b"|".join([b"\\.\\./sha" + b"red\\b", b"/wo" + b"rk/", b"/ro" + b"ot/"]))
    assert not [str(path) for path in tracked() if outside.search(path.read_bytes())]


def pages():
    return [path for path in tracked() if path.suffix == ".md"]


def test_links_between_pages_lead_somewhere():
    broken = []
    for page in pages():
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken


def test_pages_name_tests_that_exist():
    """A page that says `tests/some/file.py::test_name` promises that this test holds it."""
    broken = []
    for page in pages():
        promises = re.findall(r"`((?:tests|crates)/[\w./-]+)(?:::(\w+))?`", page.read_text())
        for file, name in promises:
            path = ROOT / file
            if not path.exists() or name and not re.search(rf"\b{name}\b", path.read_text()):
                broken.append(f"{page.relative_to(ROOT)}: {file} {name}")
    assert not broken
