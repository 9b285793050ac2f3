"""A pool that was opened before the fork belongs to nobody after it."""

bind = "0.0.0.0:8000"
workers = 2
preload_app = True

pools = []


def post_fork(server, worker):
    pools.clear()
    pools.append(worker.pid)
    server.log.info("opened a pool in %s", worker.pid)


def worker_exit(server, worker):
    pools.clear()
