"""A hook for every occasion."""

import logging

bind = "0.0.0.0:8000"
workers = 2
log = logging.getLogger("gunicorn.error")


def on_starting(server):
    server.log.info("starting")


def when_ready(server):
    server.log.info("ready, %s workers", server.cfg.workers)


def on_reload(server):
    server.log.info("reloading")


def pre_fork(server, worker):
    pass


def post_fork(server, worker):
    server.log.info("worker %s of age %s", worker.pid, worker.age)


def worker_int(worker):
    worker.log.info("interrupted")


def worker_abort(worker):
    worker.log.error("aborted")


def pre_request(worker, req):
    worker.log.debug("%s %s", req.method, req.path)


def post_request(worker, req, environ, resp):
    log.debug("done")


def nworkers_changed(server, new_value, old_value):
    server.log.info("%s workers", new_value)


def on_exit(server):
    server.log.info("bye")
