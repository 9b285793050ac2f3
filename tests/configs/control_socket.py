"""What newer versions want to be told."""

bind = "0.0.0.0:8000"
workers = 2
control_socket_disable = True
http_parser = "auto"
http_protocols = "h1"
reuse_port = True
sendfile = True
enable_stdio_inheritance = True
