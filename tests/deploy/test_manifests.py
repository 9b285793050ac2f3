"""What the files for containers promise: commands that the server takes, numbers that fit."""

import re

import pytest
import yaml
from harness import ROOT, run

MANIFESTS = ROOT / "examples" / "deploy" / "kubernetes"
CONF = (ROOT / "examples" / "deploy" / "nginx" / "serve.conf").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SETTINGS = (ROOT / "docs" / "reference" / "settings.md").read_text()


def documents():
    """Every object of the Kubernetes example, by its kind."""
    texts = [path.read_text() for path in MANIFESTS.glob("*.yaml")]
    return {one["kind"]: one for text in texts for one in yaml.safe_load_all(text)}


KINDS = documents()
POD = KINDS["Deployment"]["spec"]["template"]["spec"]
(APP,) = [one for one in POD["containers"] if one["name"] == "app"]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
COMMANDS = {
    "Dockerfile": yaml.safe_load(re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)[1]),
    "compose.yaml": COMPOSE["app"]["command"],
    "deployment.yaml": APP["command"],
}
#: What the image sets, for the command to hear.
IMAGE = dict(re.findall(r"\b([A-Z_]+)=(\S+)", re.search(r"^ENV .*PORT=.*", DOCKERFILE, re.M)[0]))
ENVIRONMENTS = {
    "Dockerfile": IMAGE,
    "compose.yaml": IMAGE,
    "deployment.yaml": IMAGE | {one["name"]: one["value"] for one in APP["env"]},
}


@pytest.fixture
def project(tmp_path):
    for module in ("main", "hello"):
        (tmp_path / f"{module}.py").write_text((ROOT / "examples" / "hello.py").read_text())
    return tmp_path


def port(file, project):
    """Where the file's command listens, by what the server makes of it."""
    name, *arguments = COMMANDS[file]
    assert name == "serve"
    environment = {"PORT": ENVIRONMENTS[file]["PORT"]}
    code, out, err = run(*arguments, "--check-config", cwd=project, env=environment)
    assert code == 0 and "warning" not in err, err
    code, out, err = run(*arguments, "--print-config", cwd=project, env=environment)
    assert code == 0, err
    return int(re.search(r"^bind .*0\.0\.0\.0:(\d+)", out, re.MULTILINE)[1])


@pytest.mark.parametrize("file", COMMANDS)
def test_the_server_takes_the_command_and_listens_on_the_image_s_port(file, project):
    exposed = int(re.search(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)[1])
    assert port(file, project) == exposed


def test_kubernetes_asks_where_the_server_listens(project):
    ports = {one["name"]: one["containerPort"] for one in APP["ports"]}
    assert ports == {"http": port("deployment.yaml", project)}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert APP[probe]["httpGet"]["port"] == "http"
    (service,) = KINDS["Service"]["spec"]["ports"]
    assert service["targetPort"] == "http"


def test_the_objects_of_kubernetes_mean_the_same_pods():
    labels = KINDS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [KINDS[kind]["spec"]["selector"] for kind in ("Deployment", "PodDisruptionBudget")]
    assert [one["matchLabels"] for one in selectors] == [labels] * 2
    assert KINDS["Service"]["spec"]["selector"] == labels
    target = KINDS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    deployment = KINDS["Deployment"]
    assert target == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    # What it scales on is a part of what is requested.
    assert {"cpu", "memory"} <= set(APP["resources"]["requests"])
    for mount in APP["volumeMounts"]:
        assert mount["name"] in [volume["name"] for volume in POD["volumes"]]


def test_kubernetes_runs_the_image_s_user():
    (user, group) = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE).groups()
    context = POD["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))
    assert context["runAsNonRoot"]


def default(name):
    """The default of a setting, in seconds."""
    row = SETTINGS.partition(f"### `{name}`\n")[2].partition("\n### ")[0]
    return int(re.search(r"Default: `(\d+)`", row)[1])


def test_kubernetes_waits_for_longer_than_the_server():
    arguments = APP["command"]
    drains = int(arguments[arguments.index("--drain-delay") + 1])
    graceful = int(arguments[arguments.index("--graceful-timeout") + 1])
    assert drains > 0
    assert POD["terminationGracePeriodSeconds"] > drains + graceful


def test_compose_waits_for_longer_than_the_server():
    waits = COMPOSE["app"]["stop_grace_period"]
    assert int(waits.removesuffix("s")) > default("graceful_timeout")


def test_liveness_is_slower_than_what_the_server_mends_itself():
    probe = APP["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] > default("timeout") + 5


def test_nginx_closes_idle_connections_before_the_server_does():
    closes = re.search(r"^    keepalive_timeout (\d+)s;", CONF, re.MULTILINE)[1]
    assert int(closes) < default("keepalive")


def test_compose_joins_nginx_and_the_server(project):
    """nginx's file is the one for a machine without containers: both share a network."""
    assert COMPOSE["nginx"]["network_mode"] == "service:app"
    assert f"server 127.0.0.1:{port('compose.yaml', project)};" in CONF
    listens = re.search(r"^    listen (\d+);", CONF, re.MULTILINE)[1]
    assert COMPOSE["app"]["ports"] == [f"127.0.0.1:8080:{listens}"]
    for service in COMPOSE.values():
        for volume in service["volumes"]:
            assert (ROOT / volume.split(":")[0]).exists()


def test_every_manifest_is_applied():
    there = {path.name for path in MANIFESTS.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(KINDS["Kustomization"]["resources"]) == there


def test_the_image_is_made_of_what_the_wheel_needs():
    """What .dockerignore lets in exists, and holds all that Cargo and maturin are told of."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = [line[1:] for line in lines if line.startswith("!")]
    assert all(list(ROOT.glob(pattern)) for pattern in let_in)
    assert {"Cargo.toml", "Cargo.lock", "build.rs", "crates", "src", "python"} <= set(let_in)
