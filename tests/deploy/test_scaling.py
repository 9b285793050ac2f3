"""The example that scales on requests: from what the server sends to what the autoscaler reads."""

import re
import socket

import yaml
from harness import PATIENCE, ROOT, Server

PLACE = ROOT / "examples" / "deploy" / "kubernetes-requests"
KUSTOMIZATION, EXPORTER, SCALING, ADAPTER = (
    yaml.safe_load((PLACE / f"{name}.yaml").read_text())
    for name in ("kustomization", "exporter", "scaling", "adapter")
)
POD = EXPORTER["spec"]["template"]
APP, SIDECAR = POD["spec"]["containers"]
(RULE,) = ADAPTER["rules"]["custom"]
HELLO = """
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "5")])
        return [b"hello"]
"""


def argument(name):
    """The value of a flag of the exporter's."""
    (value,) = [one.partition("=")[2] for one in SIDECAR["args"] if one.startswith(f"--{name}=")]
    return value


def test_the_patches_are_of_what_there_is():
    (base,) = KUSTOMIZATION["resources"]
    texts = [path.read_text() for path in (PLACE / base).glob("*.yaml")]
    there = {
        (one["apiVersion"], one["kind"], one["metadata"]["name"]): one
        for text in texts
        for one in yaml.safe_load_all(text)
        if "metadata" in one
    }
    assert {patch["path"] for patch in KUSTOMIZATION["patches"]} == {
        "exporter.yaml",
        "scaling.yaml",
    }
    for patch in (EXPORTER, SCALING):
        assert (patch["apiVersion"], patch["kind"], patch["metadata"]["name"]) in there
    deployment = there["apps/v1", "Deployment", "app"]
    containers = deployment["spec"]["template"]["spec"]["containers"]
    assert [one["name"] for one in containers] == [APP["name"]]


def test_prometheus_asks_where_the_exporter_listens():
    (port,) = SIDECAR["ports"]
    assert argument("web.listen-address") == f":{port['containerPort']}"
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])


def test_the_autoscaler_reads_what_the_server_sends():
    (setting,) = APP["env"]
    assert setting["value"] == argument("statsd.listen-udp")
    (metric,) = SCALING["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == RULE["name"]["as"]
    series = re.match(r"\w+", RULE["seriesQuery"])[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as exporter:
        exporter.bind(("127.0.0.1", 0))
        exporter.settimeout(PATIENCE)
        place = "{}:{}".format(*exporter.getsockname())
        with Server(HELLO, env={setting["name"]: place}) as server:
            assert server.get()[0] == 200
            # The exporter writes an underscore for each dot.
            while f"{series}:1|c" not in exporter.recv(65536).decode().replace(".", "_"):
                pass
