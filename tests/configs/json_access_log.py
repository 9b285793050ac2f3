"""A line of JSON for each request, made by hand."""

import json

bind = "0.0.0.0:8000"
workers = 2
accesslog = "-"
access_log_format = json.dumps(
    {
        "remote_ip": "%(h)s",
        "request_id": "%({X-Request-Id}i)s",
        "response_code": "%(s)s",
        "request_method": "%(m)s",
        "request_path": "%(U)s",
        "request_querystring": "%(q)s",
        "request_timetaken": "%(D)s",
        "response_length": "%(B)s",
    }
)
