"""podman, as these tests call it."""

import contextlib
import http.client
import os
import subprocess
from pathlib import Path

import pytest
from harness import PATIENCE, Log, wait_until

#: What images.sh makes: the Dockerfile's image, and others that are named after it.
IMAGE = os.environ.get("SERVE_IMAGE")
ENVIRONMENT = {**os.environ, "CONTAINERS_CONF": str(Path(__file__).with_name("containers.conf"))}

needs_podman = pytest.mark.skipif(not IMAGE, reason="needs podman and root: make test-container")


def podman(*arguments):
    return subprocess.run(["podman", *arguments], capture_output=True, text=True, env=ENVIRONMENT)


def of_its_own(port):
    """An address that no other run of the tests has."""
    pid = os.getpid()
    return f"127.{128 + (pid >> 16 & 63)}.{pid >> 8 & 255}.{pid & 255}", port


def ask(address, path="/", method="GET", body=None):
    """One request: the answer's head, and its body."""
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=PATIENCE)) as client:
        client.request(method, path, body=body)
        answer = client.getresponse()
        return answer, answer.read()


def inspected(name, form):
    return podman("container", "inspect", f"--format={form}", name).stdout.strip()


def ended_well(name):
    """That a container has ended by itself, and with 0."""
    # The exit code of `podman run` is not it: run and stop may both tidy up.
    state = "{{.State.Status}} {{.State.ExitCode}}"
    wait_until(lambda: inspected(name, state).startswith("exited"), "the container's end")
    assert inspected(name, state) == "exited 0"


@contextlib.contextmanager
def log_of(name):
    """What a container that was started by something else writes to stderr."""
    command = ["podman", "logs", "--follow", name]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as follower:
        log = Log(follower.stderr)
        try:
            yield log
        finally:
            follower.kill()
            follower.wait(PATIENCE)
            log.drain()
            print(log.text())
