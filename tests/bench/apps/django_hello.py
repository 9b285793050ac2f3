"""Hello from Django, with the middleware that a site without users has."""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for a benchmark",
    MIDDLEWARE=[
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
)


def hello(request):
    return HttpResponse("Hello, world!\n")


urlpatterns = [path("", hello)]
app = get_wsgi_application()
