"""A unix socket for nginx on the same machine."""

bind = "unix:gunicorn.sock"
umask = 0o007
workers = 3
pidfile = "gunicorn.pid"
errorlog = "gunicorn-error.log"
accesslog = "gunicorn-access.log"
capture_output = True
