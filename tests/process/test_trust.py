"""Whom the server believes: headers of proxies, and of those who are none."""

import json
import re
import socket

import pytest
from harness import Server, run

KEYS = """
    import json

    KEYS = "REMOTE_ADDR REMOTE_PORT wsgi.url_scheme SERVER_NAME SERVER_PORT HTTP_HOST".split()

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        starts = ("HTTP_", "SCRIPT", "PATH")
        seen = {k: v for k, v in environ.items() if k in KEYS or k.startswith(starts)}
        return [json.dumps(seen).encode()]
"""


def ask(server, **headers):
    """The environ for a request with these headers, of the names in KEYS."""
    fields = {name.replace("__", "-"): value for name, value in headers.items()}
    status, _, body = server.get("/app/x", headers={"Host": "in.example", **fields})
    assert status == 200
    return json.loads(body)


FORWARDED = {
    "X__Forwarded__For": "6.6.6.6, 1.2.3.4",
    "X__Forwarded__Proto": "https",
    "X__Forwarded__Host": "out.example",
}


@pytest.mark.parametrize(
    ("headers", "scheme"),
    [
        ({"X__Forwarded__Proto": "https"}, "https"),
        ({"X__Forwarded__Protocol": "ssl"}, "https"),
        ({"X__Forwarded__Ssl": "on"}, "https"),
        ({"X__Forwarded__Proto": "http"}, "http"),
        ({"X__Forwarded__Proto": "spdy"}, "http"),
        ({}, "http"),
    ],
)
def test_a_trusted_proxy_tells_the_scheme(server, headers, scheme):
    assert ask(server, **headers)["wsgi.url_scheme"] == scheme


@pytest.fixture(scope="module")
def server():
    with Server(KEYS, "--workers", "1", workers=None) as server:
        yield server


