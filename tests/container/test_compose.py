"""compose.yaml as it is, but for its images, and for an address of its own."""

import os
import re
import shutil
import subprocess

import pytest
import yaml
from harness import ROOT, wait_until
from podman import ENVIRONMENT, IMAGE, ask, ended_well, inspected, needs_podman, of_its_own, podman

TOOL = shutil.which("podman-compose")
#: Debian 12's 1.0.3 cannot share a network, `network_mode: service:...`.
NEEDS = "needs podman-compose 1.1 or newer, as from pip"


def version():
    """Of podman-compose; (0,) without one."""
    told = (
        subprocess.run([TOOL, "--version"], capture_output=True, text=True).stdout if TOOL else ""
    )
    found = re.search(r"podman-compose\D*(\d+)\.(\d+)", told)
    return tuple(map(int, found.groups())) if found else (0,)


pytestmark = [needs_podman, pytest.mark.skipif(version() < (1, 1), reason=NEEDS)]


class Project:
    """What compose.yaml describes."""

    def __init__(self, place):
        self.address = of_its_own(8080)
        self.name = f"serve-test-{os.getpid()}"
        described = yaml.safe_load((ROOT / "compose.yaml").read_text())
        app, nginx = described["services"]["app"], described["services"]["nginx"]
        assert app.pop("build") == "."
        app["image"], nginx["image"] = IMAGE, f"{IMAGE}-nginx"
        app["ports"] = [
            port.replace("127.0.0.1:8080", "{}:{}".format(*self.address)) for port in app["ports"]
        ]
        self.file = place / "compose.yaml"
        self.file.write_text(yaml.safe_dump(described))
        (place / "examples").symlink_to(ROOT / "examples")

    def compose(self, *arguments):
        command = [TOOL, "-f", self.file, "-p", self.name, *arguments]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
        print(done.stdout, done.stderr)
        assert done.returncode == 0, done.stderr

    def __enter__(self):
        self.compose("up", "-d")
        return self

    def __exit__(self, *exception):
        print(podman("logs", self.container("app")).stderr)
        self.compose("down")

    def container(self, service):
        return f"{self.name}_{service}_1"

    def get(self):
        """None while nobody listens yet."""
        try:
            head, body = ask(self.address)
        except ConnectionError:
            return None
        return head.status, head.headers["Server"].partition("/")[0], body


@pytest.fixture
def project(tmp_path):
    with Project(tmp_path) as project:
        yield project


def test_nginx_passes_on_what_the_server_answers(project):
    wait_until(lambda: (project.get() or [0])[0] == 200, "an answer")
    assert project.get() == (200, "nginx", b"Hello, world!\n")
    app = project.container("app")
    limits = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Memory}} {{.Config.User}}"
    assert inspected(app, limits) == f"true {256 << 20} 10001:10001"
    assert podman("healthcheck", "run", app).returncode == 0
    project.compose("stop")
    ended_well(app)
