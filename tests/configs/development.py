"""On somebody's own machine."""

bind = "127.0.0.1:8000"
workers = 1
reload = True
reload_extra_files = []
loglevel = "debug"
timeout = 0
accesslog = "-"
