"""Health checks are not worth a line: gunicorn's way of leaving them out."""

from gunicorn import glogging

bind = "0.0.0.0:8000"
workers = 2
accesslog = "-"


class QuietLogger(glogging.Logger):
    def access(self, resp, req, environ, request_time):
        if req.path != "/healthz":
            super().access(resp, req, environ, request_time)


logger_class = QuietLogger
