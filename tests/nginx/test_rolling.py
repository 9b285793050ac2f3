"""Three machines behind a balancer are replaced one by one, as docs/guides/kubernetes.md has it.

With root, each machine is a network namespace; otherwise, an address of its own on loopback.
"""

import contextlib
import os
import signal
import subprocess
import time

import pytest
from harness import Server, wait_until
from load import Load

APP = """
    import os

    def app(environ, start_response):
        name = os.environ["NAME"].encode()
        start_response("200 OK", [("Content-Length", str(len(name)))])
        return [name]
"""


class Machine:
    """Where a server listens, and what its command begins with."""

    def __init__(self, number, namespace):
        #: Of the addresses for tests between devices, 198.18.0.0/15, four to a machine.
        here = 198 << 24 | 18 << 16 | (os.getpid() * 4 + number) % (1 << 15) << 2
        self.host, self.guest = (dotted(here + last) for last in (1, 2))
        self.name = f"serve-{os.getpid()}-{number}"
        self.link = f"sv{os.getpid()}-{number}"
        self.prefix = ["ip", "netns", "exec", self.name] if namespace else []
        self.address = (self.guest if namespace else f"127.{dotted(here + 2)[4:]}", 8000)

    def cable(self):
        """Makes the namespace, and a cable from it to this one."""
        far = f"far{os.getpid()}"
        ip("netns", "add", self.name)
        ip("link", "add", self.link, "type", "veth", "peer", "name", far, "netns", self.name)
        ip("address", "add", f"{self.host}/30", "dev", self.link)
        ip("link", "set", self.link, "up")
        ip("-n", self.name, "address", "add", f"{self.guest}/30", "dev", far)
        ip("-n", self.name, "link", "set", far, "up")

    def remove(self):
        """The cable first, which is gone at once; a namespace takes its time."""
        for command in (["link", "delete", self.link], ["netns", "delete", self.name]):
            with contextlib.suppress(FileNotFoundError, subprocess.CalledProcessError):
                ip(*command)

    def server(self, name, *options):
        bind = "{}:{}".format(*self.address)
        server = Server(APP, "-b", bind, *options, workers=2, bind=False, env={"NAME": name})
        server.arguments = [*self.prefix, *server.arguments]
        return server


def dotted(number):
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def machines():
    """Four of them: three serve, one is free for the next server."""
    made = [Machine(number, namespace=True) for number in range(4)]
    try:
        for machine in made:
            machine.cable()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        print(f"addresses on loopback, because there are no network namespaces: {error}")
        yield [Machine(number, namespace=False) for number in range(4)]
    else:
        yield made
    for machine in made:
        machine.remove()


class Cluster:
    """The servers that the balancer knows, by name."""

    def __init__(self, machines, options):
        self._free = list(machines)
        self._options = options
        self.servers = {}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for server in self.servers.values():
            print(server.log.text())
            server.close()

    def start(self, name):
        """Starts a server on a free machine; the balancer does not know it yet."""
        machine = self._free.pop()
        server = machine.server(name, *self._options)
        self.servers[name] = server
        server.machine = machine
        server.start()

    def without(self, *names):
        """What the balancer passes requests on to, as nginx's `server` has it."""
        known = [server for name, server in self.servers.items() if name not in names]
        return "; server ".join("{}:{}".format(*server.machine.address) for server in known)

    def left(self, name):
        """Waits until a server has ended; its machine is free then."""
        server = self.servers.pop(name)
        print(server.log.text())
        with contextlib.closing(server):
            assert server.wait() == 0
        self._free.append(server.machine)


def strict(text):
    """No second attempt by nginx: what one server fails to answer, the client gets to see."""
    return text.replace("proxy_pass ", "proxy_next_upstream off; proxy_pass ")


def test_servers_are_replaced_one_by_one_and_no_request_fails(machines, proxy_to):
    with Cluster(machines, ["--drain-delay", "600"]) as cluster:
        for name in ("old-1", "old-2", "old-3"):
            cluster.start(name)
        # nginx closes idle connections of its clients when it reloads.
        with (
            proxy_to(cluster.without(), change=strict) as proxy,
            Load(proxy, kept_alive=False) as load,
        ):
            for number in (1, 2, 3):
                old = f"old-{number}"
                cluster.start(f"new-{number}")
                stopping = cluster.servers[old]
                stopping.signal(signal.SIGTERM)
                stopping.log.wait("drain-delay")
                drains = time.monotonic()
                # The balancer has not noticed, and requests are still answered.
                wait_until(lambda: old.encode() in load.answers_since(drains), "an answer")  # noqa: B023
                proxy.pass_to(cluster.without(old))
                # The balancer has noticed; a second TERM ends the delay.
                stopping.signal(signal.SIGTERM)
                cluster.left(old)
                load.wait_for_answers(100)
            replaced = time.monotonic()
            load.wait_for_answers(100)
        load.report("rolling deployment")
    assert not load.failures
    assert set(load.answers_since(replaced)) == {b"new-1", b"new-2", b"new-3"}


def test_without_a_drain_delay_the_balancer_is_too_late(machines, proxy_to):
    """So that the test above can fail."""
    with Cluster(machines, []) as cluster:
        for name in ("a", "b", "c"):
            cluster.start(name)
        with (
            proxy_to(cluster.without(), change=strict) as proxy,
            Load(proxy, kept_alive=False) as load,
        ):
            cluster.servers["a"].signal(signal.SIGTERM)
            cluster.left("a")
            wait_until(lambda: load.failures, "a request that fails")
    assert "status 502" in load.failures[-1].reason
