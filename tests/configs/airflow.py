"""A scheduler's web server: recycles its workers, names its processes."""

import os

workers = 4
worker_class = "sync"
timeout = 120
graceful_timeout = 60
proc_name = "webserver [ready]"
bind = "0.0.0.0:8080"
accesslog = os.environ.get("WEBSERVER_ACCESS_LOG", "-")
errorlog = os.environ.get("WEBSERVER_ERROR_LOG", "-")
access_log_format = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'


def post_worker_init(worker):
    worker.log.info("worker %s serves", worker.pid)
