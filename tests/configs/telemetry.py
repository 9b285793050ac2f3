"""Exporters have threads, so they start after the fork."""

import threading

bind = "0.0.0.0:8000"
workers = 2


def post_fork(server, worker):
    exporter = threading.Thread(target=export, name="exporter", daemon=True)
    exporter.start()
    exporter.join()
    server.log.info("Worker spawned (pid: %s)", worker.pid)


def export():
    """A batch of spans, if there were any."""
