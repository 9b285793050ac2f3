"""A few processes, a few threads in each."""

import multiprocessing

bind = ":8000"
worker_class = "gthread"
workers = min(multiprocessing.cpu_count() * 2 + 1, 3)
threads = 4
worker_tmp_dir = "/dev/shm"
timeout = 120
