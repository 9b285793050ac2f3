"""PEP 3333, "environ Variables": what the application is told about a request."""

import contextlib
import itertools
import json
import random
import re
import socket
from types import SimpleNamespace

import pytest
import wire
from harness import PATIENCE, read_proc

pytestmark = pytest.mark.every_class("sync", "threads", "async")


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory):
    return str(tmp_path_factory.mktemp("unix") / "socket")


@pytest.fixture(scope="module")
def server(serve, socket_path):
    return serve("environ:application", "--bind", f"unix:{socket_path}")


@pytest.fixture
def told(server):
    """told(...): the environ of one request; the arguments are those of `wire.request`."""

    def tell(*args, **kwargs):
        return json.loads(wire.ask(server, *args, **kwargs).body)["plain"]

    return tell


@pytest.fixture
def told_in_turn(server):
    """The same for several lists of fields, on one connection."""

    def tell(*lists):
        with wire.Client(server) as client:
            answers = [client.ask("/", fields=fields) for fields in lists]
        return [json.loads(answer.body)["plain"] for answer in answers]

    return tell


# ---- the whole


def test_a_bare_request_has_these_keys_and_no_others(server):
    with wire.Client(server) as client:
        got = json.loads(client.ask("/a?b", fields=["Host: h.example:81"]).body)
        port = client.port
    name = got["plain"]["HTTP_X_REQUEST_ID"]
    assert len(name) == 24
    assert got["plain"] == {
        "HTTP_X_REQUEST_ID": name,
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a",
        "QUERY_STRING": "b",
        "RAW_URI": "/a?b",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(server.address[1]),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": got["plain"]["SERVER_SOFTWARE"],
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": str(port),
        "HTTP_HOST": "h.example:81",
        "wsgi.version": [1, 0],
        "wsgi.url_scheme": "http",
        "wsgi.multithread": "-k" in server.arguments,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    assert got["plain"]["SERVER_SOFTWARE"].startswith("serve/")
    others = {"wsgi.input", "wsgi.errors", "wsgi.file_wrapper"}
    others |= {"serve.extend_timeout", "serve.RequestTimeout"}
    assert set(got["keys"]) == set(got["plain"]) | others


def test_environ_is_a_dict_and_its_values_have_the_types_of_the_pep(server):
    got = json.loads(wire.ask(server, "/", method="POST", body=b"x").body)
    assert got["type"] == "dict"
    types = got["types"]
    assert types.pop("wsgi.version") == "tuple"
    flags = ["wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once", "wsgi.input_terminated"]
    assert [types.pop(flag) for flag in flags] == ["bool"] * 4
    for stream in ("wsgi.input", "wsgi.errors", "wsgi.file_wrapper"):
        types.pop(stream)
    for ours in ("serve.extend_timeout", "serve.RequestTimeout"):
        types.pop(ours)
    assert set(types.values()) == {"str"}


def test_what_an_application_does_to_its_environ_is_gone_with_the_request(told_in_turn):
    """The application overwrites every value it is given."""
    first, second = told_in_turn(["X-A: 1"], ["X-A: 1"])
    assert first.pop("HTTP_X_REQUEST_ID") != second.pop("HTTP_X_REQUEST_ID") != "spoilt"
    assert first == second
    assert "spoilt" not in [*second, *second.values()]


def test_workers_beside_it_are_told_of_as_multiprocess(serve):
    server = serve("environ:application", workers=2)
    assert json.loads(wire.ask(server).body)["plain"]["wsgi.multiprocess"] is True


def test_errors_takes_text_and_shows_it_in_the_log(server):
    wire.ask(server, "/log")
    server.log.wait("^one, two: h\u00e9$")


# ---- the target


@pytest.mark.parametrize(
    ("path", "decoded"),
    [
        ("/", "/"),
        ("/a%20b", "/a b"),
        ("/a+b", "/a+b"),
        ("/a%2Fb%2fc", "/a/b/c"),
        ("/%C3%A9", "/\u00c3\u00a9"),  # UTF-8, each byte a character (PEP 3333)
        ("/%E9", "/\u00e9"),
        ("/%00%7f%FF", "/\0\x7f\xff"),
        ("/%2541", "/%41"),  # once only
        ("/%", "/%"),
        ("/%4", "/%4"),
        ("/%zz%41", "/%zzA"),
        ("/a/../b/./c", "/a/../b/./c"),
        ("//a//b/", "//a//b/"),
        ("/a;b=c,d", "/a;b=c,d"),
        ("/%3Fa%23b", "/?a#b"),
    ],
)
def test_the_path_is_decoded_once_to_latin_1(told, path, decoded):
    environ = told(path)
    assert environ["PATH_INFO"] == decoded
    assert (environ["SCRIPT_NAME"], environ["QUERY_STRING"]) == ("", "")
    assert environ["RAW_URI"] == path


@pytest.mark.parametrize(
    "query", ["", "a=b&c", "a=%2F%C3%A9&b=+", "?", "a?b=/c", "%", "x=http://a/?b"]
)
def test_the_query_string_is_as_sent(told, query):
    environ = told(f"/p%20q?{query}")
    assert environ["QUERY_STRING"] == query
    assert environ["PATH_INFO"] == "/p q"
    assert environ["RAW_URI"] == f"/p%20q?{query}"


@pytest.mark.parametrize(
    ("target", "host", "path", "query"),
    [
        ("http://real.example:81/a%20b?c", "real.example:81", "/a b", "c"),
        ("HTTP://real.example/", "real.example", "/", ""),
        ("http://real.example", "real.example", "/", ""),
        ("http://real.example?q=1", "real.example", "/", "q=1"),
        ("http://[::1]:8/x", "[::1]:8", "/x", ""),
    ],
)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_an_absolute_target_replaces_host(told, version, target, host, path, query):
    """RFC 9112 section 3.2.2."""
    environ = told(target, fields=["Host: forged.example"], version=version)
    assert environ["HTTP_HOST"] == host
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == (path, query)
    assert environ["RAW_URI"] == target


def test_an_absolute_target_does_not_change_the_host_of_the_next_request(server):
    with wire.Client(server) as client:
        hosts = [
            json.loads(client.ask(target, fields=["Host: own.example"]).body)["plain"]["HTTP_HOST"]
            for target in ("http://other.example/", "/")
        ]
    assert hosts == ["other.example", "own.example"]


def test_options_of_the_server_has_an_asterisk_for_a_path(told):
    environ = told("*", method="OPTIONS")
    assert (environ["REQUEST_METHOD"], environ["PATH_INFO"]) == ("OPTIONS", "*")
    assert environ["HTTP_HOST"] == "test.example"


@pytest.mark.parametrize("method", ["GET", "PATCH", "PROPFIND", "get", "M-SEARCH", "X!"])
def test_the_method_is_as_sent(told, method):
    assert told(method=method)["REQUEST_METHOD"] == method


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_the_protocol_is_the_clients(told, version):
    assert told(version=version)["SERVER_PROTOCOL"] == f"HTTP/{version}"


def test_the_protocol_of_one_client_is_not_another_s(told):
    versions = [told(version=v)["SERVER_PROTOCOL"] for v in ("1.0", "1.1", "1.0")]
    assert versions == ["HTTP/1.0", "HTTP/1.1", "HTTP/1.0"]


# ---- header fields


@pytest.mark.parametrize(
    ("fields", "key", "value"),
    [
        (["X-One: 1"], "HTTP_X_ONE", "1"),
        (["x-OnE: 1"], "HTTP_X_ONE", "1"),
        (["X-Space:  \t a  b \t "], "HTTP_X_SPACE", "a  b"),
        (["X-Empty:"], "HTTP_X_EMPTY", ""),
        (["X-High: \u00e9\u00ff"], "HTTP_X_HIGH", "\u00e9\u00ff"),
        (["X-Colon: a:b"], "HTTP_X_COLON", "a:b"),
        (["X.Dot!~: a"], "HTTP_X.DOT!~", "a"),
        (["Authorization: Basic eDp5"], "HTTP_AUTHORIZATION", "Basic eDp5"),
        (["Connection: keep-alive"], "HTTP_CONNECTION", "keep-alive"),
        (["Content-Type: text/x"], "CONTENT_TYPE", "text/x"),
        (["content-type: a", "Content-Type: b"], "CONTENT_TYPE", "a,b"),
        (["Accept: a", "Accept: b", "Accept: c"], "HTTP_ACCEPT", "a,b,c"),
        (["X-Twice: a", "x-twice: b", "X-TWICE: c"], "HTTP_X_TWICE", "a,b,c"),
        (["X-Twice: a", "X-Other: o", "X-Twice: a"], "HTTP_X_TWICE", "a,a"),
        (["X-Twice:", "X-Twice:"], "HTTP_X_TWICE", ","),
        (["Cookie: a=1", "Cookie: b=2; c=3"], "HTTP_COOKIE", "a=1; b=2; c=3"),
        (["Cookie: a=1", "cookie: b=2"], "HTTP_COOKIE", "a=1; b=2"),
    ],
)
def test_a_field_becomes_a_key(told, fields, key, value):
    assert told(fields=fields)[key] == value


@pytest.mark.parametrize(
    "field",
    [
        "X_Real_Ip: 6.6.6.6",
        "X-Real_Ip: 6.6.6.6",
        "x_real-ip: 6.6.6.6",
    ],
)
@pytest.mark.parametrize("genuine", [[], ["X-Real-Ip: 1.1.1.1"]])
def test_a_name_with_an_underscore_cannot_forge_the_dashed_one(told, field, genuine):
    expected = "1.1.1.1" if genuine else None
    for fields in ([field, *genuine], [*genuine, field]):
        assert told(fields=fields).get("HTTP_X_REAL_IP") == expected


def test_underscores_cannot_forge_what_describes_the_body(told):
    environ = told(method="POST", body=b"abc", fields=["Content_Length: 9", "Content_Type: a/b"])
    assert environ["CONTENT_LENGTH"] == "3"
    assert "CONTENT_TYPE" not in environ


@pytest.mark.parametrize("name", ["Proxy", "proxy", "PROXY"])
def test_a_client_cannot_set_the_proxy_of_the_application(told, name):
    """Applications' HTTP clients read HTTP_PROXY as a setting (CVE-2016-5385)."""
    environ = told(fields=[f"{name}: http://evil.example", "Proxy-Connection: close"])
    assert "HTTP_PROXY" not in environ
    assert environ["HTTP_PROXY_CONNECTION"] == "close"


def test_the_body_is_described_only_if_there_is_one(told):
    environ = told(fields=["X-A: b"])
    assert not {"CONTENT_TYPE", "CONTENT_LENGTH"} & set(environ)


@pytest.mark.parametrize("body", [b"", b"abc"])
def test_the_body_is_described_without_http_in_front(told, body):
    environ = told(method="POST", body=body, fields=["Content-Type: a/b"])
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"]) == ("a/b", str(len(body)))
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & set(environ)


@pytest.mark.parametrize("chunks", [[], [b"a", b"bc"]])
def test_a_chunked_body_arrives_with_its_length(server, chunks):
    """It is whole, so the application need not know that it came in chunks."""
    got = json.loads(wire.ask(server, method="POST", body=chunks).body)
    environ = got["plain"]
    assert environ["CONTENT_LENGTH"] == str(len(b"".join(chunks)))
    assert environ["wsgi.input_terminated"] is True
    assert "HTTP_TRANSFER_ENCODING" not in environ
    assert got["body"].encode() == b"".join(chunks)


# ---- what the server remembers from one request to the next


def test_a_value_that_changes_between_requests_is_the_new_one(told_in_turn):
    sent = ["a", "a", "b", "a", "", "a", "ab"]
    got = told_in_turn(*[[f"X-A: {value}"] for value in sent])
    assert [environ["HTTP_X_A"] for environ in got] == sent


def test_a_field_of_one_request_is_not_in_the_next(told_in_turn):
    first, second = told_in_turn(["X-Secret: a", "Cookie: b", "Content-Type: c/d"], [])
    assert "HTTP_X_SECRET" in first
    assert not {"HTTP_X_SECRET", "HTTP_COOKIE", "CONTENT_TYPE"} & set(second)


def test_a_repeated_field_does_not_stay_repeated(told_in_turn):
    got = told_in_turn(["X-A: 1", "X-A: 2"], ["X-A: 2"], ["X-A: 1"], ["X-A: 1", "x-a: 2"])
    assert [environ["HTTP_X_A"] for environ in got] == ["1,2", "2", "1", "1,2"]


def test_thousands_of_fields_with_one_name_are_joined_in_no_time(serve):
    server = serve("environ:application", "--limit-request-fields", "0", "--request-timeout", "5")
    answer = wire.ask(server, "/", fields=["A:1", "a:2"] * 6000)
    assert answer.status == 200
    assert json.loads(answer.body)["plain"]["HTTP_A"] == ",".join(["1", "2"] * 6000)


def test_path_query_and_method_change_with_the_request(server):
    asked = [("GET", "/a", "x"), ("GET", "/a", "x"), ("PUT", "/b", "y"), ("GET", "/a", "x")]
    with wire.Client(server) as client:
        got = [json.loads(client.ask(f"{p}?{q}", method=m).body)["plain"] for m, p, q in asked]
    keys = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING")
    assert [tuple(environ[key] for key in keys) for environ in got] == asked


def test_names_beyond_what_is_remembered_are_still_right(told_in_turn):
    """More different names than the server keeps, and then the first ones again."""
    names = [f"X-Name-{number}" for number in range(640)]
    groups = [names[at : at + 80] for at in range(0, len(names), 80)]
    for turn in ("first", "second"):
        got = told_in_turn(*[[f"{name}: {turn} {name}" for name in group] for group in groups])
        for group, environ in zip(groups, got, strict=True):
            keys = {f"HTTP_{name.upper().replace('-', '_')}": f"{turn} {name}" for name in group}
            assert keys.items() <= environ.items()
            assert sum(key.startswith("HTTP_X_NAME") for key in environ) == len(group)


# ---- a unix socket


@pytest.fixture
def elsewhere(server):
    """The same server for a client of another address."""

    def connect(timeout=PATIENCE):
        return socket.create_connection(server.address, timeout, ("127.0.0.2", 0))

    return SimpleNamespace(connect=connect)


@pytest.fixture
def unix(socket_path):
    """The same server by its other door."""

    def connect(timeout=PATIENCE):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(socket_path)
        return connection

    return SimpleNamespace(connect=connect)


FIELDS = [
    "Host: h.example:81",
    "Host: h.example",
    "Host: h.example\r\nX-A: 1\r\nCookie: a=b\r\nX-A: 2",
    "Host: h.example\r\nX_Dropped: 1\r\nContent-Length: 0",
    "Host: h.example\r\nX-Forwarded-Proto: https",
    "Host: h.example\r\nTransfer-Encoding: chunked\r\n\r\n0",
]
LINES = [
    "GET / HTTP/1.1",
    "GET /%20a?b=c HTTP/1.1",
    "POST /%20a?b=c HTTP/1.1",
    "GET /old HTTP/1.0\r\nConnection: keep-alive",
    "GET /new HTTP/1.1\r\nConnection: keep-alive",
    "GET http://else.example:82/a HTTP/1.1",
    "OPTIONS * HTTP/1.1",
]


def lines_for(fields):
    """HTTP/1.0 knows no transfer codings."""
    return [line for line in LINES if "chunked" not in fields or "HTTP/1.0" not in line]


def test_requests_that_repeat_are_told_of_as_those_that_do_not(server, elsewhere, unix):
    """The environ of one may begin with that of another; the application spoils each."""
    rng = random.Random(7)
    doors = {"tcp": server, "elsewhere": elsewhere, "unix": unix}
    known = {}

    def tell(client, line, fields):
        client.send(f"{line}\r\n{fields}\r\n\r\n".encode())
        environ = json.loads(client.answer().body)["plain"]
        assert environ.pop("HTTP_X_REQUEST_ID") != "spoilt"
        if "REMOTE_PORT" in environ:
            assert environ.pop("REMOTE_PORT") == str(client.port)
        return environ

    with contextlib.ExitStack() as stack:
        clients = [
            (name, stack.enter_context(wire.Client(door)))
            for name, door in doors.items()
            for _ in range(2)
        ]
        for (name, client), fields in itertools.product(clients[::2], FIELDS):
            for line in lines_for(fields):
                tell(client, "GET / HTTP/1.1", f"Host: a\r\nX-Unlike: {len(known)}")
                known[name, line, fields] = tell(client, line, fields)
        assert len({json.dumps(environ, sort_keys=True) for environ in known.values()}) > 90
        for _ in range(300):
            fields = rng.choice(FIELDS)
            for _ in range(rng.randrange(1, 6)):
                (name, client), line = rng.choice(clients), rng.choice(lines_for(fields))
                assert tell(client, line, fields) == known[name, line, fields], (name, line)


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        ("h.example", "h.example", "80"),
        ("h.example:8080", "h.example", "8080"),
        ("h.example:", "h.example", "80"),
        ("[::1]", "[::1]", "80"),
        ("[::1]:9", "[::1]", "9"),
        ("", "localhost", "80"),
    ],
)
def test_behind_a_unix_socket_host_says_what_the_server_is_called(server, unix, host, name, port):
    environ = json.loads(wire.ask(unix, fields=[f"Host: {host}"]).body)["plain"]
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, port)
    assert environ["REMOTE_ADDR"] == ""
    assert "REMOTE_PORT" not in environ


def test_behind_a_unix_socket_an_old_client_need_not_send_host(server, unix):
    with wire.Client(unix) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        environ = json.loads(client.answer().body)["plain"]
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", "80")
    assert "HTTP_HOST" not in environ


def test_names_that_clients_make_up_are_not_kept(serve):
    server = serve("environ:application")
    [worker] = server.worker_pids()
    with wire.Client(server) as client:
        for turn in range(300):
            fields = [f"X-{turn}-{n}-{'a' * 600}: 1" for n in range(80)]
            assert client.ask("/", fields=fields).status == 200
            if turn == 50:
                before = resident(worker)
    # Their 12 MB, and nothing that grows but them.
    assert resident(worker) - before < 5_000_000


def resident(pid):
    """Bytes of memory that a process has."""
    return int(re.search(r"^VmRSS:\s+(\d+) kB$", read_proc(pid, "status"), re.M)[1]) * 1024
