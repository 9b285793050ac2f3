"""As many workers as the machine has cores for, within what the variables allow."""

import json
import multiprocessing
import os

workers_per_core_str = os.getenv("WORKERS_PER_CORE", "1")
max_workers_str = os.getenv("MAX_WORKERS", "4")
use_max_workers = int(max_workers_str) if max_workers_str else None
host = os.getenv("HOST", "0.0.0.0")
port = os.getenv("SHOP_PORT", "80")
bind_env = os.getenv("BIND", None)
use_loglevel = os.getenv("LOG_LEVEL", "info")
use_bind = bind_env or f"{host}:{port}"

cores = multiprocessing.cpu_count()
default_web_concurrency = float(workers_per_core_str) * cores
web_concurrency = max(int(default_web_concurrency), 2)
if use_max_workers:
    web_concurrency = min(web_concurrency, use_max_workers)
accesslog_var = os.getenv("ACCESS_LOG", "-")
use_accesslog = accesslog_var or None
graceful_timeout_str = os.getenv("GRACEFUL_TIMEOUT", "120")
timeout_str = os.getenv("TIMEOUT", "120")
keepalive_str = os.getenv("KEEP_ALIVE", "5")

loglevel = use_loglevel
workers = web_concurrency
bind = use_bind
worker_tmp_dir = "/dev/shm"
accesslog = use_accesslog
graceful_timeout = int(graceful_timeout_str)
timeout = int(timeout_str)
keepalive = int(keepalive_str)

log_data = {"loglevel": loglevel, "workers": workers, "bind": bind}
print(json.dumps(log_data))
