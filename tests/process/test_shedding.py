"""What waits too long, or in too long a row, or for a client that has gone, is not run."""

import os
import re
import select
import time

import pytest
from harness import PATIENCE

#: Writes down each path it is asked for; /wait stays until the test opens the gate.
APP = """
    def app(environ, start_response):
        path = environ["PATH_INFO"]
        with open("paths", "a") as file:
            print(path, file=file)
        if path == "/wait":
            print("began", flush=True)
            open("gate").close()
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]
"""


def paths(server):
    return (server.cwd / "paths").read_text().split()


def ask(connection, path):
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


def answer(connection):
    """The status and the head of a response, whose body is read, too."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    left = int(re.search(rb"Content-Length: (\d+)", head)[1]) - len(body)
    while left:
        left -= len(connection.recv(left))
    return int(head.split()[1]), head.decode()


@pytest.fixture
def busy(serve):
    """Makes servers whose workers are busy, and clients that they have accepted before.

    Of the clients, the first ones have the requests that run.
    """
    clients = []

    def make(count, *options, workers=1):
        server = serve(APP, *options, workers=workers).gate()
        accepted = [server.connect() for _ in range(count)]
        clients.extend(accepted)
        for client in accepted:
            ask(client, "/first")
            assert answer(client)[0] == 200
        running = [server.connect() for _ in range(workers)]
        clients.extend(running)
        for number, client in enumerate(running, 1):
            ask(client, "/wait")
            server.out.wait("began", count=number)
        return server, *running, *accepted

    yield make
    for client in clients:
        client.close()


def check_is_shed(client):
    status, head = answer(client)
    assert status == 503
    assert re.search(r"\r\nRetry-After: \d+\r\n", head), head
    assert "\r\nConnection: close" in head
    assert client.recv(1) == b""


def test_queue_limit(busy):
    server, running, *clients = busy(3, "--queue-limit", "2")
    for number, client in enumerate(clients):
        ask(client, f"/queued/{number}")
    # While the application is busy; whichever of them came last.
    (shed,), *_ = select.select(clients, [], [], PATIENCE)
    check_is_shed(shed)
    server.open_gate()
    for client in [running, *clients]:
        if client is not shed:
            assert answer(client)[0] == 200
    assert f"/queued/{clients.index(shed)}" not in paths(server)
    assert len([path for path in paths(server) if path.startswith("/queued")]) == 2


def test_queue_timeout(busy):
    server, running, client = busy(1, "--queue-timeout", "0.4")
    begun = time.monotonic()
    ask(client, "/queued")
    check_is_shed(client)
    assert time.monotonic() - begun >= 0.4
    server.open_gate()
    assert answer(running)[0] == 200
    assert "/queued" not in paths(server)


def test_nobody_is_shed_without_a_limit(busy):
    server, running, *clients = busy(20)
    for client in clients:
        ask(client, "/queued")
    assert select.select(clients, [], [], 0.2)[0] == []
    server.open_gate()
    assert [answer(client)[0] for client in [running, *clients]] == [200] * 21


def test_a_request_whose_client_has_gone_while_it_waited_is_not_run(busy):
    server, running, gone, stays, proof = busy(3, "--log-level", "debug")
    ask(gone, "/gone")
    ask(stays, "/stays")
    gone.close()
    # An answer that needs no application: what came before it has been read.
    proof.sendall(b"nonsense\r\n\r\n")
    assert answer(proof)[0] == 400
    # Who has waited for less is run unseen: looking costs more than most requests.
    time.sleep(0.2)
    server.open_gate()
    assert answer(running)[0] == 200
    assert answer(stays)[0] == 200
    assert "/gone" not in paths(server)
    assert "/stays" in paths(server)
    server.log.wait(r"client=127\S+ has gone after \S+; its request is not run")


# ---- on the way between workers, and before it is accepted


def let_go(server, *running):
    """Opens the gate until these are answered; their statuses."""
    gate = os.open(server.cwd / "gate", os.O_RDWR)
    try:
        return [answer(client)[0] for client in running]
    finally:
        os.close(gate)


def test_queue_timeout_reaches_what_was_handed_over(busy):
    server, first, second, *clients = busy(6, "--queue-timeout", "0.4", workers=2)
    begun = time.monotonic()
    for number, client in enumerate(clients):
        ask(client, f"/queued/{number}")
    for client in clients:
        check_is_shed(client)
    assert time.monotonic() - begun >= 0.4
    assert let_go(server, first, second) == [200, 200]
    assert not [path for path in paths(server) if path.startswith("/queued")]


def test_queue_limit_reaches_what_was_handed_over(busy):
    server, first, second, *clients = busy(20, "--queue-limit", "3", workers=2)
    for number, client in enumerate(clients):
        ask(client, f"/queued/{number}")
    # Three in each worker, three between them; and two that looked at the same moment.
    shed = []
    while len(shed) < 20 - 3 * 3 - 1:
        left = [client for client in clients if client not in shed]
        found = select.select(left, [], [], 10)[0]
        assert found, f"{len(shed)} are shed"
        for client in found:
            check_is_shed(client)
        shed += found
    assert let_go(server, first, second) == [200, 200]
    left = [client for client in clients if client not in shed]
    served = [answer(client)[0] for client in left].count(200)
    assert served >= 3
    assert len([path for path in paths(server) if path.startswith("/queued")]) == served


def test_a_request_whose_client_has_gone_while_it_was_handed_over_is_not_run(busy):
    server, first, second, gone, stays, proof = busy(3, "--log-level", "debug", workers=2)
    ask(gone, "/gone")
    ask(stays, "/stays")
    gone.close()
    proof.sendall(b"nonsense\r\n\r\n")
    assert answer(proof)[0] == 400
    time.sleep(0.2)
    assert let_go(server, first, second) == [200, 200]
    assert answer(stays)[0] == 200
    server.log.wait(r"client=127\S+ has gone after \S+; its request is not run")
    assert "/gone" not in paths(server)


def test_a_request_whose_client_has_gone_before_it_was_accepted_is_not_run(busy):
    server, running = busy(0, "--log-level", "debug")
    with server.connect() as gone:
        ask(gone, "/gone")
    with server.connect() as stays:
        ask(stays, "/stays")
        time.sleep(0.3)
        server.open_gate()
        assert answer(running)[0] == 200
        assert answer(stays)[0] == 200
    server.log.wait(r"client=127\S+ has gone after \S+; its request is not run")
    assert "/gone" not in paths(server)


def test_queue_timeout_counts_the_time_before_a_connection_is_accepted(busy):
    server, running = busy(0, "--queue-timeout", "0.4")
    with server.connect() as late:
        ask(late, "/late")
        time.sleep(0.6)
        server.open_gate()
        check_is_shed(late)
    assert answer(running)[0] == 200
    assert "/late" not in paths(server)
