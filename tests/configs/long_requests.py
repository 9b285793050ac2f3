"""Reports that take minutes."""

bind = "0.0.0.0:8000"
workers = 2
timeout = 0
graceful_timeout = 600
