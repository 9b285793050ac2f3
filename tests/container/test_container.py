"""The image of the Dockerfile, as `make test-container` makes it, in real containers."""

import http.client
import json
import os
import subprocess
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest
from harness import PATIENCE, Log, wait_until
from load import Load
from podman import ENVIRONMENT, IMAGE, ask, ended_well, needs_podman, of_its_own, podman

pytestmark = needs_podman

APP = """
    import os, subprocess

    def app(environ, start_response):
        path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
        status, body = "200 OK", "hello"
        if path == "/wait":
            print("began", flush=True)
            open("gate").close()
        elif path == "/hog":
            body = str(len(bytearray(1 << 30)))
        elif path == "/house":
            body = f"{os.getuid()} {os.path.exists('/dev/shm')} {writes()}"
        elif path == "/upload":
            body = str(len(environ["wsgi.input"].read()))
        elif path == "/orphan":
            script = "(read line < gate) > /dev/null & echo $!"
            body = subprocess.check_output(["sh", "-c", script], text=True).strip()
        elif path == "/alive":
            body = str(os.path.exists("/proc/" + query))
        elif path == "/broken":
            status = "500 Internal Server Error"
        start_response(status, [("Content-Length", str(len(body)))])
        return [body.encode()]

    def writes():
        try:
            open("/written", "w")
        except OSError as error:
            return error.strerror
"""


class Container:
    """A container of the image, on the host's network, with `APP` at an address of its own."""

    #: What a careful platform takes away.
    BARE = ["--read-only", "--read-only-tmpfs=false", "--ipc=none", "--cap-drop=ALL"]

    def __init__(self, *options, arguments=()):
        self.address = of_its_own(8000)
        self.name = f"serve-test-{os.getpid()}-{time.monotonic_ns()}"
        self._place = tempfile.TemporaryDirectory(prefix="serve-test-")
        self.place = Path(self._place.name)
        self.place.chmod(0o755)
        (self.place / "main.py").write_text(textwrap.dedent(APP))
        os.mkfifo(self.place / "gate")
        (self.place / "gate").chmod(0o666)
        bind = "{}:{}".format(*self.address)
        self.command = [
            *("podman", "run", "--name", self.name, "--network=host", "--no-healthcheck"),
            *("--security-opt=no-new-privileges", f"--volume={self.place}:/srv/app:ro"),
            *(*options, IMAGE, "serve", "main:app", "--bind", bind, *arguments),
        ]

    def __enter__(self):
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            # Where the container's monitor notes that memory has run out.
            cwd=self.place,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        self.out, self.log = Log(self.process.stdout), Log(self.process.stderr)
        self.log.wait(r"ready in=")
        return self

    def __exit__(self, *exception):
        podman("rm", "--force", "--time=0", "--ignore", self.name)
        self.process.wait(PATIENCE)
        self.log.drain()
        self.out.drain()
        print(self.log.text())
        self.process.stdout.close()
        self.process.stderr.close()
        self._place.cleanup()

    def get(self, *request):
        head, body = ask(self.address, *request)
        return head.status, body.decode()

    def stop(self):
        """Begins `podman stop`, which kills a container that is still there after the time."""
        return subprocess.Popen(
            ["podman", "stop", "--time=50", self.name], stdout=subprocess.DEVNULL, env=ENVIRONMENT
        )

    def stopped(self, stop):
        """That the container has ended by itself, and with 0."""
        assert stop.wait(PATIENCE) == 0
        ended_well(self.name)
        self.log.drain()

    def open_gate(self):
        # Blocks until somebody waits there.
        threading.Thread(target=open, args=(self.place / "gate", "w"), daemon=True).start()


def test_the_number_of_workers_is_that_of_the_limits():
    with Container("--cpus=1", "--memory=256m") as container:
        container.log.wait(r"workers=3: 2 x 1 core.* \+ 1 \(cgroup quota 1\.0 CPU")
        container.log.wait(r"ready in=", count=3)
        took = time.monotonic() - container.began
        memory = podman("stats", "--no-stream", "--format={{.MemUsage}}", container.name).stdout
    print(f"ready after {took * 1000:.0f} ms, memory {memory.strip()}")


