"""The frameworks people use, under every worker class: a page, and an upload of some megabytes."""

import hashlib

import pytest

FLASK = """
    from hashlib import sha256
    from flask import Flask, request

    app = Flask(__name__)

    @app.get("/")
    def hello():
        return "Hello, " + request.args["name"]

    @app.post("/upload")
    def upload():
        return sha256(request.files["file"].read()).hexdigest()
"""

DJANGO = """
    from hashlib import sha256
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse
    from django.urls import path

    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x")

    def hello(request):
        return HttpResponse("Hello, " + request.GET["name"])

    def upload(request):
        return HttpResponse(sha256(request.FILES["file"].read()).hexdigest())

    urlpatterns = [path("", hello), path("upload", upload)]
    app = get_wsgi_application()
"""

BOTTLE = """
    from hashlib import sha256
    import bottle

    app = bottle.Bottle()

    @app.get("/")
    def hello():
        return "Hello, " + bottle.request.query["name"]

    @app.post("/upload")
    def upload():
        return sha256(bottle.request.files["file"].file.read()).hexdigest()
"""

PYRAMID = """
    from hashlib import sha256
    from pyramid.config import Configurator
    from pyramid.response import Response

    def hello(request):
        return Response("Hello, " + request.params["name"])

    def upload(request):
        return Response(sha256(request.POST["file"].file.read()).hexdigest())

    with Configurator() as config:
        for name, path, view in [("hello", "/", hello), ("upload", "/upload", upload)]:
            config.add_route(name, path)
            config.add_view(view, route_name=name)
        app = config.make_wsgi_app()
"""

FALCON = """
    from hashlib import sha256
    import falcon

    class Hello:
        def on_get(self, request, response):
            response.text = "Hello, " + request.get_param("name")

    class Upload:
        def on_post(self, request, response):
            for part in request.get_media():
                response.text = sha256(part.stream.read()).hexdigest()

    app = falcon.App()
    app.req_options.default_media_type = falcon.MEDIA_MULTIPART
    app.add_route("/", Hello())
    app.add_route("/upload", Upload())
"""

FRAMEWORKS = {
    "flask": FLASK,
    "django": DJANGO,
    "bottle": BOTTLE,
    "pyramid": PYRAMID,
    "falcon": FALCON,
}

BOUNDARY = "a7f3b2"


def form(content):
    """A form with one file, as a browser sends it."""
    head = 'Content-Disposition: form-data; name="file"; filename="file.bin"\r\n'
    head += "Content-Type: application/octet-stream\r\n\r\n"
    return f"--{BOUNDARY}\r\n{head}".encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.mark.every_class("sync", "threads", "async")
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_framework_serves_a_page_and_takes_an_upload(serve, framework):
    server = serve(FRAMEWORKS[framework])
    content = bytes(range(256)) * 12_000
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    for _ in range(3):
        status, _, body = server.get("/?name=World")
        assert (status, body) == (200, b"Hello, World")
        status, _, body = server.get("/upload", "POST", form(content), headers)
        assert (status, body.decode()) == (200, hashlib.sha256(content).hexdigest())
    assert server.log.count(r" (warning|error): ") == 0
