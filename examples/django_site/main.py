"""A whole Django project in one file.

Serve it with `serve main:application` from this folder, or from anywhere with
`--chdir`. A real project has these parts in files of their own: settings.py,
views.py, urls.py, wsgi.py. The server treats both the same.
"""

import hashlib
import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

UPLOAD_CHUNK = 64 * 1024  # bytes

# --- settings.py

settings.configure(
    DEBUG=False,
    ALLOWED_HOSTS=["*"],  # a demonstration answers to any name; list your own
    ROOT_URLCONF=__name__,
    # Every worker process must have the same key, so never make a random one here.
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "only-for-this-demonstration"),
    MIDDLEWARE=[
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    # Without DEBUG Django mails its errors; here they go to stderr, where the server's go.
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"stderr": {"class": "logging.StreamHandler"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
    },
)

# --- views.py

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hello from Django</title>
<h1>Hello from Django</h1>
<form method="post" action="form">
  <label>Your name <input name="name" value="Django"></label>
  <button>Send</button>
</form>
<p><a href="echo">echo</a> <a href="stream">stream</a></p>
</html>
"""

ECHOED = [
    "REQUEST_METHOD",
    "SCRIPT_NAME",
    "PATH_INFO",
    "QUERY_STRING",
    "CONTENT_TYPE",
    "CONTENT_LENGTH",
    "SERVER_NAME",
    "SERVER_PORT",
    "SERVER_PROTOCOL",
    "SERVER_SOFTWARE",
    "REMOTE_ADDR",
    "HTTP_HOST",
    "HTTP_USER_AGENT",
    "wsgi.url_scheme",
    "wsgi.multithread",
    "wsgi.multiprocess",
]


@require_GET
def index(request):
    return HttpResponse(PAGE)


@csrf_exempt  # so that `curl -d name=you` works; a real form keeps its token
@require_POST
def form(request):
    """The fields of a form, as JSON: each name with the list of its values."""
    return JsonResponse(dict(request.POST.lists()))


@csrf_exempt
@require_POST
def upload(request):
    """Count and hash the body piece by piece, so that its size does not matter."""
    size, sha256 = 0, hashlib.sha256()
    while chunk := request.read(UPLOAD_CHUNK):
        size += len(chunk)
        sha256.update(chunk)
    return JsonResponse({"bytes": size, "sha256": sha256.hexdigest()})


@require_GET
def stream(request):
    lines = (f"line {n} of 10\n" for n in range(1, 11))
    return StreamingHttpResponse(lines, content_type="text/plain; charset=utf-8")


@csrf_exempt
def echo(request):
    """What the server said about this request; null where it said nothing."""
    return JsonResponse({name: request.META.get(name) for name in ECHOED})


# --- urls.py

urlpatterns = [
    path("", index),
    path("form", form),
    path("upload", upload),
    path("stream", stream),
    path("echo", echo),
]

# --- wsgi.py

application = get_wsgi_application()
