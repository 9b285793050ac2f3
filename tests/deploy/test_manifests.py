"""What the files for containers promise: commands that the server takes, numbers that fit."""

import json
import re

import pytest
from harness import ROOT, run

MANIFESTS = ROOT / "examples" / "deploy" / "kubernetes"
COMMANDS = {
    "Dockerfile": r"^CMD (\[.*\])$",
    "compose.yaml": r"^    command: (\[.*\])$",
    "examples/deploy/kubernetes/deployment.yaml": r"^ +command: (\[.*\])$",
}


def command(file):
    """The one that the file starts the server with."""
    (found,) = re.findall(COMMANDS[file], (ROOT / file).read_text(), re.MULTILINE)
    return json.loads(found)


@pytest.mark.parametrize("file", COMMANDS)
def test_the_server_takes_the_command(file, tmp_path):
    name, *arguments = command(file)
    assert name == "serve"
    for module in ("main", "hello"):
        (tmp_path / f"{module}.py").write_text((ROOT / "examples" / "hello.py").read_text())
    code, _, err = run(*arguments, "--check-config", cwd=tmp_path)
    assert code == 0, err


def number(pattern, text):
    (found,) = re.findall(pattern, text, re.MULTILINE)
    return int(found)


def default(name):
    """The default of a setting, in seconds."""
    text = (ROOT / "docs" / "reference" / "settings.md").read_text()
    row = text.partition(f"### `{name}`\n")[2].partition("\n### ")[0]
    return number(r"Default: `(\d+)`", row)


def test_kubernetes_waits_for_longer_than_the_server():
    text = (MANIFESTS / "deployment.yaml").read_text()
    arguments = command("examples/deploy/kubernetes/deployment.yaml")
    drains = int(arguments[arguments.index("--drain-delay") + 1])
    graceful = int(arguments[arguments.index("--graceful-timeout") + 1])
    assert drains > 0
    assert number(r"terminationGracePeriodSeconds: (\d+)", text) > drains + graceful


def test_compose_waits_for_longer_than_the_server():
    text = (ROOT / "compose.yaml").read_text()
    assert number(r"stop_grace_period: (\d+)s", text) > default("graceful_timeout")


def test_liveness_is_slower_than_what_the_server_mends_itself():
    text = (MANIFESTS / "deployment.yaml").read_text()
    probe = text.partition("livenessProbe:")[2].partition("resources:")[0]
    lasts = number(r"periodSeconds: (\d+)", probe) * number(r"failureThreshold: (\d+)", probe)
    assert lasts > default("timeout") + 5


def test_nginx_closes_idle_connections_before_the_server_does():
    text = (ROOT / "examples" / "deploy" / "nginx" / "serve.conf").read_text()
    assert number(r"^    keepalive_timeout (\d+)s;", text) < default("keepalive")


def test_every_manifest_is_applied():
    (listed,) = re.findall(r"resources: \[(.*)\]", (MANIFESTS / "kustomization.yaml").read_text())
    there = {path.name for path in MANIFESTS.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed.split(", ")) == there


def test_the_image_is_made_of_what_the_wheel_needs():
    """What .dockerignore lets in exists, and holds all that Cargo and maturin are told of."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = [line[1:] for line in lines if line.startswith("!")]
    assert all(list(ROOT.glob(pattern)) for pattern in let_in)
    assert {"Cargo.toml", "Cargo.lock", "build.rs", "crates", "src", "python"} <= set(let_in)
