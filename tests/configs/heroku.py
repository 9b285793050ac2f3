"""A platform that sets PORT and WEB_CONCURRENCY."""

import os

bind = f"0.0.0.0:{os.environ.get('PORT', '8000')}"
workers = int(os.environ.get("WEB_CONCURRENCY", 2))
accesslog = "-"
max_requests = 1200
max_requests_jitter = 100
preload_app = True
