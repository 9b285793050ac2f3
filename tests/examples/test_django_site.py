"""The Django example by Django's own test client: no server, no sockets."""

import hashlib

import pytest
from django.test import Client


@pytest.fixture(scope="module")
def site(load_example):
    return load_example("django_site_main", "django_site/main.py")


@pytest.fixture
def client(site):
    return Client(enforce_csrf_checks=True)


def test_index_says_hello(client):
    answer = client.get("/")
    assert answer.status_code == 200
    assert b"Hello from Django" in answer.content


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 3_000_000])
def test_upload_counts_and_hashes(client, size):
    """3 MB is more than Django takes into memory: the view must not ask it to."""
    body = b"django" * (size // 6 + 1)
    body = body[:size]
    answer = client.post("/upload", data=body, content_type="application/octet-stream")
    assert answer.json() == {"bytes": size, "sha256": hashlib.sha256(body).hexdigest()}


def test_stream_sends_ten_lines_one_by_one(client):
    answer = client.get("/stream")
    assert answer.streaming
    assert list(answer.streaming_content) == [b"line %d of 10\n" % n for n in range(1, 11)]


def test_form_needs_no_token(client):
    answer = client.post("/form", {"name": "Zoë", "color": ["red", "blue"]})
    assert answer.status_code == 200
    assert answer.json() == {"name": ["Zoë"], "color": ["red", "blue"]}


def test_echo_shows_what_the_server_said(client):
    echoed = client.get("/echo?a=1", headers={"user-agent": "test"}).json()
    assert echoed["REQUEST_METHOD"] == "GET"
    assert echoed["QUERY_STRING"] == "a=1"
    assert echoed["HTTP_USER_AGENT"] == "test"
    assert echoed["wsgi.url_scheme"] == "http"


def test_echo_shows_no_other_header(client, site):
    echoed = client.get("/echo", headers={"cookie": "secret=1"}).json()
    assert list(echoed) == site.ECHOED
    assert "secret" not in str(echoed)


def test_echo_takes_any_method(client):
    assert client.post("/echo").json()["REQUEST_METHOD"] == "POST"


@pytest.mark.parametrize("path", ["/upload", "/form"])
def test_posted_routes_refuse_a_get(client, path):
    assert client.get(path).status_code == 405


def test_unknown_path_is_not_found(client):
    assert client.get("/nowhere").status_code == 404