def test_headers_that_contradict_each_other_are_refused(server):
    status, _, body = server.get(
        headers={"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "off"},
    )
    assert (status, b"contradict" in body) == (400, True)


def test_without_a_number_of_proxies_only_the_scheme_is_believed(server):
    seen = ask(server, **FORWARDED)
    assert (seen["REMOTE_ADDR"], seen["HTTP_HOST"]) == ("127.0.0.1", "in.example")


def test_whoever_is_no_trusted_proxy_is_not_believed(serve):
    server = serve(KEYS, "--forwarded-allow-ips", "10.0.0.0/8", "--trust-forwarded", 1)
    seen = ask(server, **FORWARDED, X__Request__ID="mine", SCRIPT_NAME="/app")
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("127.0.0.1", "http")
    assert (seen["HTTP_HOST"], seen["SCRIPT_NAME"]) == ("in.example", "")
    assert seen["HTTP_X_REQUEST_ID"] != "mine"


@pytest.mark.parametrize(
    ("hops", "headers", "expected"),
    [
        (1, FORWARDED, ("1.2.3.4", None, "https", "out.example", "443", "out.example")),
        (2, FORWARDED, ("6.6.6.6", None, "https", "out.example", "443", "out.example")),
        (3, FORWARDED, ("127.0.0.1", ..., "https", "out.example", "443", "out.example")),
        (
            1,
            {"X__Forwarded__For": "[2001:db8::1]:99", "X__Forwarded__Port": "8443"},
            ("2001:db8::1", "99", "http", "in.example", "8443", "in.example:8443"),
        ),
        (1, {}, ("127.0.0.1", ..., "http", ..., ..., "in.example")),
    ],
)
def test_the_first_of_so_many_proxies_says_who_the_client_is(serve, hops, headers, expected):
    server = serve(KEYS, "--trust-forwarded", hops, "--forwarded-allow-ips", "127.0.0.0/8")
    seen = ask(server, **headers)
    names = ["REMOTE_ADDR", "REMOTE_PORT", "wsgi.url_scheme"]
    names += ["SERVER_NAME", "SERVER_PORT", "HTTP_HOST"]
    for name, value in zip(names, expected, strict=True):
        assert value is ... or seen.get(name) == value, (name, seen)


def test_forwarded_is_read_if_the_proxies_speak_it(serve):
    server = serve(KEYS, "--trust-forwarded", 1, "--forwarded-style", "forwarded")
    value = 'for=6.6.6.6, for="[2001:db8::7]:80";proto=https;host=out.example'
    seen = ask(server, Forwarded=value, X__Forwarded__For="1.2.3.4")
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("2001:db8::7", "https")
    assert seen["HTTP_HOST"] == "out.example"


def test_whoever_comes_by_a_unix_socket_is_trusted(serve, tmp_path):
    path = str(tmp_path / "socket")
    serve(KEYS, "--bind", f"unix:{path}", "--forwarded-allow-ips", "none", "--trust-forwarded", 1)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(b"GET / HTTP/1.0\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["REMOTE_ADDR"] == "1.2.3.4"


# ---- headers with an underscore


def test_a_mounted_application_gets_the_rest_of_the_path(server):
    seen = ask(server, SCRIPT_NAME="/app")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/app", "/x")
    seen = ask(server, SCRIPT_NAME="/ap")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/ap", "/app/x")


def test_a_dropped_header_is_logged_once_for_its_name(serve):
    server = serve(KEYS)
    for name in ("X_Real_Ip", "x_real_ip", "X_Other"):
        assert not any("1.1.1.1" in value for value in ask(server, **{name: "1.1.1.1"}).values())
    assert server.stop() == 0
    assert server.log.count("the header (?i:x_real_ip) is left out") == 1
    assert server.log.count("the header X_Other is left out") == 1


def test_a_client_cannot_fill_the_log_with_invented_names(serve):
    server = serve(KEYS)
    for number in range(3):
        ask(server, **{f"X_{number}_{other}": "1" for other in range(30)})
    assert server.stop() == 0
    assert 0 < server.log.count("is left out") < 50


@pytest.mark.parametrize(("what", "status"), [("refuse", 400), ("dangerous", 200)])
def test_header_map_refuses_or_keeps_them(serve, what, status):
    server = serve(KEYS, "--header-map", what)
    answer = server.get(headers={"X_Real_Ip": "1.1.1.1"})
    assert answer[0] == status
    assert (b'"HTTP_X_REAL_IP": "1.1.1.1"' in answer[2]) == (status == 200)
    # What a trusted proxy may send is not refused.
    assert server.get(headers={"SCRIPT_NAME": "/a"})[0] == 200


@pytest.mark.parametrize("value", ["10.0.0.0/33", "localhost"])
def test_what_is_no_network_is_a_usage_error(tmp_path, value):
    (tmp_path / "main.py").write_text("app = print\n")
    code, _, errors = run("--forwarded-allow-ips", value, "main:app", cwd=tmp_path)
    assert code == 2
    assert f"--forwarded-allow-ips: '{value}' is no address" in errors


# ---- the request's name


def test_a_request_has_one_name_in_the_environ_and_in_all_logs(serve):
    app = """
        def app(environ, start_response):
            if environ["PATH_INFO"] == "/raise":
                raise RuntimeError(environ["HTTP_X_REQUEST_ID"])
            start_response("200 OK", [])
            return [environ["HTTP_X_REQUEST_ID"].encode()]
    """
    server = serve(app, "--access-logfile", "-", "--access-logformat", "%(request_id)s")
    made = server.get()[2].decode()
    assert re.fullmatch("[0-9a-f]{24}", made)
    assert server.get(headers={"X-Request-ID": "given-1"})[2] == b"given-1"
    assert server.get(headers={"X-Request-ID": "not a name"})[2] not in (b"not a name", b"")
    assert server.get("/raise", headers={"X-Request-ID": "given-2"})[0] == 500
    server.log.wait(r'request="GET /raise" client=\S+: the application raised id=given-2')
    server.out.wait("given-2")
    assert server.out.lines[:2] == [made, "given-1"]
    assert len(set(server.out.lines)) == 4


def test_a_request_needs_no_name(serve):
    server = serve(KEYS, "--no-request-id", "--access-logfile", "-", "--access-logformat", "json")
    assert "HTTP_X_REQUEST_ID" not in ask(server)
    server.out.wait('"request_id":null')
