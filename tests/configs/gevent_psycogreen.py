"""Greenlets, and a database driver that lets others run while it waits."""

from multiprocessing import cpu_count

from psycogreen.gevent import patch_psycopg

bind = "0.0.0.0:8000"
worker_class = "gevent"
worker_connections = 500
workers = min(cpu_count(), 2)
timeout = 60


def post_fork(server, worker):
    patch_psycopg()
    worker.log.info("psycopg is patched")
