"""The examples, served for real: every route of the Flask one and of the Django one."""

import hashlib
import json
import random
from pathlib import Path

import pytest
import wire

pytestmark = pytest.mark.every_class("sync", "threads", "async")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BODY = random.Random(1).randbytes(1_500_000)
UPLOADED = {"bytes": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}
PIECES = [BODY[at : at + 99_991] for at in range(0, len(BODY), 99_991)]


@pytest.fixture(scope="module")
def flask(serve):
    return serve("main:app", cwd=EXAMPLES / "flask_distance")


@pytest.fixture(scope="module")
def django(serve):
    return serve("main:application", cwd=EXAMPLES / "django_site")


def json_of(answer):
    assert answer.ending == wire.WHOLE
    assert answer.field("Content-Type") == "application/json"
    assert answer.field("Content-Length") == str(len(answer.body))
    return json.loads(answer.body)


def test_hello(serve):
    server = serve("hello:app", cwd=EXAMPLES)
    assert wire.ask(server).body == b"Hello, world!\n"


# ---- Flask


def test_flask_renders_a_page(flask):
    with wire.Client(flask) as client:
        page = client.ask("/")
        assert page.field("Content-Type") == "text/html; charset=utf-8"
        assert b"<form" in page.body and page.body.rstrip().endswith(b"</html>")
        head = client.ask("/", method="HEAD")
        assert head.field("Content-Length") == str(len(page.body))


def test_flask_answers_the_question(flask):
    answer = wire.ask(flask, "/distance?base=seoul&target=tokyo")
    found = json_of(answer)
    assert (found["base"], found["target"]) == ("Seoul", "Tokyo")
    assert found["km"] == pytest.approx(1153, rel=0.005)


def test_flask_is_told_non_ascii_names(flask):
    answer = wire.ask(flask, "/distance?base=S%C3%A3o+Paulo&target=lima")
    assert json_of(answer)["base"] == "S\u00e3o Paulo"
    assert "S\u00e3o Paulo".encode() in answer.body


@pytest.mark.parametrize(
    ("target", "method", "status"),
    [
        ("/distance", "GET", 400),
        ("/distance?base=seul&target=tokyo", "GET", 400),
        ("/nowhere", "GET", 404),
        ("/upload", "GET", 405),
        ("/stream?count=x", "GET", 400),
    ],
)
def test_flask_s_own_errors_are_flask_s(flask, target, method, status):
    answer = wire.ask(flask, target, method=method)
    assert answer.status == status
    assert json_of(answer)["error"]
    if status == 405:
        assert set(answer.field("Allow").split(", ")) == {"OPTIONS", "POST"}


def test_flask_lists_the_cities(flask):
    assert len(json_of(wire.ask(flask, "/cities"))) >= 150


@pytest.mark.parametrize("path", ["/io", "/cpu", "/mix"])
def test_flask_waits_and_computes(flask, path):
    found = json_of(wire.ask(flask, path))
    assert ("waited_ms" in found, "farthest" in found) == (path != "/cpu", path != "/io")


@pytest.mark.parametrize("body", [BODY, PIECES], ids=["length", "chunked"])
def test_flask_receives_an_upload(flask, body):
    assert json_of(wire.ask(flask, "/upload", method="POST", body=body)) == UPLOADED


def test_flask_streams(flask):
    answer = wire.ask(flask, "/stream?count=5")
    lines = [f"line {n} of 5\n".encode() for n in range(1, 6)]
    assert answer.body == b"".join(lines)
    assert answer.chunks == [len(line) for line in lines]


def test_flask_is_healthy_after_all_that(flask):
    assert json_of(wire.ask(flask, "/healthz")) == {"status": "ok"}


# ---- Django


def test_django_renders_a_page(django):
    answer = wire.ask(django, "/")
    assert answer.status == 200
    assert b"Hello from Django" in answer.body


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_django_reads_a_form(django, chunked):
    body = b"name=you&name=me&%C3%A9=%26"
    answer = wire.ask(
        django,
        "/form",
        method="POST",
        body=[body[:7], body[7:]] if chunked else body,
        fields=["Content-Type: application/x-www-form-urlencoded"],
    )
    assert json_of(answer) == {"name": ["you", "me"], "\u00e9": ["&"]}


def test_django_reads_a_multipart_form(django):
    body = b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nyou\r\n--b--\r\n'
    fields = ["Content-Type: multipart/form-data; boundary=b"]
    assert json_of(wire.ask(django, "/form", method="POST", body=body, fields=fields)) == {
        "name": ["you"]
    }


@pytest.mark.parametrize("body", [BODY, PIECES], ids=["length", "chunked"])
def test_django_receives_an_upload(django, body):
    assert json_of(wire.ask(django, "/upload", method="POST", body=body)) == UPLOADED


def test_django_streams(django):
    answer = wire.ask(django, "/stream")
    assert answer.body == b"".join(b"line %d of 10\n" % n for n in range(1, 11))
    assert len(answer.chunks) == 10


def test_django_is_told_about_the_request(django):
    answer = wire.ask(
        django,
        "/echo?a=b",
        method="POST",
        body=b"x",
        fields=["Content-Type: text/x", "User-Agent: me"],
    )
    told = json_of(answer)
    assert told["REQUEST_METHOD"] == "POST"
    assert (told["SCRIPT_NAME"], told["PATH_INFO"], told["QUERY_STRING"]) == ("", "/echo", "a=b")
    assert (told["CONTENT_TYPE"], told["CONTENT_LENGTH"]) == ("text/x", "1")
    assert (told["HTTP_HOST"], told["HTTP_USER_AGENT"]) == ("test.example", "me")
    assert told["wsgi.url_scheme"] == "http"
    assert told["wsgi.multithread"] is ("-k" in django.arguments)


@pytest.mark.parametrize(
    ("target", "method", "status"), [("/nowhere", "GET", 404), ("/form", "GET", 405)]
)
def test_django_s_own_errors_are_django_s(django, target, method, status):
    answer = wire.ask(django, target, method=method)
    assert answer.status == status
    assert answer.field("Server") == "serve"
