"""The Deployment of examples/deploy/kubernetes as it is, run by `podman kube play`.

It is one pod then, and no probe is made but by the test: podman knows neither Services nor
autoscalers, and its timers for probes are systemd's.
"""

import os
import re
import subprocess

import pytest
import yaml
from harness import PATIENCE, ROOT
from load import Load
from podman import (
    ENVIRONMENT,
    IMAGE,
    ask,
    ended_well,
    inspected,
    log_of,
    needs_podman,
    of_its_own,
    podman,
)

pytestmark = needs_podman

FILE = ROOT / "examples" / "deploy" / "kubernetes" / "deployment.yaml"


class Pod:
    """One pod of the Deployment, with the Flask example in it."""

    def __init__(self, place):
        self.address = of_its_own(8000)
        described = yaml.safe_load(FILE.read_text())
        described["metadata"]["name"] = f"serve-test-{os.getpid()}"
        self.described = described["spec"]["template"]["spec"]
        (self.app,) = self.described["containers"]
        self.app["image"] = f"{IMAGE}-app"
        (port,) = self.app["ports"]
        port["hostIP"], port["hostPort"] = self.address
        self.file = place / "deployment.yaml"
        self.file.write_text(yaml.safe_dump(described))

    def __enter__(self):
        played = podman("kube", "play", self.file)
        assert played.returncode == 0, played.stderr
        self.container = re.search(r"^Container:\n(\w+)$", played.stdout, re.MULTILINE)[1]
        return self

    def __exit__(self, *exception):
        podman("kube", "down", self.file)


@pytest.fixture
def pod(tmp_path):
    with Pod(tmp_path) as pod:
        yield pod


def test_a_pod_serves_and_its_end_loses_nothing(pod):
    with log_of(pod.container) as log:
        log.wait(r"workers=3: 2 x 1 core.* \+ 1 \(cgroup quota 1\.0 CPU")
        log.wait(r"ready in=", count=3)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert ask(pod.address, pod.app[probe]["httpGet"]["path"])[0].status == 200
        rights = "{{.HostConfig.ReadonlyRootfs}} {{.Config.User}} {{.HostConfig.SecurityOpt}}"
        assert inspected(pod.container, rights) == "true 10001:10001 [no-new-privileges]"
        with Load(pod) as load:
            # Not `podman pod stop`, which takes the network away meanwhile; a kubelet does not.
            grace = "--time={terminationGracePeriodSeconds}".format(**pod.described)
            stop = subprocess.Popen(
                ["podman", "stop", grace, pod.container],
                stdout=subprocess.DEVNULL,
                env=ENVIRONMENT,
            )
            log.wait(r"SIGTERM .*drain-delay")
            load.wait_for_answers(200)
        # A second TERM ends the delay.
        podman("kill", "--signal=TERM", pod.container)
        assert stop.wait(PATIENCE) == 0
        ended_well(pod.container)
        load.report("the end of a pod")
    assert not load.failures
    assert not load.retried
