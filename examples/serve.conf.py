"""A configuration for `serve`. Try it from this folder: `serve hello:app`.

This is ordinary Python: every setting is a variable, and the names are gunicorn's wherever
the meaning is the same. A flag on the command line wins over this file. Leave out what you
do not need; `serve --print-config` shows what came of it, and from where.
"""

# Where to listen: one address, or a list. Also "unix:/run/hello.sock" and "[::]:8000".
bind = "127.0.0.1:8000"

# Processes that run the application. Left out, it follows the CPUs this machine may use.
workers = 4

# Import the application once and fork the workers from it: quicker, and less memory.
# It must not start threads or open connections while it is imported.
preload_app = False

# Seconds. How long one request may take in a `sync` worker; in `threads` and `async`, how long
# a worker may be silent, and request_timeout is for the request ...
timeout = 30
# ... how long a stopping worker may finish what it has begun ...
graceful_timeout = 30
# ... and how long an idle connection is kept for the client's next request.
keepalive = 75

# The largest request body taken, in bytes. 0 is no limit.
max_body_size = 20 * 1024 * 1024

# "-" is stdout for the access log and stderr for the error log; else a file name.
accesslog = "-"
errorlog = "-"
loglevel = "info"  # debug, info, warning, error, critical
