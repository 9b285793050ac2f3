"""A pod: probes, a memory limit, a load balancer with long idle connections."""

bind = ["0.0.0.0:8000"]
workers = 2
worker_tmp_dir = "/dev/shm"
keepalive = 65
timeout = 30
graceful_timeout = 25
max_requests = 5000
max_requests_jitter = 500
forwarded_allow_ips = "*"
accesslog = None
errorlog = "-"