def test_little_memory_means_fewer_workers():
    with Container("--cpus=2", "--memory=128m") as container:
        container.log.wait(r"workers=2: .*one for every 64 MiB of the cgroup's 128 MiB")


def test_a_worker_that_takes_more_than_all_memory_is_blamed_and_replaced():
    options = ["--cpus=1", "--memory=256m", "--memory-swap=256m"]
    with Container(*options) as container:
        container.log.wait(r"ready in=", count=3)
        # RemoteDisconnected is one of these.
        with pytest.raises(ConnectionError):
            container.get("/hog")
        container.log.wait(r'memory ran out.*request="GET /hog"')
        container.log.wait(r"ready in=", count=4)
        assert container.get() == (200, "hello")


def test_it_needs_neither_root_nor_a_disk_nor_shared_memory():
    """Only a large upload that does not tell its length needs a place."""
    megabyte = b"x" * 1_000_000
    with Container(*Container.BARE) as container:
        user, shared, written = container.get("/house")[1].split(maxsplit=2)
        assert (user, shared, written) == ("10001", "False", "Read-only file system")
        assert container.get("/upload", "POST", 4 * megabyte) == (200, "4000000")
        status, _ = container.get("/upload", "POST", iter([megabyte] * 4))
        assert status == 500
        container.log.wait(r"cannot keep a request body in /tmp: Read-only file system")
    with Container(*Container.BARE, "--tmpfs=/tmp") as container:
        assert container.get("/upload", "POST", iter([megabyte] * 4)) == (200, "4000000")


def test_the_access_log_is_on_stdout_and_the_rest_on_stderr():
    with Container(arguments=["--access-logfile", "-"]) as container:
        container.get("/alive?1")
        container.out.wait(r'"GET /alive\?1 HTTP/1.1" 200')
        assert not container.out.count("ready in=")
        container.stopped(container.stop())
    assert not container.log.count("GET /alive")


def test_as_process_1_it_reaps_orphans():
    with Container(arguments=["--workers", "1"]) as container:
        container.log.wait(r"master\[1\] info")
        orphan = container.get("/orphan")[1]
        assert container.get(f"/alive?{orphan}") == (200, "True")
        container.open_gate()
        wait_until(lambda: container.get(f"/alive?{orphan}")[1] == "False", "the orphan's end")
        container.stopped(container.stop())


def test_a_stop_finishes_the_request_in_flight():
    with Container() as container:
        client = http.client.HTTPConnection(*container.address, timeout=PATIENCE)
        client.request("GET", "/wait")
        container.out.wait("began")
        stop = container.stop()
        container.log.wait(r"SIGTERM .*stopping")
        container.open_gate()
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (200, b"hello")
        client.close()
        container.stopped(stop)


def test_a_stop_under_load_loses_nothing():
    """The clients go on for as long as they like to, as those behind a slow balancer do."""
    with Container(arguments=["--drain-delay", "600"]) as container:
        with Load(container) as load:
            stop = container.stop()
            container.log.wait(r"SIGTERM .*drain-delay")
            load.wait_for_answers(200)
        podman("kill", "--signal=TERM", container.name)
        container.stopped(stop)
        load.report("podman stop")
    assert not load.failures
    assert not load.retried


def test_the_health_check_tells_an_answer_from_a_failure():
    """Run by hand, as the timer is systemd's with podman."""
    config = podman("image", "inspect", "--format={{json .Config.Healthcheck.Test}}", IMAGE).stdout
    _, *check = json.loads(config)
    with Container() as container:
        address, _ = container.address
        check = [part.replace("127.0.0.1", address) for part in check]

        def healthy(path):
            run = podman("exec", f"--env=HEALTH_PATH={path}", container.name, *check)
            return run.returncode == 0

        assert healthy("/")
        assert not healthy("/broken")
