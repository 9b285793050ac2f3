"""What is downloaded to build and to test is decided here, and not by when it is downloaded."""

import re
from importlib import metadata

from harness import ROOT
from packaging.requirements import Requirement

LINE = re.compile(r"^([\w.-]+)==(\S+)$", re.MULTILINE)
PINS = dict(LINE.findall((ROOT / "tests" / "constraints.txt").read_text()))
FILES = [ROOT / "tests" / "requirements.txt", *ROOT.glob("examples/*/requirements.txt")]


def spelt(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_package_that_the_tests_bring_along_is_pinned():
    """As installed here: what a package needs may differ between versions of Python."""
    pins = {spelt(name): version for name, version in PINS.items()}
    todo = {spelt(name) for file in FILES for name, _ in LINE.findall(file.read_text())}
    seen = set()
    while todo:
        name = todo.pop()
        seen.add(name)
        assert metadata.version(name) == pins.get(name), name
        for line in metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                todo |= {spelt(needed.name)} - seen
    assert len(seen) > 30


def test_what_make_installs_is_pinned():
    makefile = (ROOT / "Makefile").read_text()
    installed = re.findall(r"\$\(PIP_INSTALL\) (\w\S*)$", makefile, re.MULTILINE)
    assert {"maturin", "mkdocs"} <= set(installed) <= set(PINS)
