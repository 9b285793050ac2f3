import os

bind = "0.0.0.0:8000"
workers = 2
statsd_host = os.environ.get("STATSD_HOST", "127.0.0.1") + ":8125"
statsd_prefix = "shop.web"
dogstatsd_tags = "env:production,service:shop"
