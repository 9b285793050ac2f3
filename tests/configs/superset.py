"""An analytics dashboard, tuned by its container's variables."""

import os

bind = f"{os.getenv('SUPERSET_BIND_ADDRESS', '0.0.0.0')}:{os.getenv('SUPERSET_PORT', '8088')}"
workers = int(os.getenv("SERVER_WORKER_AMOUNT", 1))
worker_class = os.getenv("SERVER_WORKER_CLASS", "gthread")
threads = int(os.getenv("SERVER_THREADS_AMOUNT", 20))
loglevel = os.getenv("GUNICORN_LOGLEVEL", "info")
timeout = int(os.getenv("GUNICORN_TIMEOUT", 60))
keepalive = int(os.getenv("GUNICORN_KEEPALIVE", 2))
max_requests = int(os.getenv("WORKER_MAX_REQUESTS", 0))
max_requests_jitter = int(os.getenv("WORKER_MAX_REQUESTS_JITTER", 0))
limit_request_line = int(os.getenv("SERVER_LIMIT_REQUEST_LINE", 0))
limit_request_field_size = int(os.getenv("SERVER_LIMIT_REQUEST_FIELD_SIZE", 0))
