"""Tells its environ, and then spoils it."""

from routes import app, as_json, route

__all__ = ["app"]


@route
def log(environ, start_response):
    environ["wsgi.errors"].writelines(["one, ", "two: ", "h\u00e9\n"])
    environ["wsgi.errors"].flush()
    return as_json(start_response, None)


def tell(environ, start_response):
    body = environ["wsgi.input"].read().decode("latin-1")
    told = {
        "type": type(environ).__name__,
        "keys": sorted(map(str, environ)),
        "types": {key: type(value).__name__ for key, value in environ.items()},
        "plain": {k: v for k, v in environ.items() if isinstance(v, (str, bool, tuple))},
        "body": body,
    }
    for key in list(environ):
        environ[key] = "spoilt"
    environ["spoilt"] = "spoilt"
    return as_json(start_response, told)


def application(environ, start_response):
    chosen = app if environ["PATH_INFO"] == "/log" else tell
    return chosen(environ, start_response)
