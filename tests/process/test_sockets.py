"""Where the server can listen, and what it leaves behind there: nothing."""

import http.client
import os
import signal
import socket
import stat
import sys

import pytest
from harness import BINARY, wait_until

APP = """
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"served"]
"""


def ask(family, address):
    """One request; the body."""
    client = http.client.HTTPConnection("localhost")
    client.sock = socket.socket(family)
    client.sock.settimeout(20)
    client.sock.connect(address)
    client.request("GET", "/", headers={"Connection": "close"})
    with client.getresponse() as response:
        assert response.status == 200
        return response.read()


def bound(serve, *options, **arguments):
    """A server that binds for itself."""
    server = serve(APP, *options, bind=False, start=False, **arguments)
    server.start()
    server.log.wait(r"serves main:app")
    return server


def port(server):
    """The port that the kernel chose."""
    return int(server.log.wait(r"http://\S+:(\d+)")[1])


# ---- unix


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    "options, expected", [([], 0o660), (["--unix-socket-mode", "0600"], 0o600)]
)
@pytest.mark.parametrize("umask", [0o000, 0o077], ids=oct)
def test_a_unix_socket_has_its_mode_whatever_the_umask(serve, options, expected, umask):
    old = os.umask(umask)
    try:
        server = bound(serve, "-b", "unix:s", *options)
    finally:
        os.umask(old)
    assert mode(server.cwd / "s") == expected
    assert ask(socket.AF_UNIX, str(server.cwd / "s")) == b"served"
    assert server.log.count(r"at unix:s ") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_unix_socket_is_removed_at_the_end(serve, number):
    server = bound(serve, "-b", "unix:s")
    assert (server.cwd / "s").exists()
    assert server.stop(number) == 0
    assert not (server.cwd / "s").exists()


def test_a_unix_socket_is_removed_when_the_start_fails(serve):
    server = serve("1 / 0\n", "-b", "unix:s", bind=False, start=False)
    assert server.launch().wait() == 3
    assert not (server.cwd / "s").exists()


def test_a_unix_socket_stays_where_it_was_bound_when_the_directory_changes(serve):
    server = serve(None, "-b", "unix:s", "--chdir", "inner", bind=False, start=False)
    server.write("inner/main.py", APP)
    server.start()
    assert ask(socket.AF_UNIX, str(server.cwd / "inner" / "s")) == b"served"
    assert server.stop() == 0
    assert not (server.cwd / "inner" / "s").exists()


def test_a_stale_unix_socket_is_replaced(serve):
    server = serve(APP, "-b", "unix:s", bind=False, start=False)
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(server.cwd / "s"))
    assert (server.cwd / "s").is_socket()
    server.start()
    assert ask(socket.AF_UNIX, str(server.cwd / "s")) == b"served"


def test_a_server_that_was_killed_can_be_started_again(serve):
    first = bound(serve, "-b", "unix:s")
    first.process.kill()
    first.process.wait()
    wait_until(lambda: not first.session(), "the workers to end")
    second = bound(serve, "-b", f"unix:{first.cwd}/s")
    assert ask(socket.AF_UNIX, str(first.cwd / "s")) == b"served"
    assert second.stop() == 0


def test_an_abstract_socket_leaves_no_file(serve):
    name = f"serve-test-{os.getpid()}"
    server = bound(serve, "-b", f"unix:@{name}")
    assert ask(socket.AF_UNIX, f"\0{name}") == b"served"
    assert sorted(path.name for path in server.cwd.iterdir()) == ["main.py"]
    assert server.log.count(rf"at unix:@{name} ") == 1
    assert server.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        ask(socket.AF_UNIX, f"\0{name}")


# ---- TCP


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6(serve):
    server = bound(serve, "-b", "[::1]:0")
    assert server.log.count(r"at http://\[::1\]:\d+ ") == 1
    assert ask(socket.AF_INET6, ("::1", port(server))) == b"served"


def test_a_host_name(serve):
    server = bound(serve, "-b", "localhost:0")
    assert server.log.count(r"at http://(127\.0\.0\.1|\[::1\]):\d+ ") == 1


def test_several_addresses_at_once(serve):
    server = bound(serve, "-b", "unix:one", "-b", "unix:two,127.0.0.1:0", workers=2)
    assert ask(socket.AF_UNIX, str(server.cwd / "one")) == b"served"
    assert ask(socket.AF_UNIX, str(server.cwd / "two")) == b"served"
    assert ask(socket.AF_INET, ("127.0.0.1", port(server))) == b"served"
    assert server.log.count(r"serves main:app at .*unix:one") == 1
    assert server.stop() == 0
    assert not (server.cwd / "one").exists()
    assert not (server.cwd / "two").exists()


def test_a_port_is_free_again_as_soon_as_the_server_has_ended(serve):
    # Not 127.0.0.1: there, some other test's client may be given the port meanwhile.
    host = f"127.1.{os.getpid() // 250 % 250}.{1 + os.getpid() % 250}"
    first = bound(serve, "-b", f"{host}:0")
    number = port(first)
    assert ask(socket.AF_INET, (host, number)) == b"served"
    assert first.stop() == 0
    second = bound(serve, "-b", f"{host}:{number}")
    assert ask(socket.AF_INET, (host, number)) == b"served"
    assert second.stop() == 0


# ---- inherited


def test_a_descriptor_that_was_passed(serve):
    server = serve(APP)
    assert server.get()[2] == b"served"
    assert server.stop() == 0
    # It is the starter's: still open, and not shut down.
    with server.connect():
        pass


def test_a_unix_descriptor_that_was_passed_keeps_its_file(serve, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        server = serve(APP, "-b", f"fd://{listener.fileno()}", bind=False, start=False)
        server.listener = listener
        server.start()
        assert ask(socket.AF_UNIX, str(tmp_path / "s")) == b"served"
        assert server.stop() == 0
        assert (tmp_path / "s").exists(), "who bound it may still want it"


ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=sys.argv[2] or str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[3], sys.argv[3:])
"""


def activated(serve, *options, pid=""):
    """A server started as systemd does it: the socket is descriptor 3."""
    server = serve(APP, *options, bind=False, start=False)
    server.listener = socket.create_server(("127.0.0.1", 0))
    started = [sys.executable, "-c", ACTIVATE, str(server.listener.fileno()), pid]
    assert server.arguments[0] == BINARY
    server.arguments = [*started, *server.arguments]
    return server


def test_socket_activation(serve):
    server = activated(serve, "-b", "unix:ignored").start()
    assert server.get()[2] == b"served"
    assert not (server.cwd / "ignored").exists()
    server.log.wait(rf"at http://127\.0\.0\.1:{server.address[1]} ")
    server.signal(signal.SIGHUP)
    server.log.wait(r"gen=2 serves")
    assert server.get()[2] == b"served"
    assert server.stop() == 0


def test_sockets_meant_for_another_process_are_not_taken(serve):
    server = activated(serve, "-b", "unix:s", pid="1").start()
    assert ask(socket.AF_UNIX, str(server.cwd / "s")) == b"served"
    server.log.wait(r"at unix:s ")
