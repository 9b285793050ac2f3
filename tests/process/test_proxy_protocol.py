"""The PROXY protocol: who the client is, according to a load balancer that speaks no HTTP."""

import struct
from signal import SIGHUP

import pytest
from load import response

WHOM = """
    def app(environ, start_response):
        seen = [environ["REMOTE_ADDR"], environ["REMOTE_PORT"], environ["wsgi.url_scheme"]]
        body = " ".join(seen).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
"""
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
V1 = b"PROXY TCP4 1.2.3.4 5.6.7.8 999 80\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V2 = SIGNATURE + b"\x21\x11\0\x0c" + bytes([1, 2, 3, 4, 5, 6, 7, 8]) + struct.pack("!HH", 999, 80)
LOCAL = SIGNATURE + b"\x20\0\0\0"


def ask(connection, data=GET):
    connection.sendall(data)
    head, body = response(connection)
    return int(head[9:12]), body.decode()


@pytest.mark.parametrize("header", [V1, V2])
@pytest.mark.parametrize("step", [1, 1000])
def test_the_client_is_whom_the_proxy_names(serve, header, step):
    server = serve(WHOM, "--proxy-protocol", "auto", "--access-logfile", "-")
    with server.connect() as connection:
        data = header + GET
        for at in range(0, len(data), step):
            connection.sendall(data[at : at + step])
        assert ask(connection, b"") == (200, "1.2.3.4 999 http")
        assert ask(connection) == (200, "1.2.3.4 999 http"), "once for the connection"
    server.out.wait("^1.2.3.4 ", count=2)


PLACE = """
    def app(environ, start_response):
        names = ("PROXY_PROTOCOL", "PROXY_ADDR", "PROXY_PORT")
        body = " ".join(str(environ.get(name)) for name in names).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
"""
SIX = b"PROXY TCP6 2001:db8::1 2001:db8::2 999 443\r\n"


@pytest.mark.parametrize(
    ("header", "place"),
    [
        (V1, "TCP4 5.6.7.8 80"),
        (V2, "TCP4 5.6.7.8 80"),
        (SIX, "TCP6 2001:db8::2 443"),
        (b"PROXY UNKNOWN\r\n", "None None None"),
        (LOCAL, "None None None"),
    ],
)
def test_the_environ_tells_where_the_client_has_found_the_proxy(serve, header, place):
    server = serve(PLACE, "--proxy-protocol", "auto")
    with server.connect() as connection:
        assert ask(connection, header + GET) == (200, place)
        assert ask(connection) == (200, place)


def test_without_a_proxy_the_environ_tells_of_none(serve):
    server = serve(PLACE)
    with server.connect() as connection:
        assert ask(connection) == (200, "None None None")


def test_a_proxy_that_speaks_for_itself_is_the_client(serve):
    server = serve(WHOM, "--proxy-protocol", "v2")
    with server.connect() as connection:
        assert ask(connection, LOCAL + GET)[1].startswith("127.0.0.1 ")


@pytest.mark.parametrize(
    ("mode", "data"),
    [
        ("auto", GET),
        ("v1", V2 + GET),
        ("v2", V1 + GET),
        ("v1", b"PROXY TCP4 1.2.3.4 5.6.7.8 99999 80\r\n" + GET),
        ("auto", V1 + V1 + GET),
    ],
)
def test_a_connection_without_a_valid_header_is_refused(serve, mode, data):
    server = serve(WHOM, "--proxy-protocol", mode)
    assert server.raw(data).startswith(b"HTTP/1.1 400 ")


def test_others_are_clients_of_their_own(serve):
    server = serve(WHOM, "--proxy-protocol", "auto", "--proxy-allow-from", "10.0.0.0/8")
    with server.connect() as connection:
        assert ask(connection)[1].startswith("127.0.0.1 ")
    assert server.raw(V1 + GET).startswith(b"HTTP/1.1 400 ")


def test_headers_are_believed_by_the_client_s_address(serve):
    """A load balancer that speaks no HTTP passes on what the client has written."""
    request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n"
    server = serve(WHOM, "--proxy-protocol", "v1")
    with server.connect() as connection:
        assert ask(connection, V1 + request)[1] == "1.2.3.4 999 http"
    server = serve(WHOM, "--proxy-protocol", "v1", "--forwarded-allow-ips", "1.2.3.0/24")
    with server.connect() as connection:
        assert ask(connection, V1 + request)[1] == "1.2.3.4 999 https"


def test_a_connection_that_is_handed_over_keeps_its_client(serve):
    server = serve(WHOM, "--proxy-protocol", "auto", workers=2)
    connections = [server.connect() for _ in range(4)]
    for connection in connections:
        assert ask(connection, V2 + GET)[1] == "1.2.3.4 999 http"
    for generation in (2, 3):
        server.signal(SIGHUP)
        server.log.wait(rf"gen={generation} serves with workers=2")
        for connection in connections:
            assert ask(connection)[1] == "1.2.3.4 999 http"
    for connection in connections:
        connection.close()
