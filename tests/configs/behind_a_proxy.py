"""TLS ends elsewhere."""

bind = "0.0.0.0:8000"
workers = 2
forwarded_allow_ips = "10.0.0.0/8,127.0.0.1"
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
proxy_allow_ips = "10.0.0.1"
