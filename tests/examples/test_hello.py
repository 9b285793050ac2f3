"""The smallest example keeps every clause of PEP 3333."""

from wsgiref.handlers import SimpleHandler
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator


def test_hello_is_valid_wsgi(load_example, tmp_path):
    app = load_example("hello", "hello.py").app
    environ = {"QUERY_STRING": ""}
    setup_testing_defaults(environ)
    answer = tmp_path / "answer"

    with (tmp_path / "errors").open("w") as errors, answer.open("wb") as out:
        handler = SimpleHandler(environ["wsgi.input"], out, errors, environ)
        handler.run(validator(app))

    head, _, body = answer.read_bytes().partition(b"\r\n\r\n")
    assert b"200 OK" in head.splitlines()[0]
    assert body == b"Hello, world!\n"
