"""USR2: a new master on the same sockets, and back."""

import os
import signal
import socket

import pytest
from harness import wait_until
from load import Load
from servers import WHO


def upgrade(server):
    """Starts a new master; returns its pid once it serves."""
    serves = r"serves main:app .*pid=(\d+)\)"
    server.log.wait(serves)
    before = server.log.count(serves)
    server.signal(signal.SIGUSR2)
    return int(server.log.wait(serves, count=before + 1)[1])


def text(path):
    """What a file says; None while it is not there, as the pidfile between two masters."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def test_the_new_master_takes_over_without_a_lost_request(serve):
    server = serve(WHO, "--pid", "pid", workers=2)
    old, pidfile = server.pid, server.cwd / "pid"
    with Load(server) as load:
        new = upgrade(server)
        assert pidfile.read_text() == f"{old}\n"
        assert pidfile.with_suffix(".2").read_text() == f"{new}\n"
        server.signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        wait_until(lambda: text(pidfile) == f"{new}\n", "the new master to be the server")
        load.wait_for_answers(50)
    assert (load.failures, load.retried) == ([], 0)
    assert not pidfile.with_suffix(".2").exists()
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not server.session(), "the new master to end")
    assert not pidfile.exists()


def test_the_old_master_tells_at_once_that_the_new_one_serves(serve):
    """The operator waits for this line before TERM, so no other signal may be what brings it."""
    server = serve(WHO)
    new = upgrade(server)
    server.log.wait(rf"new master pid={new} serves$")


@pytest.mark.parametrize("workers", [1, 2])
def test_idle_connections_survive_the_upgrade(serve, workers):
    server = serve(WHO, workers=workers)
    connections = [server.http() for _ in range(8)]
    before = set()
    for connection in connections:
        connection.request("GET", "/")
        before.add(int(connection.getresponse().read()))
    sockets = [connection.sock for connection in connections]
    new = upgrade(server)
    server.signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    for connection in connections:
        connection.request("GET", "/")
        assert int(connection.getresponse().read()) not in before
    assert [connection.sock for connection in connections] == sockets
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not server.session(), "the new master to end")


def test_a_stop_before_the_new_master_serves_leaves_nothing_to_it(serve):
    """It might never serve: what it was left would be lost."""
    server = serve(WHO, workers=2).gate()
    server.write("main.py", "print('hangs', flush=True)\nopen('gate').close()\n")
    connection = server.http()
    connection.request("GET", "/")
    connection.getresponse().read()
    server.signal(signal.SIGUSR2)
    server.out.wait("hangs")
    server.signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    assert connection.sock.recv(1) == b""


def test_term_to_the_new_master_backs_out(serve):
    server = serve(WHO, "-b", "unix:sock", "--pid", "pid", workers=2)
    with Load(server) as load:
        new = upgrade(server)
        os.kill(new, signal.SIGTERM)
        server.log.wait(rf"new master pid={new} has gone")
        load.wait_for_answers(50)
    assert load.failures == []
    assert (server.cwd / "pid").read_text() == f"{server.pid}\n"
    # The socket in the file system is the old one's again.
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(server.cwd / "sock"))
    # And there may be another try.
    upgrade(server)


def test_a_new_master_that_cannot_start_leaves_the_old_one_serving(serve):
    server = serve(WHO, "--pid", "pid")
    server.write("main.py", "def (")
    server.signal(signal.SIGUSR2)
    server.log.wait(r"new master pid=\d+ has gone: exit code 3")
    assert server.served_by() in server.worker_pids()
    assert server.stop() == 0


def test_the_last_master_removes_the_socket_it_inherited(serve):
    server = serve(WHO, "-b", "unix:sock", bind=False)
    new = upgrade(server)
    server.signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    assert (server.cwd / "sock").exists()
    server.log.wait(r"the old master has gone; this one is the server now")
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not server.session(), "the new master to end")
    assert not (server.cwd / "sock").exists()
