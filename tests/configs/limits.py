bind = "0.0.0.0:8000"
workers = 2
backlog = 512
limit_request_line = 8190
limit_request_fields = 200
limit_request_field_size = 16380
