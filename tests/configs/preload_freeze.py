"""Memory that the workers share stays shared."""

import gc

bind = "0.0.0.0:8000"
workers = 2
preload_app = True

gc.disable()


def when_ready(server):
    gc.freeze()


def post_fork(server, worker):
    gc.enable()
