"""Metrics of several processes: a file for each, tidied up after it."""

import os

from prometheus_client import multiprocess

bind = "0.0.0.0:8000"
workers = 2
os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", "metrics")


def on_starting(server):
    os.makedirs(os.environ["PROMETHEUS_MULTIPROC_DIR"], exist_ok=True)


def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
